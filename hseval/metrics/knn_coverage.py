"""Precision, recall, density and coverage: which balls around real rows hold samples, and the other way round.

A ball of row i has the distance to its k-th nearest other row of its own set as radius. Which balls hold which rows
is found block by block, by float32 products where these are sure and by float64 differences where rounding could
decide. No matrix of all pairs is held.
"""

from __future__ import annotations

import contextlib
import functools
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hseval.utils.errors import HsevalError
from hseval.utils.nearest_neighbors import Neighbors, rounding_bound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Singles = NDArray[np.float32]
    Places = NDArray[np.int64]
    from collections.abc import Sequence

CHECKED = 4096  # pairs that are compared in float64 at a time
THREADS = 8  # at most: each holds a block


def left_factor(rows: NDArray[Any], centre: Floats) -> Singles:
    """Return ``(x, 1, |x|^2)`` for each row x of ``(n, d)`` less ``centre`` ``(d,)``: float32 ``(n, d + 2)``."""
    left = np.empty((len(rows), rows.shape[1] + 2), dtype=np.float32)
    left[:, :-2] = rows - centre
    left[:, -2] = 1
    left[:, -1] = np.einsum("nd,nd->n", left[:, :-2], left[:, :-2], dtype=np.float64)
    return left


def right_factor(left: Singles) -> Singles:
    """Return ``(-2 y, |y|^2, 1)`` for rows ``(y, 1, |y|^2)``: ``left @ right.T`` are squared distances."""
    right = left * np.float32(-2)
    right[:, -2:] = left[:, :-3:-1]
    return right


def slack_of(left: Singles, others: Singles) -> Floats:
    """Return how far, for each row ``(n,)``, the product and a threshold in float32 can be off together.

    Twice the product's bound: what rounding a threshold adds is no more than that, unless the threshold is larger
    than any of the row's distances, and then it decides nothing.
    """
    sizes = left[:, -1].astype(np.float64)
    return 2 * rounding_bound(np.sqrt(sizes), float(np.sqrt(others[:, -1].max())), left.shape[1])


def squared_between(a: NDArray[Any], b: NDArray[Any], i: Places, j: Places) -> Floats:
    """Return squared distances ``(p,)`` of rows ``a[i]`` and ``b[j]`` in float64, by differences: a tie is a tie."""
    found = np.empty(len(i))
    for start in range(0, len(i), CHECKED):
        part = slice(start, start + CHECKED)
        difference = b[j[part]].astype(np.float64, copy=False) - a[i[part]]
        found[part] = np.einsum("nd,nd->n", difference, difference)
    return found


@contextlib.contextmanager
def block_threads() -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of threads, one a core, for blocks of products.

    BLAS gets one thread meanwhile: its own would share each block, wait for one another at its end, and idle while it
    is compared.
    """
    with _libraries().limit(limits=1, user_api="blas"), ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        yield pool


@functools.cache
def _libraries() -> Any:
    import threadpoolctl

    return threadpoolctl.ThreadpoolController()


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


BLOCK_BYTES = 32 << 20  # of a block of products: many rows at once, or packing the other side costs more than they do
STRIP = 128  # rows of a strip of it, which stays in the processor's cache


class Prdc(NamedTuple):
    """The four numbers; only density may exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float


class Held(NamedTuple):
    """Which rows lie strictly inside which balls.

    ``fake_in_real`` (m,): in how many real rows' balls each fake row lies; ``real_in_fake`` (n,): whether a real row
    lies in any fake row's ball; ``covered`` (n,): whether a real row's own ball holds a fake row.
    """

    fake_in_real: NDArray[np.int64]
    real_in_fake: NDArray[np.bool_]
    covered: NDArray[np.bool_]


class Balls(NamedTuple):
    """Rows ``(n, d)`` and the radii ``(n,)`` of the balls around them."""

    rows: NDArray[Any]
    radii: Floats


def prdc(*, real: NDArray[Any], fake: NDArray[Any], k: int = 5) -> Prdc:
    """Return the four numbers for features ``(n, d)`` and ``(m, d)``.

    Kynkaanniemi et al., Improved precision and recall metric, NeurIPS 2019 (precision, recall); Naeem et al.,
    Reliable fidelity and diversity metrics, ICML 2020, equations 3 to 5 (density, coverage), whose strict
    inequality and whose k (the row itself is not counted) are followed throughout.

    Raises:
        HsevalError: shapes that don't fit, NaN or Inf, or a side of no more than ``k`` rows.
    """
    for name, rows in (("real", real), ("fake", fake)):
        if len(rows) <= k:
            raise HsevalError(f"{name}: {len(rows)} rows, expected more than k = {k}")
    held = held_rows(real=Balls(real, radii(real, k)), fake=Balls(fake, radii(fake, k)))
    return Prdc(
        precision=float((held.fake_in_real > 0).mean()),
        recall=float(held.real_in_fake.mean()),
        density=float(held.fake_in_real.mean()) / k,
        coverage=float(held.covered.mean()),
    )


def held_rows(*, real: Balls, fake: Balls) -> Held:
    """Find which rows of each side lie strictly inside which balls of the other."""
    centre = real.rows.mean(axis=0, dtype=np.float64)
    a, b = (left_factor(each.rows, centre) for each in (real, fake))
    slack_real, slack_fake = slack_of(a, b), slack_of(b, a)
    right = right_factor(b).T

    def block(rows: slice) -> Held:
        products = a[rows] @ right
        own = Balls(real.rows[rows], real.radii[rows])
        strips = []
        for part in _slices(len(products), STRIP):
            strip = _Strip(products[part], Balls(own.rows[part], own.radii[part]), fake)
            strips.append(strip.held(slack_real[rows][part], slack_fake))
        return _joined(strips)

    with block_threads() as pool:
        return _joined(list(pool.map(block, _slices(len(a), max(STRIP, BLOCK_BYTES // (4 * len(b)))))))


def _joined(parts: Sequence[Held]) -> Held:
    counts, inside, covered = zip(*parts, strict=True)
    return Held(np.sum(counts, axis=0), np.concatenate(inside), np.concatenate(covered))


class _Strip(NamedTuple):
    """Some real rows, all fake rows, and squared distances ``(s, m)`` in float32."""

    squared: NDArray[np.float32]
    real: Balls
    fake: Balls

    def held(self, slack_real: Floats, slack_fake: Floats) -> Held:
        """Return what these rows hold, where distances can be off by ``slack_real`` (s,) and ``slack_fake`` (m,)."""
        i, j = self._inside(self.real.radii, slack_real, axis=0)
        held_by, _ = self._inside(self.fake.radii, slack_fake, axis=1)
        count, width = self.squared.shape
        return Held(np.bincount(j, minlength=width), _among(held_by, count), _among(i, count))

    def _inside(self, radii: Floats, slack: Floats, *, axis: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return pairs of rows that are nearer than the real one's (axis 0) or the fake one's (axis 1) radius."""
        low, high = ((radii**2 + sign * slack).astype(np.float32) for sign in (-1, 1))
        place = np.flatnonzero(self.squared <= (high[:, None] if axis == 0 else high))
        pairs = np.divmod(place, self.squared.shape[1])
        inside = self.squared.ravel()[place] < low[pairs[axis]]
        unsure = np.flatnonzero(~inside)
        i, j = (each[unsure] for each in pairs)
        # The root is taken as for the radii: a tie is a tie.
        inside[unsure] = np.sqrt(squared_between(self.real.rows, self.fake.rows, i, j)) < radii[(i, j)[axis]]
        return pairs[0][inside], pairs[1][inside]


def _among(rows: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    return np.bincount(rows, minlength=count) > 0


def _slices(count: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
