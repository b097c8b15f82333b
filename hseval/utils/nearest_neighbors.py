"""Nearest neighbors of feature vectors: FAISS finds candidates in float32, float64 distances decide.

FAISS works in float32 with the expanded form ``|q|^2 + |b|^2 - 2 q.b``, which suffers from cancellation where vectors
lie far from the origin or very close to one another. Three steps make the search exact nevertheless:

1. queries and base are centered at the base's mean in float64 before they become float32;
2. a few more candidates than requested are compared again, in float64, by differences;
3. a bound on the float32 error shows whether a vector outside the candidates could be nearer; where it could,
   that query alone is searched again among more candidates, in the end among all vectors.

No array of size queries x base is ever allocated: FAISS and the steps above work block by block.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hseval.utils.arrays import Float64Array
from hseval.utils.errors import HsevalError

Indices = NDArray[np.int64]
MIN_IVF_ROWS = 20_000  # with fewer base rows "ivf" searches exactly: too few to train its lists
EXTRA_CANDIDATES = 1  # candidates beyond k that are compared in float64
CANDIDATE_GROWTH = 8  # factor on the number of candidates where a query stays undecided
MAX_CANDIDATES = 2048  # limit of FAISS on a GPU; where more are needed, all rows are compared in float64
BLOCK_BYTES = 64 << 20  # maximum size of a temporary array
MIN_PADDED_QUERIES = 32  # fewer queries are faster one by one than padded
UNIT_ROUNDOFF = 2.0**-24  # unit roundoff of float32


class NearestNeighbors:
    """An index over base vectors, for repeated searches.

    Args:
        base: real ``(m, d)``, finite.
        index: ``"exact"``, or ``"ivf"`` for an inverted file (approximate; exact below ``MIN_IVF_ROWS`` rows).

    Raises:
        HsevalError: the base is not a matrix, is empty, or holds NaN or Inf.
    """

    def __init__(self, base: NDArray[Any], *, index: Literal["exact", "ivf"] = "exact") -> None:
        self.base = _check_matrix(base, "base")
        if len(self.base) == 0:
            raise HsevalError("nearest neighbors: the base has no rows, expected at least 1")
        self.center: Float64Array = self.base.mean(axis=0, dtype=np.float64)
        centered = self._center_rows(self.base)
        self.max_norm = float(np.sqrt(np.einsum("md,md->m", centered, centered, dtype=np.float64).max()))
        self.approximate = index == "ivf" and len(self.base) >= MIN_IVF_ROWS
        self._index = _build_index(centered, approximate=self.approximate)

    def find_nearest(
        self, queries: NDArray[Any], *, k: int = 1, exclude: NDArray[Any] | None = None
    ) -> tuple[Float64Array, Indices]:
        """Find the ``k`` nearest rows of the base; ties are ordered by index.

        Args:
            queries: real ``(n, d)``, finite.
            k: number of neighbors to return.
            exclude: ``(n,)`` for each query the index of one base row to ignore, or None.

        Returns:
            Euclidean distances, float64 ``(n, k)``, ascending, and row indices ``(n, k)``.

        Raises:
            HsevalError: another width than the base, NaN or Inf, or fewer than ``k`` rows to choose from.
        """
        queries = _check_matrix(queries, "queries", n_features=self.base.shape[1])
        available = len(self.base) - (exclude is not None)
        if not 1 <= k <= available:
            raise HsevalError(f"nearest neighbors: {k} requested, but there are {available} rows to choose from")
        squared = np.empty((len(queries), k))
        neighbors = np.empty((len(queries), k), dtype=np.int64)
        n_candidates = self._limit_candidates(k + EXTRA_CANDIDATES + (exclude is not None))
        for rows in _split_blocks(len(queries), n_candidates * self.base.shape[1] * 8):
            excluded = None if exclude is None else np.asarray(exclude)[rows]
            squared[rows], neighbors[rows] = self._search(queries[rows], k, n_candidates, excluded)
        return np.sqrt(squared), neighbors

    def find_kth_distance(self, queries: NDArray[Any], k: int, *, exclude: NDArray[Any] | None = None) -> Float64Array:
        """Return the distance ``(n,)`` to the k-th nearest row alone: the last column of :meth:`find_nearest`.

        Where float32 leaves no doubt which row that is, only its distance is computed in float64.
        """
        n_candidates = k + EXTRA_CANDIDATES + (exclude is not None)
        exclude = None if exclude is None else np.asarray(exclude)
        if self.approximate or self._limit_candidates(n_candidates) != n_candidates:
            return self.find_nearest(queries, k=k, exclude=exclude)[0][:, -1]
        squared, undecided = np.empty(len(queries)), np.zeros(len(queries), dtype=bool)
        for rows in _split_blocks(len(queries), self.base.shape[1] * 64):
            excluded = _index_optional(exclude, rows)
            squared[rows], undecided[rows] = self._find_kth_block(queries[rows], k, n_candidates, excluded)
        again = np.flatnonzero(undecided)
        if len(again):
            distances, _ = self.find_nearest(queries[again], k=k, exclude=_index_optional(exclude, again))
            squared[again] = distances[:, -1] ** 2
        return np.sqrt(squared)

    def _find_kth_block(
        self, queries: NDArray[Any], k: int, n_candidates: int, exclude: NDArray[Any] | None
    ) -> tuple[Float64Array, NDArray[np.bool_]]:
        """Return squared distances to the k-th nearest, and which of them more candidates could change."""
        centered = self._center_rows(queries)
        approximate_squared, candidates = self._search_float32(centered, n_candidates)
        if exclude is not None:
            others = np.argsort(candidates == exclude[:, None], axis=1, kind="stable")[:, :-1]
            approximate_squared = np.take_along_axis(approximate_squared, others, axis=1)
            candidates = np.take_along_axis(candidates, others, axis=1)
        error = self._bound_rounding_error(centered)
        difference = self.base[candidates[:, k - 1]].astype(np.float64, copy=False) - queries
        squared: Float64Array = np.einsum("nd,nd->n", difference, difference)
        # The row is certain where both neighbors in rank differ from it by more than the rounding error.
        close = np.diff(approximate_squared[:, max(k - 2, 0) :], axis=1).min(axis=1) <= 2 * error
        ranked, _ = _rank_candidates(queries[close], self.base, candidates[close], k, None)
        squared[close] = ranked[:, -1]
        return squared, close & (squared >= approximate_squared[:, -1] - error)

    def bound_nearest(
        self, queries: NDArray[Any], *, exclude: NDArray[Any] | None = None
    ) -> tuple[Float64Array, Float64Array]:
        """Bound the squared distance to the nearest row without the float64 steps: cheap, for screening queries.

        Args:
            queries: real ``(n, d)``, finite.
            exclude: as for :meth:`find_nearest`.

        Returns:
            ``(n,)`` squared distances in float32 precision, and a bound on the error of each.
        """
        centered = self._center_rows(queries)
        squared, neighbors = self._search_float32(centered, min(1 + (exclude is not None), len(self.base)))
        if exclude is not None:
            squared = np.where(neighbors[:, :1] == np.asarray(exclude)[:, None], squared[:, 1:], squared)
        return squared[:, 0].astype(np.float64), self._bound_rounding_error(centered)

    def _limit_candidates(self, n_candidates: int) -> int:
        return n_candidates if n_candidates <= min(MAX_CANDIDATES, len(self.base)) else len(self.base)

    def _search(
        self, queries: NDArray[Any], k: int, n_candidates: int, exclude: NDArray[Any] | None
    ) -> tuple[Float64Array, Indices]:
        if n_candidates == len(self.base):
            all_rows = np.broadcast_to(np.arange(n_candidates), (len(queries), n_candidates))
            return _rank_candidates(queries, self.base, all_rows, k, exclude)
        centered = self._center_rows(queries)
        approximate_squared, candidates = self._search_float32(centered, n_candidates)
        squared, neighbors = _rank_candidates(queries, self.base, candidates, k, exclude)
        if self.approximate:
            return squared, neighbors
        undecided = np.flatnonzero(squared[:, -1] >= approximate_squared[:, -1] - self._bound_rounding_error(centered))
        n_more = self._limit_candidates(CANDIDATE_GROWTH * n_candidates)
        for block in _split_blocks(len(undecided), n_more * 32):
            rows = undecided[block]
            squared[rows], neighbors[rows] = self._search(queries[rows], k, n_more, _index_optional(exclude, rows))
        return squared, neighbors

    def _search_float32(self, centered: NDArray[np.float32], n_candidates: int) -> tuple[NDArray[np.float32], Indices]:
        """Return FAISS's candidates: squared distances in float32 ``(n, n_candidates)``, and row indices.

        Where queries x width is below a threshold, FAISS searches query by query; padded beyond it, a few dozen queries
        take an eighth of the time.
        """
        import faiss

        short = faiss.cvar.distance_compute_blas_threshold // centered.shape[1] + 1 - len(centered)
        queries = centered
        if len(centered) >= MIN_PADDED_QUERIES and short > 0:
            queries = np.concatenate([centered, np.zeros((short, centered.shape[1]), np.float32)])
        squared, neighbors = self._index.search(queries, n_candidates)
        return squared[: len(centered)], neighbors[: len(centered)]

    def _bound_rounding_error(self, centered: NDArray[np.float32]) -> Float64Array:
        lengths = np.sqrt(np.einsum("nd,nd->n", centered, centered, dtype=np.float64))
        return compute_rounding_bound(lengths, self.max_norm, centered.shape[1])

    def _center_rows(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        centered = np.empty(rows.shape, dtype=np.float32)
        for block in _split_blocks(len(rows), rows.shape[1] * 8):
            np.subtract(rows[block], self.center, out=centered[block], dtype=np.float64, casting="unsafe")
        return centered


def _index_optional(exclude: NDArray[Any] | None, index: Any) -> NDArray[Any] | None:
    return None if exclude is None else exclude[index]


def compute_rounding_bound(norms: Float64Array, max_norm: float, n_features: int) -> Float64Array:
    """Return a bound on the rounding error of a float32 squared distance in the expanded form.

    A sum of d products carries a relative error below d u of the sum of their magnitudes (Higham, Accuracy and
    Stability of Numerical Algorithms, 2nd ed., section 3.1); that sum is at most ``(|q| + |b|)^2``. The 8 covers
    the rounding of the inputs and the final additions.
    """
    bound: Float64Array = (n_features + 8) * UNIT_ROUNDOFF * (norms + max_norm) ** 2
    return bound


def _rank_candidates(
    queries: NDArray[Any], base: NDArray[Any], candidates: NDArray[Any], k: int, exclude: NDArray[Any] | None
) -> tuple[Float64Array, Indices]:
    """Return the ``k`` nearest of each query's candidates by float64 differences; ties are ordered by index."""
    invalid = candidates < 0  # FAISS pads with -1 where a list runs out
    if exclude is not None:
        invalid |= candidates == exclude[:, None]
    squared = np.full(candidates.shape, np.inf)
    for columns in _split_blocks(candidates.shape[1], len(queries) * base.shape[1] * 8):
        difference = base[candidates[:, columns]].astype(np.float64, copy=False) - queries[:, None]
        squared[:, columns] = np.einsum("ncd,ncd->nc", difference, difference)
    squared[invalid] = np.inf
    order = np.lexsort((candidates, squared), axis=-1)[:, :k]
    return np.take_along_axis(squared, order, axis=1), np.take_along_axis(candidates, order, axis=1)


def _build_index(centered: NDArray[np.float32], *, approximate: bool) -> Any:
    import faiss

    rows, width = centered.shape
    index: Any = faiss.IndexFlatL2(width)
    if approximate:
        index = faiss.IndexIVFFlat(index, width, round(4 * rows**0.5))
        index.nprobe = max(8, index.nlist // 16)
    if faiss.get_num_gpus() > 0 and hasattr(faiss, "StandardGpuResources"):
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    if approximate:
        index.train(centered)
    index.add(centered)
    return index


def _check_matrix(rows: NDArray[Any], name: str, n_features: int | None = None) -> NDArray[Any]:
    rows = np.asarray(rows)
    if rows.ndim != 2 or (n_features is not None and rows.shape[1] != n_features):
        raise HsevalError(f"nearest neighbors: {name} of shape {rows.shape}, expected (n, {n_features or 'd'})")
    if not np.isfinite(rows.sum(dtype=np.float64)) and not np.isfinite(rows).all():
        raise HsevalError(f"nearest neighbors: {name} with NaN or Inf, expected finite values")
    return rows


def _split_blocks(count: int, row_bytes: int) -> list[slice]:
    step = max(1, BLOCK_BYTES // max(row_bytes, 1))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
