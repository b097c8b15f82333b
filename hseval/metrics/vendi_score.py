"""Vendi score: the effective number of different feature vectors, from the eigenvalues of their similarities.

Friedman and Dieng, The Vendi score, TMLR 2023: with a positive semidefinite kernel of ``k(x, x) = 1`` and K its
matrix of n vectors, the score is the exponential of the entropy of the eigenvalues of ``K / n``.
"""

from __future__ import annotations

import numpy as np

from hseval.utils.arrays import Array, Float64Array
from hseval.utils.errors import HsevalError


def vendi_score(similarity: Array) -> float:
    """Return the effective number of different vectors, 1 to n, of a similarity matrix ``(n, n)``.

    Raises:
        HsevalError: it is not square, not finite, or its diagonal is not 1.
    """
    matrix = np.asarray(similarity, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
        raise HsevalError(f"similarities of shape {matrix.shape}, expected (n, n) with n >= 1")
    if not np.isfinite(matrix).all() or not np.allclose(np.diag(matrix), 1.0):
        raise HsevalError("similarities: expected finite values with 1 on the diagonal")
    shares = np.linalg.eigvalsh(matrix) / len(matrix)
    shares = shares[shares > 1e-15]  # x log x tends to 0 at 0, and smaller eigenvalues are rounding
    return float(np.exp(-(shares * np.log(shares)).sum()))


def gaussian_kernel(features: Array, length_scale: float) -> Float64Array:
    """Return similarities ``exp(-|x - y|^2 / length_scale^2)`` of rows ``(n, d)``."""
    centered = np.asarray(features, dtype=np.float64) - np.mean(features, axis=0, dtype=np.float64)
    products = centered @ centered.T
    squared_norms = np.diag(products)
    squared = np.maximum(squared_norms[:, None] + squared_norms - 2 * products, 0.0)
    np.fill_diagonal(squared, 0.0)
    return np.asarray(np.exp(-squared / length_scale**2))


def cosine_similarity(features: Array) -> Float64Array:
    """Return cosines of rows ``(n, d)``; a row of zeros is similar to itself alone.

    Friedman and Dieng use the cosine for image features.
    """
    features = np.asarray(features, dtype=np.float64)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    units = np.divide(features, norms, out=np.zeros_like(features), where=norms > 0)
    similarity: Float64Array = units @ units.T
    np.fill_diagonal(similarity, 1.0)
    return similarity


def compute_rms_distance(features: Array) -> float:
    """Return the root mean squared distance of two different rows of ``(n, d)``, n >= 2."""
    return float(np.sqrt(2 * np.var(features, axis=0, ddof=1, dtype=np.float64).sum()))
