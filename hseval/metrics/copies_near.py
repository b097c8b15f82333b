"""The nearest several base cubes of each query over all placements, as lists from which subsets can be answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hseval.metrics.copies import BLOCK, vectors
from hseval.metrics.placements import placed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hseval.metrics.placements import Placement

    Floats = NDArray[np.float64]

CHUNK = 1024  # base rows that are compared at a time
MISSED = 1e-3  # chance that none of a list's cubes is in a random subset of the share that lists are made for


class Near(NamedTuple):
    """Lists by query, nearest first: distance (n, k), base row (n, k), index of the placement (n, k).

    Where there are fewer than k cubes to list the distance is infinite and the row -1.
    """

    distance: Floats
    row: NDArray[np.int64]
    placement: NDArray[np.int64]


def list_length(count: int, share: float) -> int:
    """Return how many of ``count`` cubes to list, so that a random ``share`` of them holds one of the list."""
    if not 0 < share < 1:
        return 1 if share >= 1 else count
    return min(count, int(np.ceil(np.log(MISSED) / np.log1p(-share))))


def near(
    maps: NDArray[np.float32],
    base: NDArray[np.float32],
    places: Sequence[Placement],
    *,
    k: int,
    groups: NDArray[Any] | None = None,
    base_groups: NDArray[Any] | None = None,
) -> Near:
    """Find each query's ``k`` nearest base cubes, each at the placement of the query that fits it best.

    float32 products choose cubes and placements, float64 differences give the distances and their order; what lies
    within float32's rounding (about 1e-3 for copies, 1e-6 for others) of the list's end may be the wrong one.

    Args:
        maps: ``(n, C, G, G)``, from :func:`hseval.metrics.copies.particulars`.
        base: ``(m, D)`` rows by :func:`hseval.metrics.copies.vectors` of the base's maps.
        places: from :func:`hseval.metrics.placements.placements`.
        k: length of the lists, 1 to m.
        groups: ``(n,)``; base cubes of a query's own group are not listed. None: all are.
        base_groups: ``(m,)``, with ``groups``.
    """
    found = []
    for start in range(0, len(maps), BLOCK):
        block = slice(start, start + BLOCK)
        rows = np.stack([vectors(placed(maps[block], place)) for place in places], axis=1)
        barred = None if groups is None else groups[block, None] == base_groups
        found.append(_near_block(rows, base, k, barred))
    return Near(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _near_block(rows: NDArray[np.float32], base: NDArray[np.float32], k: int, barred: Any) -> Near:
    """Answer queries whose placements are rows ``(n, placements, D)``."""
    squared = np.empty((len(rows), len(base)), dtype=np.float32)
    placement = np.empty((len(rows), len(base)), dtype=np.int64)
    flat, own = rows.reshape(-1, rows.shape[-1]), np.einsum("npd,npd->np", rows, rows)[:, :, None]
    for start in range(0, len(base), CHUNK):
        columns = slice(start, start + CHUNK)
        part = own - 2 * (flat @ base[columns].T).reshape(*rows.shape[:2], -1)
        placement[:, columns] = part.argmin(axis=1)
        squared[:, columns] = part.min(axis=1) + np.einsum("md,md->m", base[columns], base[columns])
    if barred is not None:
        squared[barred] = np.inf
    first = np.argpartition(squared, k - 1, axis=1)[:, :k]
    lists = [_exact(rows[i], base, first[i], placement[i, first[i]], squared[i, first[i]]) for i in range(len(rows))]
    return Near(*(np.stack(parts) for parts in zip(*lists, strict=True)))


def _exact(
    placements: NDArray[np.float32],
    base: NDArray[np.float32],
    row: NDArray[np.int64],
    placement: NDArray[np.int64],
    squared: NDArray[np.float32],
) -> Near:
    """Return one query's list in order, with distances in float64."""
    listed = np.isfinite(squared)
    difference = placements[placement].astype(np.float64) - base[row]
    distance = np.where(listed, np.sqrt(np.einsum("kd,kd->k", difference, difference)), np.inf)
    row = np.where(listed, row, -1)
    order = np.lexsort((row, distance))
    return Near(distance[order], row[order], placement[order])
