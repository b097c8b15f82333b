"""Divergences between distributions of pixel values, from histograms and from Gaussians, in nats."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hseval.utils.arrays import Array, Float64Array, IntArray


def quantile_edges(atoms: Array, bins: int) -> Array:
    """Return the ``bins - 1`` interior edges that divide equally weighted atoms into ``bins`` equal parts.

    Edge j is the smallest atom that at least a share ``j / bins`` of the atoms does not exceed. Discrete data
    give edges that coincide; :func:`count_per_bin` defines the counts of the bins between them.

    Args:
        atoms: ``(..., m)``, at least one, finite.
        bins: number of parts.

    Returns:
        ``(..., bins - 1)``, ascending, of the atoms' type: edges are atoms.
    """
    count = atoms.shape[-1]
    ranks = -(-np.arange(1, bins) * count // bins) - 1
    return np.sort(atoms, axis=-1)[..., ranks]


def count_per_bin(values: Array, edges: Array) -> IntArray:
    """Count each row's values in the bins ``(-inf, e_1], (e_1, e_2], ..., (e_last, inf)``.

    The end bins are open, so no value is dropped. A value equal to an edge counts below it: of the bins between
    edges that coincide all but the first are empty, for real and generated values alike.

    Args:
        values: ``(n, m)``, finite.
        edges: ``(bins - 1,)`` ascending.

    Returns:
        ``(n, bins)``.
    """
    rows, bins = len(values), len(edges) + 1
    bin_index = np.searchsorted(edges, values, side="left")
    bin_index += np.arange(rows)[:, None] * bins
    return np.bincount(bin_index.ravel(), minlength=rows * bins).reshape(rows, bins)


def smooth_frequencies(frequencies: Float64Array, total_count: float) -> Float64Array:
    """Return probabilities with half a count added to each bin of a histogram of ``total_count`` counts.

    Half a count is the Jeffreys prior of a multinomial; both sides of a comparison get the same ``total_count``.

    Args:
        frequencies: relative frequencies ``(..., bins)``.
        total_count: number of counts behind the frequencies.
    """
    return np.asarray((frequencies * total_count + 0.5) / (total_count + 0.5 * frequencies.shape[-1]))


def kl_divergence(p: Float64Array, q: Float64Array) -> Float64Array:
    """Return ``sum p ln(p / q)`` over the last axis; ``q`` positive, bins with ``p = 0`` add nothing."""
    # Kullback and Leibler 1951, equation 2.4.
    ratio = np.divide(p, q, out=np.ones_like(p), where=p > 0)
    return np.asarray(np.sum(p * np.log(ratio), axis=-1))


def jensen_shannon(p: Float64Array, q: Float64Array) -> Float64Array:
    """Return the Jensen-Shannon divergence over the last axis, between 0 and ln 2 (Lin 1991, equation 4.1)."""
    middle = (p + q) / 2
    return (kl_divergence(p, middle) + kl_divergence(q, middle)) / 2


def gaussian_kl(mean_p: Float64Array, cov_p: Float64Array, mean_q: Float64Array, cov_q: Float64Array) -> float:
    """Return KL(P || Q) of two Gaussians.

    ``(tr(Q^-1 P) - d + (mq - mp)^T Q^-1 (mq - mp) + ln(det Q / det P)) / 2``
    (Kullback, Information Theory and Statistics, 1959, chapter 9, equation 1.2).

    Args:
        mean_p: ``(d,)`` mean of P.
        cov_p: ``(d, d)`` covariance of P, symmetric.
        mean_q: ``(d,)`` mean of Q.
        cov_q: ``(d, d)`` covariance of Q, symmetric.

    Returns:
        nats; NaN where a covariance is not positive definite.
    """
    try:
        root_p, root_q = np.linalg.cholesky(cov_p), np.linalg.cholesky(cov_q)
    except np.linalg.LinAlgError:
        return float("nan")
    whitened_root = np.linalg.solve(root_q, root_p)
    whitened_shift = np.linalg.solve(root_q, mean_q - mean_p)
    logdet = 2 * (np.log(np.diag(root_q)).sum() - np.log(np.diag(root_p)).sum())
    return float((np.sum(whitened_root**2) - len(mean_p) + whitened_shift @ whitened_shift + logdet) / 2)


def pool_gaussians(means: Float64Array, covs: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return the mean and covariance of a mixture of equally weighted cubes (law of total covariance).

    Args:
        means: ``(n, d)`` each cube's mean.
        covs: ``(n, d (d + 1) / 2)`` upper triangle of each cube's covariance, row by row.

    Returns:
        ``(d,)`` and ``(d, d)``: the mean covariance within cubes plus the covariance (divisor n) between them.
    """
    n_features = means.shape[1]
    within = np.zeros((n_features, n_features))
    within[np.triu_indices(n_features)] = covs.mean(axis=0, dtype=np.float64)
    within += np.triu(within, 1).T
    mean = means.mean(axis=0, dtype=np.float64)
    deviations = means - mean
    return mean, within + deviations.T @ deviations / len(means)
