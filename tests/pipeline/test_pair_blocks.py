"""Blocks of pairs: different groups, equal shapes, no cube twice."""

from __future__ import annotations

from collections import Counter

import pytest

from hseval.pipeline.pair_blocks import MAX_BLOCK_SIZE, PairBlock, draw_pair_blocks
from hseval.utils.random_streams import create_rng


def dealt(groups: list[str], pairs: int = 10**6, shapes: list[tuple[int, ...]] | None = None) -> list[PairBlock]:
    return draw_pair_blocks(
        groups=groups, shapes=shapes or [(4, 8, 8)] * len(groups), pairs=pairs, rng=create_rng(0, "test")
    )


def test_no_cube_is_in_two_blocks_and_blocks_are_full() -> None:
    found = dealt([f"g{i}" for i in range(100)])
    assert max(Counter(i for block in found for i in block.cube_indices).values()) == 1
    assert [len(block.cube_indices) for block in found] == [MAX_BLOCK_SIZE] * 12


def test_cubes_of_one_group_never_meet() -> None:
    groups = [f"patient-{i // 5}" for i in range(60)]
    for block in dealt(groups):
        assert len({groups[i] for i in block.cube_indices}) == len(block.cube_indices)


def test_blocks_of_different_bins_share_no_group() -> None:
    groups = [f"patient-{i % 12}" for i in range(96)]
    by_bin: dict[int, set[str]] = {}
    for block in dealt(groups):
        by_bin.setdefault(block.group_bin, set()).update(groups[i] for i in block.cube_indices)
    seen = [group for found in by_bin.values() for group in found]
    assert len(by_bin) >= 4
    assert len(seen) == len(set(seen)) == 12


def test_two_groups_are_one_bin_however_many_cubes_they_have() -> None:
    assert {block.group_bin for block in dealt([f"patient-{i % 2}" for i in range(32)])} == {0}


def test_cubes_of_two_shapes_never_meet() -> None:
    shapes = [(4, 8, 8) if i % 3 else (4, 16, 16) for i in range(40)]
    for block in dealt([f"g{i}" for i in range(40)], shapes=shapes):
        assert len({shapes[i] for i in block.cube_indices}) == 1


def test_about_as_many_pairs_as_asked_for() -> None:
    assert len(dealt([f"g{i}" for i in range(200)], pairs=112)) == 4


@pytest.mark.parametrize(("count", "expected"), [(2, 1), (4, 2), (8, 4), (16, 4), (31, 4), (64, 8)])
def test_small_sets_leave_blocks_to_split(count: int, expected: int) -> None:
    found = dealt([f"g{i}" for i in range(count)])
    assert len(found) == expected
    assert all(len(block.cube_indices) > 1 for block in found)


def test_one_group_leaves_no_pair() -> None:
    assert dealt(["scene"] * 9) == []


def test_the_draw_depends_on_the_seed_alone() -> None:
    groups = [f"g{i}" for i in range(40)]
    assert dealt(groups) == dealt(groups)
    other = draw_pair_blocks(groups=groups, shapes=[(4, 8, 8)] * 40, pairs=10**6, rng=create_rng(1, "test"))
    assert dealt(groups) != other
