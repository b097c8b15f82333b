"""Squared Frechet distance of two Gaussians, computed from the samples that they are fitted to.

The distance (Dowson and Landau, 1982; as a score of generators: Heusel et al., 2017) is

    |m_a - m_b|^2 + tr S_a + tr S_b - 2 tr sqrt(S_a S_b).

No matrix square root is formed. With centered samples A and B scaled so that ``S_a = A^T A`` and
``S_b = B^T B``, the last trace is the sum of the singular values of ``A B^T``: real, never negative, and
backward stable whatever the rank. With many samples a symmetric eigenproblem of the covariances gives the
same sum several times faster; its rounding error is bounded, and its result is used only where the bound is small.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hseval.utils.arrays import Array, Float64Array
from hseval.utils.errors import HsevalError
from hseval.utils.plural import format_count

TOLERANCE = 1e-8  # largest error of the eigenproblem, relative to the mean trace of the two covariances


class FrechetTerms(NamedTuple):
    """The two terms of a squared Frechet distance, neither below 0."""

    mean: float
    covariance: float

    @property
    def distance(self) -> float:
        """The squared Frechet distance."""
        return self.mean + self.covariance


def frechet_distance(*, real: Array, generated: Array) -> float:
    """Return the squared Frechet distance of Gaussians fitted to two sets of features.

    Args:
        real: features ``(n, d)`` of one set, n >= 2.
        generated: features ``(m, d)`` of the other, m >= 2.

    Raises:
        HsevalError: a wrong shape, fewer than two feature vectors, or a value that is not finite.
    """
    return frechet_terms(real=real, generated=generated).distance


def frechet_terms(*, real: Array, generated: Array) -> FrechetTerms:
    """Return the mean and covariance terms of :func:`frechet_distance`; same arguments and errors."""
    mean_a, a = _fit_gaussian(real, "real")
    mean_b, b = _fit_gaussian(generated, "generated")
    if a.shape[1] != b.shape[1]:
        raise HsevalError(
            f"real has {a.shape[1]} features per cube, generated has {b.shape[1]}: expected the same number"
        )
    difference = mean_a - mean_b
    traces = float(np.vdot(a, a) + np.vdot(b, b))
    covariance = traces - 2 * trace_sqrt_product(a, b)
    return FrechetTerms(float(difference @ difference), max(covariance, 0.0))


def trace_sqrt_product(a: Float64Array, b: Float64Array) -> float:
    """Return ``tr sqrt(A^T A B^T B)``, the sum of the singular values of ``A B^T``.

    Args:
        a: ``(n, d)``, such that ``A^T A`` is a covariance.
        b: ``(m, d)``, likewise.
    """
    if min(len(a), len(b)) <= a.shape[1]:  # the rank of n centered rows is below n: singular
        return _nuclear_norm(a @ b.T)
    trace = _trace_sqrt_by_eigenvalues(a.T @ a, b.T @ b)
    return _nuclear_norm(_compute_triangular_factor(a) @ _compute_triangular_factor(b).T) if trace is None else trace


def _trace_sqrt_by_eigenvalues(s_a: Float64Array, s_b: Float64Array) -> float | None:
    """Return ``tr sqrt(S_a S_b)`` from the eigenvalues of ``L^T S_b L``, ``S_a = L L^T``; None if imprecise.

    Rounding changes each eigenvalue by no more than about ``e = eps |S_a| |S_b|``, hence its root by
    ``e / 2 sqrt(max(eigenvalue, e))``; these errors are independent, so they add up in quadrature. (Measured on
    features with steep spectra, the error is a thousandth of this estimate or less.) Singular covariances, whose
    roots are all rounding, are left to the caller.
    """
    try:
        lower = np.linalg.cholesky(s_a)
    except np.linalg.LinAlgError:
        return None
    eigenvalues = np.linalg.eigvalsh(lower.T @ s_b @ lower)
    eigenvalue_error = np.finfo(np.float64).eps * np.linalg.norm(s_a) * np.linalg.norm(s_b)
    error = eigenvalue_error / 2 * np.sqrt(np.sum(1 / np.maximum(eigenvalues, eigenvalue_error)))
    if error > TOLERANCE * (np.trace(s_a) + np.trace(s_b)) / 2:
        return None
    return float(np.sqrt(np.maximum(eigenvalues, 0.0)).sum())


def _nuclear_norm(matrix: Float64Array) -> float:
    return float(np.linalg.svd(matrix, compute_uv=False).sum())


def _compute_triangular_factor(factor: Float64Array) -> Float64Array:
    """Return R with ``R^T R = F^T F``, without squaring the condition number."""
    return np.asarray(np.linalg.qr(factor, mode="r"))


def _fit_gaussian(features: Array, name: str) -> tuple[Float64Array, Float64Array]:
    """Return the mean ``(d,)``, and the centered features over sqrt(n - 1): ``F^T F`` is their covariance.

    Features are centered in float64 before any product: float32 features far from the origin would cancel otherwise.
    """
    factor = np.array(features, dtype=np.float64)  # a copy, to work on in place
    if factor.ndim != 2 or factor.shape[1] == 0:
        raise HsevalError(f"{name}: features of shape {factor.shape}, expected (cubes, features)")
    if len(factor) < 2:
        raise HsevalError(f"{name}: {format_count(len(factor), 'feature vector')}, a covariance needs at least 2")
    mean = factor.mean(axis=0)
    if not np.isfinite(mean).all():
        bad = int((~np.isfinite(factor).all(axis=1)).sum())
        raise HsevalError(f"{name}: {bad} of {len(factor)} feature vectors are not finite")
    factor -= mean
    factor /= np.sqrt(len(factor) - 1)
    return mean, factor
