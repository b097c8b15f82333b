"""Maximum mean discrepancy with the cubic polynomial kernel, unbiased, in blocks: no kernel matrix is held.

With the kernel ``k(x, y) = (x . y / d + 1)^3`` and samples X (n) and Y (m) the U-statistic (Gretton et al., A kernel
two-sample test, JMLR 2012, equation 3; as a score of generators: Binkowski et al., Demystifying MMD GANs, ICLR 2018) is

    sum_{i != j} k(x_i, x_j) / n (n - 1) + sum_{i != j} k(y_i, y_j) / m (m - 1) - 2 sum_{i, j} k(x_i, y_j) / n m.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hseval.utils.errors import HsevalError

Array = NDArray[np.float64]

DEGREE, OFFSET = 3, 1.0
BLOCK = 1024  # rows of a kernel block


class MmdTerms(NamedTuple):
    """Mean kernel values: of pairs of real rows, of pairs of fake rows, and across."""

    real: float
    fake: float
    across: float

    @property
    def squared(self) -> float:
        """The unbiased estimate of the squared discrepancy; it may lie below 0."""
        return self.real + self.fake - 2 * self.across


def polynomial_mmd(*, real: NDArray[Any], fake: NDArray[Any]) -> MmdTerms:
    """Return the terms of the unbiased squared discrepancy of features ``(n, d)`` and ``(m, d)``, n and m >= 2.

    Raises:
        HsevalError: another shape, fewer than two rows, or a value that is not finite.
    """
    a, b = _checked(real, "real"), _checked(fake, "fake")
    if a.shape[1] != b.shape[1]:
        raise HsevalError(f"real has {a.shape[1]} features a row, fake has {b.shape[1]}: they do not compare")
    return MmdTerms(_mean_within(a), _mean_within(b), _sum(a, b) / (len(a) * len(b)))


def _mean_within(rows: Array) -> float:
    """Return the mean kernel value over pairs of different rows."""
    own = (np.einsum("nd,nd->n", rows, rows) / rows.shape[1] + OFFSET) ** DEGREE
    return (_sum(rows, rows) - float(own.sum())) / (len(rows) * (len(rows) - 1))


def _sum(a: Array, b: Array) -> float:
    blocks = (a[i : i + BLOCK] @ b[j : j + BLOCK].T for i in range(0, len(a), BLOCK) for j in range(0, len(b), BLOCK))
    return sum(float(((product / a.shape[1] + OFFSET) ** DEGREE).sum()) for product in blocks)


def _checked(features: NDArray[Any], name: str) -> Array:
    rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] == 0 or len(rows) < 2:
        raise HsevalError(f"{name}: features of shape {rows.shape}, expected at least 2 rows of features")
    if not np.isfinite(rows).all():
        raise HsevalError(f"{name}: features with NaN or Inf, expected finite ones")
    return rows
