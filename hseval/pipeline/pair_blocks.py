"""Blocks of cubes in which every pair is compared, dealt so that no group is in two bins."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

MAX_BLOCK_SIZE = 8  # cubes: what each costs alone is shared by 28 pairs, and eight fit in memory at 672 x 672 x 16


@dataclasses.dataclass(frozen=True)
class PairBlock:
    """Cubes of one shape and of different groups, and the bin of groups that they come from."""

    cube_indices: tuple[int, ...]
    group_bin: int


def draw_pair_blocks(
    *, groups: Sequence[str], shapes: Sequence[tuple[int, ...]], pairs: int, rng: np.random.Generator
) -> list[PairBlock]:
    """Return disjoint blocks with about ``pairs`` pairs in all.

    Groups are dealt into bins first, and a block draws from one bin: bins are what splits may keep apart, so that no
    group is on both sides. Few groups get smaller bins, so that at least four are left where there are eight groups.
    """
    members = _shuffle_groups(groups, rng)
    size = int(np.clip(len(members) // 4, 2, MAX_BLOCK_SIZE))
    wanted = -(-pairs // (size * (size - 1) // 2))
    bins = [members[start : start + size] for start in range(0, len(members), size)]
    found: list[PairBlock] = []
    for turn in range(max(map(len, members), default=0)):
        for place, dealt in enumerate(bins):
            drawn = [group[turn] for group in dealt if turn < len(group)]
            found.extend(PairBlock(same, place) for same in _split_by_shape(drawn, shapes) if len(same) > 1)
        if len(found) >= wanted:
            break
    full = [block for block in found if len(block.cube_indices) == size]
    return (full or found)[:wanted]


def _shuffle_groups(groups: Sequence[str], rng: np.random.Generator) -> list[list[int]]:
    """Return each group's cubes, groups and cubes in random order that depends on content order alone."""
    members: dict[str, list[int]] = {}
    for i in rng.permutation(len(groups)):
        members.setdefault(groups[i], []).append(int(i))
    return list(members.values())


def _split_by_shape(indices: Sequence[int], shapes: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    found: dict[tuple[int, ...], list[int]] = {}
    for i in indices:
        found.setdefault(shapes[i], []).append(i)
    return [tuple(same) for same in found.values()]
