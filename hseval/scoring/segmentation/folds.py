"""Two folds of the reference: cubes of one group, or of one content, in one fold, and every structure in both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hseval.pipeline.inputs import label_connected_groups

FOLD_COUNT = 2


def assign_folds(*, contents: Sequence[str], groups: Sequence[str], presence: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return each cube's fold, 0 or 1.

    The cubes of a group, and groups that share a cube, are assigned as one unit. Units with rare structures come first,
    each assigned to the fold with fewer of its rarest one; ties are broken by number of cubes, then by content. Names
    decide nothing.

    Args:
        contents: ``(n,)`` hash of each cube's pixels.
        groups: ``(n,)``.
        presence: bool ``(n, structure)``: which structures a cube has.
    """
    units = find_linked_cubes(contents, groups)
    unit_presence = np.stack([presence[unit].any(axis=0) for unit in units])
    unit_counts = unit_presence.sum(axis=0)
    folds = np.zeros(len(contents), dtype=np.int64)
    fold_counts, sizes = np.zeros((FOLD_COUNT, presence.shape[1]), dtype=np.int64), [0] * FOLD_COUNT
    most = int(unit_counts.max(initial=0)) + 1
    rarities = [int(unit_counts[present].min(initial=most)) for present in unit_presence]
    for index in sorted(range(len(units)), key=lambda i: (rarities[i], -len(units[i]), i)):
        present = np.flatnonzero(unit_presence[index])
        rarest = present[np.argmin(unit_counts[present])] if len(present) else None
        rarest_counts = [0 if rarest is None else int(fold_counts[fold, rarest]) for fold in range(FOLD_COUNT)]
        fold = min(range(FOLD_COUNT), key=lambda candidate: (rarest_counts[candidate], sizes[candidate], candidate))
        folds[units[index]] = fold
        fold_counts[fold] += unit_presence[index]
        sizes[fold] += len(units[index])
    return folds


def find_linked_cubes(contents: Sequence[str], groups: Sequence[str]) -> list[list[int]]:
    """Return the indices of cubes that belong together, in the order of their first cube's content."""
    labels = label_connected_groups(groups, contents)
    members: dict[int, list[int]] = {}
    for i in sorted(range(len(contents)), key=lambda index: (contents[index], index)):
        members.setdefault(int(labels[i]), []).append(i)
    return list(members.values())


def select_fit_cubes(presence: NDArray[np.bool_], max_count: int) -> list[int]:
    """Return at most ``max_count`` indices, ascending: cubes with rare structures first, then others, evenly spaced.

    Args:
        presence: bool ``(n, structure)`` of cubes in the order of their content.
        max_count: number of cubes.
    """
    if len(presence) <= max_count:
        return list(range(len(presence)))
    structures = presence.shape[1]
    share = max(max_count // (2 * max(structures, 1)), 1)
    selected: list[int] = []
    for structure in np.argsort(presence.sum(axis=0), kind="stable"):
        missing = share - int(presence[selected, structure].sum())
        candidates = [int(i) for i in np.flatnonzero(presence[:, structure]) if i not in selected]
        selected += _pick_evenly(candidates, min(missing, max_count - len(selected)))
    rest = [i for i in range(len(presence)) if i not in selected]
    return sorted(selected + _pick_evenly(rest, max_count - len(selected)))


def _pick_evenly(indices: Sequence[int], count: int) -> list[int]:
    if count <= 0:
        return []
    positions = np.unique(np.linspace(0, len(indices) - 1, min(count, len(indices))).astype(int))
    return [indices[int(i)] for i in positions]
