"""Distances to the k-th nearest other row of the same set, from half of the products that a search takes.

The distance of two rows is that of the other way round, so each block of products serves the rows on both of its
sides. Every eighth row bounds each row's radius from above; pairs that float32 products put below the bound, a few
dozens a row, are kept, and float64 differences decide among those that float32 can't tell from the k-th.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hseval.metrics.products import block_threads, left_factor, right_factor, slack_of, squared_between
from hseval.neighbors import Neighbors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Singles = NDArray[np.float32]

FROM = 2000  # rows below which a search is as fast
BLOCK = 1024  # rows on either side of a block of products
EVERY = 8  # a bound comes from one row in so many
FOLDED = 3  # times that a block is folded, the smaller of two kept, before its k-th smallest is looked for
ROOM = 4  # times k: fewer columns than that after folding bound poorly
MOST = 4  # times more pairs than the bounds let expect: rows are repeated, and a search is better


class Pairs(NamedTuple):
    """Rows ``row`` and ``other``, and their squared distance in float32, ``(p,)`` each."""

    row: NDArray[np.int64]
    other: NDArray[np.int64]
    squared: Singles


def radii(rows: NDArray[Any], k: int) -> Floats:
    """Return each row's distance ``(n,)`` to its k-th nearest other row, exact in float64, for rows ``(n, d)``.

    Raises:
        HsevalError: NaN or Inf, or no more than ``k`` rows.
    """
    many = len(rows) >= max(FROM, (ROOM * k * EVERY) << FOLDED)
    found = _by_products(rows, k) if many and np.isfinite(rows.sum(dtype=np.float64)) else None
    return Neighbors(rows).kth(rows, k, exclude=np.arange(len(rows))) if found is None else found


def _by_products(rows: NDArray[Any], k: int) -> Floats | None:
    """Return the radii, or None where more pairs than memory should hold lie below the bounds."""
    left = left_factor(rows, rows.mean(axis=0, dtype=np.float64))
    slack = slack_of(left, left)
    starts = range(0, len(rows), BLOCK)
    with block_threads() as pool:
        rough = np.concatenate(list(pool.map(partial(_bounds, left, right_factor(left[::EVERY]), k), starts)))
        bounds = (rough + 3 * slack).astype(np.float32)
        kept: list[Pairs] = []
        for pairs in pool.map(partial(_kept, left, bounds), [(i, j) for i in starts for j in starts if i <= j]):
            kept += pairs
            if sum(len(each.row) for each in kept) > MOST * EVERY * k * len(rows):
                pool.shutdown(cancel_futures=True)
                return None
    return _decided(rows, Pairs(*(np.concatenate(each) for each in zip(*kept, strict=True))), slack, k)


def _bounds(left: Singles, right: Singles, k: int, start: int) -> Singles:
    """Return squared distances that at least k other rows do not exceed, for a block of rows."""
    squared = left[start : start + BLOCK] @ right.T
    own = np.arange(-(-start // EVERY) * EVERY, start + len(squared), EVERY)
    squared[own - start, own // EVERY] = np.inf
    for _ in range(FOLDED):
        half = squared.shape[1] // 2
        squared = np.minimum(squared[:, :half], squared[:, half : 2 * half])
    return np.asarray(np.partition(squared, k - 1, axis=1)[:, k - 1])


def _kept(left: Singles, bounds: Singles, at: tuple[int, int]) -> Sequence[Pairs]:
    """Return the pairs of two blocks of rows that lie below the bound of the one, and those below that of the other."""
    i, j = at
    squared = left[i : i + BLOCK] @ right_factor(left[j : j + BLOCK]).T
    if i == j:
        np.fill_diagonal(squared, np.inf)
    one = _below(squared, bounds[i : i + BLOCK, None], i, j)
    if i == j:
        return (one,)
    row, other, near = _below(squared, bounds[j : j + BLOCK], i, j)
    return one, Pairs(other, row, near)


def _below(squared: Singles, bounds: Singles, i: int, j: int) -> Pairs:
    place = np.flatnonzero(squared <= bounds)
    row, other = np.divmod(place, squared.shape[1])
    return Pairs(row + i, other + j, squared.ravel()[place])


def _decided(rows: NDArray[Any], kept: Pairs, slack: Floats, k: int) -> Floats:
    """Return the radii from all pairs that matter.

    With r the k-th smallest in float32 and e its rounding, what lies below r - 2 e is nearer than the k-th, what lies
    above r + 2 e is farther, and what lies between is compared in float64.
    """
    # Sorted by row, then by distance: bits of floats that are not negative sort as they do.
    key = kept.row.astype(np.uint64) << np.uint64(32) | np.maximum(kept.squared, 0).view(np.uint32)
    order = np.argsort(key)
    row, other, squared = kept.row[order], kept.other[order], kept.squared[order].astype(np.float64)
    first = np.searchsorted(row, np.arange(len(rows)))
    gap = squared - squared[first + k - 1][row]
    nearer = np.bincount(row[gap < -2 * slack[row]], minlength=len(rows))
    unsure = np.abs(gap) <= 2 * slack[row]
    row, exact = row[unsure], squared_between(rows, rows, row[unsure], other[unsure])
    exact = exact[np.lexsort((exact, row))]
    found: Floats = np.sqrt(exact[np.searchsorted(row, np.arange(len(rows))) + k - 1 - nearer])
    return found
