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
from hseval.utils.nearest_neighbors import NearestNeighbors, compute_rounding_bound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Float64Array = NDArray[np.float64]
    Float32Array = NDArray[np.float32]
    IndexArray = NDArray[np.int64]
    from collections.abc import Sequence

PAIRS_PER_CHUNK = 4096  # pairs that are compared in float64 at a time
MAX_THREADS = 8  # at most: each holds a block


def build_left_factor(features: NDArray[Any], center: Float64Array) -> Float32Array:
    """Return ``(x, 1, |x|^2)`` for each row x of ``(n, d)`` less ``center`` ``(d,)``: float32 ``(n, d + 2)``."""
    left = np.empty((len(features), features.shape[1] + 2), dtype=np.float32)
    left[:, :-2] = features - center
    left[:, -2] = 1
    left[:, -1] = np.einsum("nd,nd->n", left[:, :-2], left[:, :-2], dtype=np.float64)
    return left


def build_right_factor(left: Float32Array) -> Float32Array:
    """Return ``(-2 y, |y|^2, 1)`` for rows ``(y, 1, |y|^2)``: ``left @ right.T`` are squared distances."""
    right = left * np.float32(-2)
    right[:, -2:] = left[:, :-3:-1]
    return right


def compute_slack(left: Float32Array, other_left: Float32Array) -> Float64Array:
    """Return how far, for each row ``(n,)``, the product and a threshold in float32 can be off together.

    Twice the product's bound: what rounding a threshold adds is no more than that, unless the threshold is larger
    than any of the row's distances, and then it decides nothing.
    """
    sizes = left[:, -1].astype(np.float64)
    return 2 * compute_rounding_bound(np.sqrt(sizes), float(np.sqrt(other_left[:, -1].max())), left.shape[1])


def compute_squared_distances(a: NDArray[Any], b: NDArray[Any], i: IndexArray, j: IndexArray) -> Float64Array:
    """Return squared distances ``(p,)`` of rows ``a[i]`` and ``b[j]`` in float64, by differences: a tie is a tie."""
    found = np.empty(len(i))
    for start in range(0, len(i), PAIRS_PER_CHUNK):
        part = slice(start, start + PAIRS_PER_CHUNK)
        difference = b[j[part]].astype(np.float64, copy=False) - a[i[part]]
        found[part] = np.einsum("nd,nd->n", difference, difference)
    return found


@contextlib.contextmanager
def open_thread_pool() -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of threads, one a core, for blocks of products.

    BLAS gets one thread meanwhile: its own would share each block, wait for one another at its end, and idle while it
    is compared.
    """
    with (
        _load_threadpool_controller().limit(limits=1, user_api="blas"),
        ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool,
    ):
        yield pool


@functools.cache
def _load_threadpool_controller() -> Any:
    import threadpoolctl

    return threadpoolctl.ThreadpoolController()


MIN_ROWS_FOR_PRODUCTS = 2000  # rows below which a search is as fast
BLOCK_ROWS = 1024  # rows on either side of a block of products
BOUND_STRIDE = 8  # a bound comes from one row in so many
FOLD_COUNT = 3  # times that a block is folded, the smaller of two kept, before its k-th smallest is looked for
MIN_COLUMNS_PER_K = 4  # times k: fewer columns than that after folding bound poorly
MAX_PAIR_RATIO = 4  # times more pairs than the bounds let expect: rows are repeated, and a search is better


class CandidatePairs(NamedTuple):
    """Rows ``row`` and ``other``, and their squared distance in float32, ``(p,)`` each."""

    row: NDArray[np.int64]
    other: NDArray[np.int64]
    squared_distances: Float32Array


def compute_knn_radii(features: NDArray[Any], k: int) -> Float64Array:
    """Return each row's distance ``(n,)`` to its k-th nearest other row, exact in float64, for rows ``(n, d)``.

    Raises:
        HsevalError: NaN or Inf, or no more than ``k`` rows.
    """
    many = len(features) >= max(MIN_ROWS_FOR_PRODUCTS, (MIN_COLUMNS_PER_K * k * BOUND_STRIDE) << FOLD_COUNT)
    found = _compute_radii_by_products(features, k) if many and np.isfinite(features.sum(dtype=np.float64)) else None
    return (
        NearestNeighbors(features).find_kth_distance(features, k, exclude=np.arange(len(features)))
        if found is None
        else found
    )


def _compute_radii_by_products(features: NDArray[Any], k: int) -> Float64Array | None:
    """Return the radii, or None where more pairs than memory should hold lie below the bounds."""
    left = build_left_factor(features, features.mean(axis=0, dtype=np.float64))
    slack = compute_slack(left, left)
    starts = range(0, len(features), BLOCK_ROWS)
    with open_thread_pool() as pool:
        rough = np.concatenate(
            list(pool.map(partial(_compute_radius_bounds, left, build_right_factor(left[::BOUND_STRIDE]), k), starts))
        )
        bounds = (rough + 3 * slack).astype(np.float32)
        kept: list[CandidatePairs] = []
        for pairs in pool.map(
            partial(_find_candidate_pairs, left, bounds), [(i, j) for i in starts for j in starts if i <= j]
        ):
            kept += pairs
            if sum(len(each.row) for each in kept) > MAX_PAIR_RATIO * BOUND_STRIDE * k * len(features):
                pool.shutdown(cancel_futures=True)
                return None
    return _resolve_radii(
        features, CandidatePairs(*(np.concatenate(each) for each in zip(*kept, strict=True))), slack, k
    )


def _compute_radius_bounds(left: Float32Array, right: Float32Array, k: int, start: int) -> Float32Array:
    """Return squared distances that at least k other rows do not exceed, for a block of rows."""
    squared = left[start : start + BLOCK_ROWS] @ right.T
    own = np.arange(-(-start // BOUND_STRIDE) * BOUND_STRIDE, start + len(squared), BOUND_STRIDE)
    squared[own - start, own // BOUND_STRIDE] = np.inf
    for _ in range(FOLD_COUNT):
        half = squared.shape[1] // 2
        squared = np.minimum(squared[:, :half], squared[:, half : 2 * half])
    return np.asarray(np.partition(squared, k - 1, axis=1)[:, k - 1])


def _find_candidate_pairs(
    left: Float32Array, bounds: Float32Array, block_starts: tuple[int, int]
) -> Sequence[CandidatePairs]:
    """Return the pairs of two blocks of rows that lie below the bound of the one, and those below that of the other."""
    i, j = block_starts
    squared = left[i : i + BLOCK_ROWS] @ build_right_factor(left[j : j + BLOCK_ROWS]).T
    if i == j:
        np.fill_diagonal(squared, np.inf)
    one = _select_below(squared, bounds[i : i + BLOCK_ROWS, None], i, j)
    if i == j:
        return (one,)
    row, other, near = _select_below(squared, bounds[j : j + BLOCK_ROWS], i, j)
    return one, CandidatePairs(other, row, near)


def _select_below(squared_distances: Float32Array, bounds: Float32Array, i: int, j: int) -> CandidatePairs:
    place = np.flatnonzero(squared_distances <= bounds)
    row, other = np.divmod(place, squared_distances.shape[1])
    return CandidatePairs(row + i, other + j, squared_distances.ravel()[place])


def _resolve_radii(features: NDArray[Any], pairs: CandidatePairs, slack: Float64Array, k: int) -> Float64Array:
    """Return the radii from all pairs that matter.

    With r the k-th smallest in float32 and e its rounding, what lies below r - 2 e is nearer than the k-th, what lies
    above r + 2 e is farther, and what lies between is compared in float64.
    """
    # Sorted by row, then by distance: bits of floats that are not negative sort as they do.
    key = pairs.row.astype(np.uint64) << np.uint64(32) | np.maximum(pairs.squared_distances, 0).view(np.uint32)
    order = np.argsort(key)
    row, other, squared = pairs.row[order], pairs.other[order], pairs.squared_distances[order].astype(np.float64)
    first = np.searchsorted(row, np.arange(len(features)))
    gap = squared - squared[first + k - 1][row]
    nearer = np.bincount(row[gap < -2 * slack[row]], minlength=len(features))
    unsure = np.abs(gap) <= 2 * slack[row]
    row, exact = row[unsure], compute_squared_distances(features, features, row[unsure], other[unsure])
    exact = exact[np.lexsort((exact, row))]
    found: Float64Array = np.sqrt(exact[np.searchsorted(row, np.arange(len(features))) + k - 1 - nearer])
    return found


BLOCK_BYTES = 32 << 20  # of a block of products: many rows at once, or packing the other side costs more than they do
STRIP_ROWS = 128  # rows of a strip of it, which stays in the processor's cache


class Prdc(NamedTuple):
    """The four numbers; only density may exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float


class Containment(NamedTuple):
    """Which rows lie strictly inside which balls.

    ``generated_in_real`` (m,): in how many real rows' balls each generated row lies; ``real_in_generated`` (n,): whether a real row
    lies in any generated row's ball; ``covered`` (n,): whether a real row's own ball holds a generated row.
    """

    generated_in_real: NDArray[np.int64]
    real_in_generated: NDArray[np.bool_]
    covered: NDArray[np.bool_]


class KnnBalls(NamedTuple):
    """Rows ``(n, d)`` and the radii ``(n,)`` of the balls around them."""

    features: NDArray[Any]
    radii: Float64Array


def compute_prdc(*, real: NDArray[Any], generated: NDArray[Any], k: int = 5) -> Prdc:
    """Return the four numbers for features ``(n, d)`` and ``(m, d)``.

    Kynkaanniemi et al., Improved precision and recall metric, NeurIPS 2019 (precision, recall); Naeem et al.,
    Reliable fidelity and diversity metrics, ICML 2020, equations 3 to 5 (density, coverage), whose strict
    inequality and whose k (the row itself is not counted) are followed throughout.

    Raises:
        HsevalError: shapes that don't fit, NaN or Inf, or a side of no more than ``k`` rows.
    """
    for name, rows in (("real", real), ("generated", generated)):
        if len(rows) <= k:
            raise HsevalError(f"{name}: {len(rows)} rows, expected more than k = {k}")
    held = find_containment(
        real=KnnBalls(real, compute_knn_radii(real, k)), generated=KnnBalls(generated, compute_knn_radii(generated, k))
    )
    return Prdc(
        precision=float((held.generated_in_real > 0).mean()),
        recall=float(held.real_in_generated.mean()),
        density=float(held.generated_in_real.mean()) / k,
        coverage=float(held.covered.mean()),
    )


def find_containment(*, real: KnnBalls, generated: KnnBalls) -> Containment:
    """Find which rows of each side lie strictly inside which balls of the other."""
    centre = real.features.mean(axis=0, dtype=np.float64)
    a, b = (build_left_factor(each.features, centre) for each in (real, generated))
    slack_real, slack_generated = compute_slack(a, b), compute_slack(b, a)
    right = build_right_factor(b).T

    def block(rows: slice) -> Containment:
        products = a[rows] @ right
        own = KnnBalls(real.features[rows], real.radii[rows])
        strips = []
        for part in _list_slices(len(products), STRIP_ROWS):
            strip = _DistanceStrip(products[part], KnnBalls(own.features[part], own.radii[part]), generated)
            strips.append(strip.compute_containment(slack_real[rows][part], slack_generated))
        return _concatenate_strips(strips)

    with open_thread_pool() as pool:
        return _concatenate_strips(
            list(pool.map(block, _list_slices(len(a), max(STRIP_ROWS, BLOCK_BYTES // (4 * len(b))))))
        )


def _concatenate_strips(parts: Sequence[Containment]) -> Containment:
    counts, inside, covered = zip(*parts, strict=True)
    return Containment(np.sum(counts, axis=0), np.concatenate(inside), np.concatenate(covered))


class _DistanceStrip(NamedTuple):
    """Some real rows, all generated rows, and squared distances ``(s, m)`` in float32."""

    squared_distances: NDArray[np.float32]
    real: KnnBalls
    generated: KnnBalls

    def compute_containment(self, slack_real: Float64Array, slack_generated: Float64Array) -> Containment:
        """Return what these rows hold, where distances can be off by ``slack_real`` (s,) and ``slack_generated`` (m,)."""
        i, j = self._find_pairs_inside(self.real.radii, slack_real, axis=0)
        held_by, _ = self._find_pairs_inside(self.generated.radii, slack_generated, axis=1)
        count, width = self.squared_distances.shape
        return Containment(np.bincount(j, minlength=width), _mark_indices(held_by, count), _mark_indices(i, count))

    def _find_pairs_inside(
        self, radii: Float64Array, slack: Float64Array, *, axis: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return pairs of rows that are nearer than the real one's (axis 0) or the generated one's (axis 1) radius."""
        low, high = ((radii**2 + sign * slack).astype(np.float32) for sign in (-1, 1))
        place = np.flatnonzero(self.squared_distances <= (high[:, None] if axis == 0 else high))
        pairs = np.divmod(place, self.squared_distances.shape[1])
        inside = self.squared_distances.ravel()[place] < low[pairs[axis]]
        unsure = np.flatnonzero(~inside)
        i, j = (each[unsure] for each in pairs)
        # The root is taken as for the radii: a tie is a tie.
        inside[unsure] = (
            np.sqrt(compute_squared_distances(self.real.features, self.generated.features, i, j)) < radii[(i, j)[axis]]
        )
        return pairs[0][inside], pairs[1][inside]


def _mark_indices(indices: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    return np.bincount(indices, minlength=count) > 0


def _list_slices(count: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
