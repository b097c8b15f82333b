"""Distances to the k-th nearest other row of the same set, from half of the products that a search takes.

The distance of two rows is that of the other way round, so each block of products serves the rows on both of its
sides. A search among every eighth row bounds each row's radius from above; products that lie below the bound, a few
dozens a row, are kept, and float64 differences decide among those that float32 can't tell from the k-th.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hseval.neighbors import Neighbors, rounding_bound

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FROM = 2000  # rows below which a search is as fast
BLOCK = 1024  # rows on either side of a block of products
EVERY = 8  # a bound comes from one row in so many
MOST = 16  # times more products kept than the bound lets expect: rows are repeated, and a search is better
CHECKED = 4096  # pairs that are compared in float64 at a time
AT_A_TIME = 2  # threads: one multiplies while the other one compares


class _Kept(NamedTuple):
    """Pairs: rows ``row`` and ``other`` and their squared distance in float32, ``(p,)`` each."""

    row: NDArray[np.int64]
    other: NDArray[np.int64]
    squared: NDArray[np.float32]


def radii(rows: NDArray[Any], k: int) -> Floats:
    """Return each row's distance ``(n,)`` to its k-th nearest other row, exact in float64, for rows ``(n, d)``.

    Raises:
        HsevalError: NaN or Inf, or no more than ``k`` rows.
    """
    found = _by_products(rows, k) if len(rows) >= FROM else None
    if found is None:
        found = Neighbors(rows).nearest(rows, k=k, exclude=np.arange(len(rows)))[0][:, -1]
    return np.ascontiguousarray(found)


def _by_products(rows: NDArray[Any], k: int) -> Floats | None:
    """Return the radii, or None where more than memory should hold lie below the bounds."""
    centred = (rows - rows.mean(axis=0, dtype=np.float64)).astype(np.float32)
    size = np.einsum("nd,nd->n", centred, centred, dtype=np.float64)
    slack = 2 * rounding_bound(np.sqrt(size), float(np.sqrt(size.max())), centred.shape[1])
    bound = (_bounds(centred, k) ** 2 + 3 * slack).astype(np.float32)
    ones, sizes = np.ones((len(rows), 1), np.float32), size[:, None].astype(np.float32)
    left, right = np.concatenate([centred, ones, sizes], axis=1), np.concatenate([-2 * centred, sizes, ones], axis=1)
    starts = range(0, len(rows), BLOCK)
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        parts = pool.map(lambda at: list(_kept(left, right, bound, *at)), [(i, j) for i in starts for j in starts if i <= j])
        kept, count = [], 0
        for part in parts:
            kept += part
            count += sum(len(each.row) for each in part)
            if count > MOST * EVERY * k * len(rows):
                pool.shutdown(cancel_futures=True)
                return None
    return _decided(rows, _Kept(*(np.concatenate(each) for each in zip(*kept, strict=True))), slack, k)


def _bounds(centred: NDArray[np.float32], k: int) -> Floats:
    """Return distances that at least k other rows do not exceed."""
    few = np.arange(0, len(centred), EVERY)
    own = np.full(len(centred), -1)
    own[few] = np.arange(len(few))
    return Neighbors(centred[few]).nearest(centred, k=k, exclude=own)[0][:, -1]


def _kept(
    left: NDArray[np.float32], right: NDArray[np.float32], bound: NDArray[np.float32], i: int, j: int
) -> Iterator[_Kept]:
    """Yield the pairs of two blocks of rows that lie below the bound of the one, then of the other."""
    squared = left[i : i + BLOCK] @ right[j : j + BLOCK].T
    if i == j:
        np.fill_diagonal(squared, np.inf)
    yield _below(squared, bound[i : i + BLOCK, None], i, j)
    if i != j:
        found = _below(squared, bound[j : j + BLOCK], i, j)
        yield _Kept(found.other, found.row, found.squared)


def _below(squared: NDArray[np.float32], bound: NDArray[np.float32], i: int, j: int) -> _Kept:
    place = np.flatnonzero(squared <= bound)
    row, other = np.divmod(place, squared.shape[1])
    return _Kept(row + i, other + j, squared.ravel()[place])


def _decided(rows: NDArray[Any], kept: _Kept, slack: Floats, k: int) -> Floats:
    """Return the radii from all pairs that matter.

    With r the k-th smallest in float32 and e its rounding, what lies below r - 2 e is nearer than the k-th, what lies
    above r + 2 e is not the k-th, and what lies between is compared in float64.
    """
    order = np.lexsort((kept.squared, kept.row))
    row, other, squared = (each[order] for each in kept)
    start = np.searchsorted(row, np.arange(len(rows)))
    gap = squared - squared[start + k - 1][row].astype(np.float64)
    surely = np.bincount(row[gap < -2 * slack[row]], minlength=len(rows))
    doubtful = np.abs(gap) <= 2 * slack[row]
    row, other = row[doubtful], other[doubtful]
    exact = _squared(rows, row, other)
    exact = exact[np.lexsort((exact, row))]
    return np.sqrt(exact[np.searchsorted(row, np.arange(len(rows))) + k - 1 - surely])


def _squared(rows: NDArray[Any], i: NDArray[np.int64], j: NDArray[np.int64]) -> Floats:
    found = np.empty(len(i))
    for start in range(0, len(i), CHECKED):
        part = slice(start, start + CHECKED)
        difference = rows[i[part]].astype(np.float64) - rows[j[part]]
        found[part] = np.einsum("nd,nd->n", difference, difference)
    return found
