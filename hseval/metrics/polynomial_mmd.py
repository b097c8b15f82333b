"""Unbiased maximum mean discrepancy with the cubic polynomial kernel, in blocks: no kernel matrix is stored.

With the kernel ``k(x, y) = (x . y / d + 1)^3`` and samples X (n) and Y (m) the U-statistic (Gretton et al., A kernel
two-sample test, JMLR 2012, equation 3; as a score of generators: Binkowski et al., Demystifying MMD GANs, ICLR 2018) is

    sum_{i != j} k(x_i, x_j) / n (n - 1) + sum_{i != j} k(y_i, y_j) / m (m - 1) - 2 sum_{i, j} k(x_i, y_j) / n m.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hseval.utils.arrays import Array, Float64Array
from hseval.utils.errors import HsevalError

DEGREE, OFFSET = 3, 1.0
BLOCK_ROWS = 1024  # rows of a kernel block


class MmdTerms(NamedTuple):
    """Mean kernel values: of pairs within the real set, of pairs within the generated set, and across."""

    real: float
    generated: float
    across: float

    @property
    def squared_mmd(self) -> float:
        """The unbiased estimate of the squared discrepancy; it may lie below 0."""
        return self.real + self.generated - 2 * self.across


def polynomial_mmd(*, real: Array, generated: Array) -> MmdTerms:
    """Return the terms of the unbiased squared discrepancy of features ``(n, d)`` and ``(m, d)``, n and m >= 2.

    Raises:
        HsevalError: a wrong shape, fewer than two feature vectors, or a value that is not finite.
    """
    a, b = _check_features(real, "real"), _check_features(generated, "generated")
    if a.shape[1] != b.shape[1]:
        raise HsevalError(
            f"real has {a.shape[1]} features per cube, generated has {b.shape[1]}: expected the same number"
        )
    return MmdTerms(_average_kernel_within(a), _average_kernel_within(b), _sum_kernel(a, b) / (len(a) * len(b)))


def _average_kernel_within(features: Float64Array) -> float:
    """Return the mean kernel value over pairs of different rows."""
    diagonal = (np.einsum("nd,nd->n", features, features) / features.shape[1] + OFFSET) ** DEGREE
    return (_sum_kernel(features, features) - float(diagonal.sum())) / (len(features) * (len(features) - 1))


def _sum_kernel(a: Float64Array, b: Float64Array) -> float:
    blocks = (
        a[i : i + BLOCK_ROWS] @ b[j : j + BLOCK_ROWS].T
        for i in range(0, len(a), BLOCK_ROWS)
        for j in range(0, len(b), BLOCK_ROWS)
    )
    return sum(float(((product / a.shape[1] + OFFSET) ** DEGREE).sum()) for product in blocks)


def _check_features(features: Array, name: str) -> Float64Array:
    matrix = np.asarray(features, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[1] == 0 or len(matrix) < 2:
        raise HsevalError(f"{name}: features of shape {matrix.shape}, expected (cubes, features) of at least 2 cubes")
    if not np.isfinite(matrix).all():
        raise HsevalError(f"{name}: features with NaN or Inf, expected finite ones")
    return matrix
