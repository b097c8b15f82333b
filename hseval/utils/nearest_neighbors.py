"""Nearest neighbours of feature rows: FAISS finds candidates, float64 decides.

FAISS works in float32 with the expanded form ``|q|^2 + |b|^2 - 2 q.b``, which cancels badly where rows lie far
from the origin or very close to one another. Three steps make the exact search exact all the same:

1. both sides are centred at the base's mean in float64 before they become float32;
2. a few candidates more than asked for are compared again, in float64, by differences;
3. a bound on the float32 error says whether a row outside the candidates could be nearer; where it could,
   that query alone is searched again among more candidates, in the end among all rows.

Nothing of size queries x base is ever held: FAISS and the steps above work block by block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Positions = NDArray[np.int64]

IVF_FROM = 20_000  # base rows below which "ivf" is searched exactly: lists would hold too few rows to be trained
SPARE = 1  # candidates beyond k that are compared in float64
WIDER = 8  # times more candidates, where these do not settle a query
MOST = 2048  # candidates that FAISS gives on a GPU; where more are needed, all rows are compared in float64
BLOCK_BYTES = 64 << 20  # of any temporary array
FEW = 32  # queries that are searched one by one in less time than padded ones
UNIT = 2.0**-24  # unit roundoff of float32


class Neighbors:
    """A base of rows that is searched many times.

    Args:
        base: real ``(m, d)``, finite.
        index: ``"exact"``, or ``"ivf"`` for an inverted file (approximate; exact below ``IVF_FROM`` rows).

    Raises:
        HsevalError: the base is no matrix, is empty, or holds NaN or Inf.
    """

    def __init__(self, base: NDArray[Any], *, index: Literal["exact", "ivf"] = "exact") -> None:
        self.base = _checked(base, "base")
        if len(self.base) == 0:
            raise HsevalError("neighbours: the base has no rows, expected at least 1")
        self.centre: Floats = self.base.mean(axis=0, dtype=np.float64)
        centred = self._centred(self.base)
        self.reach = float(np.sqrt(np.einsum("md,md->m", centred, centred, dtype=np.float64).max()))
        self.approximate = index == "ivf" and len(self.base) >= IVF_FROM
        self._index = _build(centred, approximate=self.approximate)

    def nearest(
        self, queries: NDArray[Any], *, k: int = 1, exclude: NDArray[Any] | None = None
    ) -> tuple[Floats, Positions]:
        """Find the ``k`` nearest rows of the base; among equals the smaller index comes first.

        Args:
            queries: real ``(n, d)``, finite.
            k: neighbours to return.
            exclude: ``(n,)`` one row of the base for each query that does not count, or None.

        Returns:
            Euclidean distances, float64 ``(n, k)``, ascending, and row indices ``(n, k)``.

        Raises:
            HsevalError: other width than the base, NaN or Inf, or fewer than ``k`` rows to choose from.
        """
        queries = _checked(queries, "queries", width=self.base.shape[1])
        choice = len(self.base) - (exclude is not None)
        if not 1 <= k <= choice:
            raise HsevalError(f"neighbours: {k} asked for, but there are {choice} rows to choose from")
        squared = np.empty((len(queries), k))
        found = np.empty((len(queries), k), dtype=np.int64)
        wanted = self._candidates(k + SPARE + (exclude is not None))
        for rows in _blocks(len(queries), wanted * self.base.shape[1] * 8):
            barred = None if exclude is None else np.asarray(exclude)[rows]
            squared[rows], found[rows] = self._search(queries[rows], k, wanted, barred)
        return np.sqrt(squared), found

    def kth(self, queries: NDArray[Any], k: int, *, exclude: NDArray[Any] | None = None) -> Floats:
        """Return the distance ``(n,)`` to the k-th nearest row alone: the last column that :meth:`nearest` gives.

        Where float32 leaves no doubt which row that is, it is the only one that is compared in float64.
        """
        wanted = k + SPARE + (exclude is not None)
        exclude = None if exclude is None else np.asarray(exclude)
        if self.approximate or self._candidates(wanted) != wanted:
            return self.nearest(queries, k=k, exclude=exclude)[0][:, -1]
        squared, unsure = np.empty(len(queries)), np.zeros(len(queries), dtype=bool)
        for rows in _blocks(len(queries), self.base.shape[1] * 64):
            squared[rows], unsure[rows] = self._kth_block(queries[rows], k, wanted, _at(exclude, rows))
        again = np.flatnonzero(unsure)
        if len(again):
            squared[again] = self.nearest(queries[again], k=k, exclude=_at(exclude, again))[0][:, -1] ** 2
        return np.sqrt(squared)

    def _kth_block(
        self, queries: NDArray[Any], k: int, wanted: int, barred: NDArray[Any] | None
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """Return squared distances to the k-th nearest, and which of them more candidates could change."""
        centred = self._centred(queries)
        rough, candidates = self._rough(centred, wanted)
        if barred is not None:
            kept = np.argsort(candidates == barred[:, None], axis=1, kind="stable")[:, :-1]
            rough = np.take_along_axis(rough, kept, axis=1)
            candidates = np.take_along_axis(candidates, kept, axis=1)
        error = self._rounding(centred)
        difference = self.base[candidates[:, k - 1]].astype(np.float64, copy=False) - queries
        squared: Floats = np.einsum("nd,nd->n", difference, difference)
        # Which row it is stands firm where both of its neighbours in order are further off than rounding reaches.
        close = np.diff(rough[:, max(k - 2, 0) :], axis=1).min(axis=1) <= 2 * error
        ranked, _ = _ranked(queries[close], self.base, candidates[close], k, None)
        squared[close] = ranked[:, -1]
        return squared, close & (squared >= rough[:, -1] - error)

    def screen(self, queries: NDArray[Any], *, exclude: NDArray[Any] | None = None) -> tuple[Floats, Floats]:
        """Bound the squared distance to the nearest row without the float64 steps: cheap, for sifting queries.

        Args:
            queries: real ``(n, d)``, finite.
            exclude: as for :meth:`nearest`.

        Returns:
            ``(n,)`` squared distances by float32, and by how much each of them can be off.
        """
        centred = self._centred(queries)
        squared, found = self._rough(centred, min(1 + (exclude is not None), len(self.base)))
        if exclude is not None:
            squared = np.where(found[:, :1] == np.asarray(exclude)[:, None], squared[:, 1:], squared)
        return squared[:, 0].astype(np.float64), self._rounding(centred)

    def _candidates(self, wanted: int) -> int:
        return wanted if wanted <= min(MOST, len(self.base)) else len(self.base)

    def _search(
        self, queries: NDArray[Any], k: int, wanted: int, barred: NDArray[Any] | None
    ) -> tuple[Floats, Positions]:
        if wanted == len(self.base):
            everything = np.broadcast_to(np.arange(wanted), (len(queries), wanted))
            return _ranked(queries, self.base, everything, k, barred)
        centred = self._centred(queries)
        rough, candidates = self._rough(centred, wanted)
        squared, found = _ranked(queries, self.base, candidates, k, barred)
        if self.approximate:
            return squared, found
        unsure = np.flatnonzero(squared[:, -1] >= rough[:, -1] - self._rounding(centred))
        more = self._candidates(WIDER * wanted)
        for block in _blocks(len(unsure), more * 32):
            rows = unsure[block]
            squared[rows], found[rows] = self._search(queries[rows], k, more, _at(barred, rows))
        return squared, found

    def _rough(self, centred: NDArray[np.float32], wanted: int) -> tuple[NDArray[np.float32], Positions]:
        """Return FAISS's candidates: squared distances in float32 ``(n, wanted)``, and rows.

        Where queries x width is below a bound, FAISS takes queries one by one; padded beyond it, some dozens of them
        take an eighth of the time.
        """
        import faiss

        short = faiss.cvar.distance_compute_blas_threshold // centred.shape[1] + 1 - len(centred)
        queries = centred
        if len(centred) >= FEW and short > 0:
            queries = np.concatenate([centred, np.zeros((short, centred.shape[1]), np.float32)])
        squared, found = self._index.search(queries, wanted)
        return squared[: len(centred)], found[: len(centred)]

    def _rounding(self, centred: NDArray[np.float32]) -> Floats:
        lengths = np.sqrt(np.einsum("nd,nd->n", centred, centred, dtype=np.float64))
        return rounding_bound(lengths, self.reach, centred.shape[1])

    def _centred(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        centred = np.empty(rows.shape, dtype=np.float32)
        for block in _blocks(len(rows), rows.shape[1] * 8):
            np.subtract(rows[block], self.centre, out=centred[block], dtype=np.float64, casting="unsafe")
        return centred


def nearest(
    *,
    queries: NDArray[Any],
    base: NDArray[Any],
    k: int = 1,
    exclude_self: bool = False,
    index: Literal["exact", "ivf"] = "exact",
) -> tuple[Floats, Positions]:
    """Find the ``k`` nearest rows of ``base`` for each row of ``queries``; see :class:`Neighbors`.

    Args:
        queries: real ``(n, d)``.
        base: real ``(m, d)``.
        k: neighbours to return.
        exclude_self: row i of the base is no neighbour of query i (queries and base are the same set).
        index: ``"exact"`` or ``"ivf"``.

    Returns:
        Euclidean distances, float64 ``(n, k)``, and row indices ``(n, k)``.

    Raises:
        HsevalError: shapes that don't fit, NaN or Inf, or fewer than ``k`` rows to choose from.
    """
    if exclude_self and len(queries) != len(base):
        raise HsevalError(f"neighbours: exclude_self, but {len(queries)} queries and a base of {len(base)} rows")
    own = np.arange(len(queries)) if exclude_self else None
    return Neighbors(base, index=index).nearest(queries, k=k, exclude=own)


def _at(barred: NDArray[Any] | None, rows: Any) -> NDArray[Any] | None:
    return None if barred is None else barred[rows]


def rounding_bound(lengths: Floats, reach: float, width: int) -> Floats:
    """Return how far a float32 squared distance by the expanded form can be off.

    A sum of d products carries a relative error below d u of the sum of their magnitudes (Higham, Accuracy and
    Stability of Numerical Algorithms, 2nd ed., section 3.1); that sum is at most ``(|q| + |b|)^2``. The 8 stands
    for the rounding of the inputs and the final additions.
    """
    bound: Floats = (width + 8) * UNIT * (lengths + reach) ** 2
    return bound


def _ranked(
    queries: NDArray[Any], base: NDArray[Any], candidates: NDArray[Any], k: int, barred: NDArray[Any] | None
) -> tuple[Floats, Positions]:
    """Return the ``k`` best of each query's candidates by float64 differences, equals by index."""
    out = candidates < 0  # FAISS pads with -1 where a list runs out
    if barred is not None:
        out |= candidates == barred[:, None]
    squared = np.full(candidates.shape, np.inf)
    for columns in _blocks(candidates.shape[1], len(queries) * base.shape[1] * 8):
        difference = base[candidates[:, columns]].astype(np.float64, copy=False) - queries[:, None]
        squared[:, columns] = np.einsum("ncd,ncd->nc", difference, difference)
    squared[out] = np.inf
    order = np.lexsort((candidates, squared), axis=-1)[:, :k]
    return np.take_along_axis(squared, order, axis=1), np.take_along_axis(candidates, order, axis=1)


def _build(centred: NDArray[np.float32], *, approximate: bool) -> Any:
    import faiss

    rows, width = centred.shape
    index: Any = faiss.IndexFlatL2(width)
    if approximate:
        index = faiss.IndexIVFFlat(index, width, round(4 * rows**0.5))
        index.nprobe = max(8, index.nlist // 16)
    if faiss.get_num_gpus() > 0 and hasattr(faiss, "StandardGpuResources"):
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    if approximate:
        index.train(centred)
    index.add(centred)
    return index


def _checked(rows: NDArray[Any], what: str, width: int | None = None) -> NDArray[Any]:
    rows = np.asarray(rows)
    if rows.ndim != 2 or (width is not None and rows.shape[1] != width):
        raise HsevalError(f"neighbours: {what} of shape {rows.shape}, expected (n, {width or 'd'})")
    if not np.isfinite(rows.sum(dtype=np.float64)) and not np.isfinite(rows).all():
        raise HsevalError(f"neighbours: {what} with NaN or Inf, expected finite rows")
    return rows


def _blocks(count: int, row_bytes: int) -> list[slice]:
    step = max(1, BLOCK_BYTES // max(row_bytes, 1))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
