"""Blocks of cubes in which every pair is compared; each group of cubes is in one bin of blocks only."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

MAX_BLOCK_SIZE = 8  # cubes: 28 pairs share the cost of preparing each, and eight fit in memory at 672 x 672 x 16


@dataclasses.dataclass(frozen=True)
class PairBlock:
    """Cubes of one shape and of different groups, and the bin of groups that they come from."""

    cube_indices: tuple[int, ...]
    group_bin: int


def draw_pair_blocks(
    *, groups: Sequence[str], shapes: Sequence[tuple[int, ...]], pairs: int, rng: np.random.Generator
) -> list[PairBlock]:
    """Return disjoint blocks with about ``pairs`` pairs in total.

    Groups are first assigned to bins, and a block draws from one bin: splits keep a bin whole, so that no group is on
    both sides. Few groups get smaller bins, so that eight groups still make at least four.
    """
    members = _shuffle_groups(groups, rng)
    size = int(np.clip(len(members) // 4, 2, MAX_BLOCK_SIZE))
    block_count = -(-pairs // (size * (size - 1) // 2))
    bins = [members[start : start + size] for start in range(0, len(members), size)]
    blocks: list[PairBlock] = []
    for turn in range(max(map(len, members), default=0)):
        for bin_index, bin_groups in enumerate(bins):
            sampled = [group[turn] for group in bin_groups if turn < len(group)]
            blocks.extend(
                PairBlock(indices, bin_index) for indices in _split_by_shape(sampled, shapes) if len(indices) > 1
            )
        if len(blocks) >= block_count:
            break
    full = [block for block in blocks if len(block.cube_indices) == size]
    return (full or blocks)[:block_count]


def _shuffle_groups(groups: Sequence[str], rng: np.random.Generator) -> list[list[int]]:
    """Return each group's cubes, groups and cubes in random order that depends on content order alone."""
    members: dict[str, list[int]] = {}
    for i in rng.permutation(len(groups)):
        members.setdefault(groups[i], []).append(int(i))
    return list(members.values())


def _split_by_shape(indices: Sequence[int], shapes: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for i in indices:
        by_shape.setdefault(shapes[i], []).append(i)
    return [tuple(members) for members in by_shape.values()]
