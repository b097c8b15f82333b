"""Precision, recall, density and coverage: which balls around real rows contain samples, and the other way round.

The radius of row i's ball is the distance to its k-th nearest other row of its own set. Which balls contain which rows
is computed block by block, by float32 products where rounding can't change the result and by float64 differences where
it can. No matrix of all pairs is stored.
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
from hseval.utils.plural import format_count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Float64Array = NDArray[np.float64]
    Float32Array = NDArray[np.float32]
    IndexArray = NDArray[np.int64]

PAIRS_PER_CHUNK = 4096  # pairs that are compared in float64 at a time
MAX_THREADS = 8  # each needs the memory of a block


def build_left_factor(features: NDArray[Any], center: Float64Array) -> Float32Array:
    """Return ``(x, 1, |x|^2)`` for each row x of ``(n, d)`` minus ``center`` ``(d,)``: float32 ``(n, d + 2)``."""
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
    """Return the largest error ``(n,)``, by row, of comparing a product with a threshold in float32.

    It is twice the product's bound: rounding the threshold adds no more than that, unless the threshold is larger
    than any of the row's distances, and then its rounding changes nothing.
    """
    squared_norms = left[:, -1].astype(np.float64)
    return 2 * compute_rounding_bound(np.sqrt(squared_norms), float(np.sqrt(other_left[:, -1].max())), left.shape[1])


def compute_squared_distances(a: NDArray[Any], b: NDArray[Any], i: IndexArray, j: IndexArray) -> Float64Array:
    """Return squared distances ``(p,)`` of rows ``a[i]`` and ``b[j]`` in float64, by differences: ties are exact."""
    squared = np.empty(len(i))
    for start in range(0, len(i), PAIRS_PER_CHUNK):
        chunk = slice(start, start + PAIRS_PER_CHUNK)
        difference = b[j[chunk]].astype(np.float64, copy=False) - a[i[chunk]]
        squared[chunk] = np.einsum("nd,nd->n", difference, difference)
    return squared


@contextlib.contextmanager
def open_thread_pool() -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of threads, one per core, for blocks of products.

    BLAS is limited to one thread meanwhile: its own threads would share each block, wait for one another at its end,
    and idle while the block is compared.
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


MIN_ROWS_FOR_PRODUCTS = 2000  # with fewer rows a search is as fast
BLOCK_ROWS = 1024  # rows on either side of a block of products
BOUND_STRIDE = 8  # bounds are computed from every BOUND_STRIDE-th row
FOLD_COUNT = 3  # times that a block is halved to the smaller of two columns before its k-th smallest is selected
MIN_COLUMNS_PER_K = 4  # times k: with fewer columns after folding the bounds are loose
MAX_PAIR_RATIO = 4  # times more pairs than expected from the bounds: rows are repeated, and a search is faster


class CandidatePairs(NamedTuple):
    """Pairs of rows ``row`` and ``other`` with their squared distance in float32, ``(p,)`` each."""

    row: NDArray[np.int64]
    other: NDArray[np.int64]
    squared_distances: Float32Array


def compute_knn_radii(features: NDArray[Any], k: int) -> Float64Array:
    """Return each row's distance ``(n,)`` to its k-th nearest other row, exact in float64, for rows ``(n, d)``.

    Raises:
        HsevalError: NaN or Inf, or no more than ``k`` rows.
    """
    is_large = len(features) >= max(MIN_ROWS_FOR_PRODUCTS, (MIN_COLUMNS_PER_K * k * BOUND_STRIDE) << FOLD_COUNT)
    radii = (
        _compute_radii_by_products(features, k) if is_large and np.isfinite(features.sum(dtype=np.float64)) else None
    )
    return (
        NearestNeighbors(features).find_kth_distance(features, k, exclude=np.arange(len(features)))
        if radii is None
        else radii
    )


def _compute_radii_by_products(features: NDArray[Any], k: int) -> Float64Array | None:
    """Return the radii, or None if too many pairs lie below the bounds to store them."""
    left = build_left_factor(features, features.mean(axis=0, dtype=np.float64))
    slack = compute_slack(left, left)
    starts = range(0, len(features), BLOCK_ROWS)
    with open_thread_pool() as pool:
        squared_bounds = np.concatenate(
            list(pool.map(partial(_compute_radius_bounds, left, build_right_factor(left[::BOUND_STRIDE]), k), starts))
        )
        bounds = (squared_bounds + 3 * slack).astype(np.float32)
        candidates: list[CandidatePairs] = []
        for pairs in pool.map(
            partial(_find_candidate_pairs, left, bounds), [(i, j) for i in starts for j in starts if i <= j]
        ):
            candidates += pairs
            if sum(len(block.row) for block in candidates) > MAX_PAIR_RATIO * BOUND_STRIDE * k * len(features):
                pool.shutdown(cancel_futures=True)
                return None
    return _resolve_radii(
        features, CandidatePairs(*(np.concatenate(columns) for columns in zip(*candidates, strict=True))), slack, k
    )


def _compute_radius_bounds(left: Float32Array, right: Float32Array, k: int, start: int) -> Float32Array:
    """Return upper bounds of the squared distance to the k-th nearest other row, for a block of rows."""
    squared = left[start : start + BLOCK_ROWS] @ right.T
    self_rows = np.arange(-(-start // BOUND_STRIDE) * BOUND_STRIDE, start + len(squared), BOUND_STRIDE)
    squared[self_rows - start, self_rows // BOUND_STRIDE] = np.inf
    for _ in range(FOLD_COUNT):
        half = squared.shape[1] // 2
        squared = np.minimum(squared[:, :half], squared[:, half : 2 * half])
    return np.asarray(np.partition(squared, k - 1, axis=1)[:, k - 1])


def _find_candidate_pairs(
    left: Float32Array, bounds: Float32Array, block_starts: tuple[int, int]
) -> Sequence[CandidatePairs]:
    """Return the pairs of two blocks of rows below the bounds of the first block, and those below the second's."""
    i, j = block_starts
    squared = left[i : i + BLOCK_ROWS] @ build_right_factor(left[j : j + BLOCK_ROWS]).T
    if i == j:
        np.fill_diagonal(squared, np.inf)
    pairs = _select_below(squared, bounds[i : i + BLOCK_ROWS, None], i, j)
    if i == j:
        return (pairs,)
    row, other, squared_distances = _select_below(squared, bounds[j : j + BLOCK_ROWS], i, j)
    return pairs, CandidatePairs(other, row, squared_distances)


def _select_below(squared_distances: Float32Array, bounds: Float32Array, i: int, j: int) -> CandidatePairs:
    flat_index = np.flatnonzero(squared_distances <= bounds)
    row, other = np.divmod(flat_index, squared_distances.shape[1])
    return CandidatePairs(row + i, other + j, squared_distances.ravel()[flat_index])


def _resolve_radii(features: NDArray[Any], pairs: CandidatePairs, slack: Float64Array, k: int) -> Float64Array:
    """Return the radii ``(n,)`` from the candidate pairs.

    With r the k-th smallest in float32 and e its rounding, rows below r - 2 e are nearer than the k-th, rows above
    r + 2 e are farther, and the rows between are compared in float64.
    """
    # Sorted by row, then by distance: the bits of floats that are not negative sort as the floats do.
    key = pairs.row.astype(np.uint64) << np.uint64(32) | np.maximum(pairs.squared_distances, 0).view(np.uint32)
    order = np.argsort(key)
    row, other, squared = pairs.row[order], pairs.other[order], pairs.squared_distances[order].astype(np.float64)
    first = np.searchsorted(row, np.arange(len(features)))
    gap = squared - squared[first + k - 1][row]
    n_nearer = np.bincount(row[gap < -2 * slack[row]], minlength=len(features))
    is_close = np.abs(gap) <= 2 * slack[row]
    row, exact = row[is_close], compute_squared_distances(features, features, row[is_close], other[is_close])
    exact = exact[np.lexsort((exact, row))]
    radii: Float64Array = np.sqrt(exact[np.searchsorted(row, np.arange(len(features))) + k - 1 - n_nearer])
    return radii


BLOCK_BYTES = 32 << 20  # of a block of products: with few rows, packing the other side costs more than the products
STRIP_ROWS = 128  # rows of a strip of a block, which stays in the processor's cache


class Prdc(NamedTuple):
    """Precision, recall, density and coverage; only density may exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float


class Containment(NamedTuple):
    """Which rows lie strictly inside which balls.

    ``generated_in_real`` (m,): number of real rows' balls that contain each generated row; ``real_in_generated`` (n,):
    whether any generated row's ball contains a real row; ``covered`` (n,): whether a real row's own ball contains a
    generated row.
    """

    generated_in_real: NDArray[np.int64]
    real_in_generated: NDArray[np.bool_]
    covered: NDArray[np.bool_]


class KnnBalls(NamedTuple):
    """Rows ``(n, d)`` and the radii ``(n,)`` of the balls around them."""

    features: NDArray[Any]
    radii: Float64Array


def compute_prdc(*, real: NDArray[Any], generated: NDArray[Any], k: int = 5) -> Prdc:
    """Return precision, recall, density and coverage of features ``(n, d)`` and ``(m, d)``.

    Kynkaanniemi et al., Improved precision and recall metric, NeurIPS 2019 (precision, recall); Naeem et al.,
    Reliable fidelity and diversity metrics, ICML 2020, equations 3 to 5 (density, coverage), whose strict
    inequality and whose k (the row itself is not counted) are followed throughout.

    Raises:
        HsevalError: shapes that don't fit, NaN or Inf, or a side of no more than ``k`` rows.
    """
    for name, features in (("real", real), ("generated", generated)):
        if len(features) <= k:
            raise HsevalError(f"{name}: {format_count(len(features), 'feature vector')}, expected more than k = {k}")
    containment = find_containment(
        real=KnnBalls(real, compute_knn_radii(real, k)), generated=KnnBalls(generated, compute_knn_radii(generated, k))
    )
    return Prdc(
        precision=float((containment.generated_in_real > 0).mean()),
        recall=float(containment.real_in_generated.mean()),
        density=float(containment.generated_in_real.mean()) / k,
        coverage=float(containment.covered.mean()),
    )


def find_containment(*, real: KnnBalls, generated: KnnBalls) -> Containment:
    """Find which rows of each side lie strictly inside which balls of the other."""
    center = real.features.mean(axis=0, dtype=np.float64)
    a, b = (build_left_factor(balls.features, center) for balls in (real, generated))
    slack_real, slack_generated = compute_slack(a, b), compute_slack(b, a)
    right = build_right_factor(b).T

    def compute_block(rows: slice) -> Containment:
        products = a[rows] @ right
        block = KnnBalls(real.features[rows], real.radii[rows])
        strips = []
        for part in _list_slices(len(products), STRIP_ROWS):
            strip = _DistanceStrip(products[part], KnnBalls(block.features[part], block.radii[part]), generated)
            strips.append(strip.compute_containment(slack_real[rows][part], slack_generated))
        return _concatenate_strips(strips)

    with open_thread_pool() as pool:
        return _concatenate_strips(
            list(pool.map(compute_block, _list_slices(len(a), max(STRIP_ROWS, BLOCK_BYTES // (4 * len(b))))))
        )


def _concatenate_strips(strips: Sequence[Containment]) -> Containment:
    counts, inside, covered = zip(*strips, strict=True)
    return Containment(np.sum(counts, axis=0), np.concatenate(inside), np.concatenate(covered))


class _DistanceStrip(NamedTuple):
    """A strip of real rows, all generated rows, and their squared distances ``(s, m)`` in float32."""

    squared_distances: NDArray[np.float32]
    real: KnnBalls
    generated: KnnBalls

    def compute_containment(self, slack_real: Float64Array, slack_generated: Float64Array) -> Containment:
        """Return the strip's containment; ``slack_real`` (s,) and ``slack_generated`` (m,) are rounding bounds."""
        covered, inside = self._find_pairs_inside(self.real.radii, slack_real, axis=0)
        contained, _ = self._find_pairs_inside(self.generated.radii, slack_generated, axis=1)
        n_real, n_generated = self.squared_distances.shape
        return Containment(
            np.bincount(inside, minlength=n_generated), _mark_indices(contained, n_real), _mark_indices(covered, n_real)
        )

    def _find_pairs_inside(
        self, radii: Float64Array, slack: Float64Array, *, axis: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return pairs of rows that are nearer than the real row's radius (axis 0) or the generated row's (axis 1)."""
        low, high = ((radii**2 + sign * slack).astype(np.float32) for sign in (-1, 1))
        flat_index = np.flatnonzero(self.squared_distances <= (high[:, None] if axis == 0 else high))
        pairs = np.divmod(flat_index, self.squared_distances.shape[1])
        inside = self.squared_distances.ravel()[flat_index] < low[pairs[axis]]
        unresolved = np.flatnonzero(~inside)
        i, j = (rows[unresolved] for rows in pairs)
        # Compared after the root, as the radii are, so that ties are exact.
        inside[unresolved] = (
            np.sqrt(compute_squared_distances(self.real.features, self.generated.features, i, j)) < radii[(i, j)[axis]]
        )
        return pairs[0][inside], pairs[1][inside]


def _mark_indices(indices: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    return np.bincount(indices, minlength=count) > 0


def _list_slices(count: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
