"""Two folds of the reference: cubes of one group, or of one content, on one side, and every structure on both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLD_COUNT = 2


def assign_folds(*, contents: Sequence[str], groups: Sequence[str], presence: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return each cube's fold, 0 or 1.

    What may not be divided is dealt as one: the cubes of a group, and groups that share a cube. Those that have rare
    structures are dealt first, each to the fold that has fewer of its rarest one; ties go by number of cubes, then by
    content. Names decide nothing.

    Args:
        contents: ``(n,)`` hash of each cube's pixels.
        groups: ``(n,)``.
        presence: bool ``(n, structure)``: which structures a cube has.
    """
    parts = find_linked_cubes(contents, groups)
    has = np.stack([presence[part].any(axis=0) for part in parts])
    common = has.sum(axis=0)
    fold = np.zeros(len(contents), dtype=np.int64)
    dealt, sizes = np.zeros((FOLD_COUNT, presence.shape[1]), dtype=np.int64), [0] * FOLD_COUNT
    for place in sorted(range(len(parts)), key=lambda i: (_compute_rarity(common, has[i]), -len(parts[i]), i)):
        there = np.flatnonzero(has[place])
        rarest = there[np.argmin(common[there])] if len(there) else None
        held = [0 if rarest is None else int(dealt[side, rarest]) for side in range(FOLD_COUNT)]
        side = min(range(FOLD_COUNT), key=lambda each: (held[each], sizes[each], each))
        fold[parts[place]] = side
        dealt[side] += has[place]
        sizes[side] += len(parts[place])
    return fold


def find_linked_cubes(contents: Sequence[str], groups: Sequence[str]) -> list[list[int]]:
    """Return the places of cubes that belong together, in the order of their first cube's content."""
    root = list(range(len(contents)))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    for keys in (contents, groups):
        first: dict[str, int] = {}
        for i, name in enumerate(keys):
            root[find(i)] = find(first.setdefault(name, i))
    members: dict[int, list[int]] = {}
    for i in sorted(range(len(contents)), key=lambda each: (contents[each], each)):
        members.setdefault(find(i), []).append(i)
    return list(members.values())


def _compute_rarity(cube_counts: NDArray[Any], presence: NDArray[np.bool_]) -> int:
    return int(cube_counts[presence].min()) if presence.any() else int(cube_counts.max(initial=0)) + 1


def select_fit_cubes(presence: NDArray[np.bool_], max_count: int) -> list[int]:
    """Return at most ``max_count`` places, ascending: rare structures first come in turn, then the rest, evenly spread.

    Args:
        presence: bool ``(n, structure)`` of cubes in the order of their content.
        max_count: how many.
    """
    if len(presence) <= max_count:
        return list(range(len(presence)))
    structures = presence.shape[1]
    share = max(max_count // (2 * max(structures, 1)), 1)
    taken: list[int] = []
    for structure in np.argsort(presence.sum(axis=0), kind="stable"):
        lacking = share - int(presence[taken, structure].sum())
        more = [int(i) for i in np.flatnonzero(presence[:, structure]) if i not in taken]
        taken += _pick_evenly(more, min(lacking, max_count - len(taken)))
    rest = [i for i in range(len(presence)) if i not in taken]
    return sorted(taken + _pick_evenly(rest, max_count - len(taken)))


def _pick_evenly(indices: Sequence[int], count: int) -> list[int]:
    if count <= 0:
        return []
    picked = np.unique(np.linspace(0, len(indices) - 1, min(count, len(indices))).astype(int))
    return [indices[int(i)] for i in picked]
