"""Blocks of pairs: different groups, equal shapes, no cube in two blocks."""

from __future__ import annotations

from collections import Counter

import pytest

from hseval.pipeline.pair_blocks import MAX_BLOCK_SIZE, PairBlock, draw_pair_blocks
from hseval.utils.random_streams import create_rng


def draw_blocks(groups: list[str], pairs: int = 10**6, shapes: list[tuple[int, ...]] | None = None) -> list[PairBlock]:
    return draw_pair_blocks(
        groups=groups, shapes=shapes or [(4, 8, 8)] * len(groups), pairs=pairs, rng=create_rng(0, "test")
    )


def test_no_cube_is_in_two_blocks_and_blocks_are_full() -> None:
    blocks = draw_blocks([f"g{i}" for i in range(100)])
    assert max(Counter(i for block in blocks for i in block.cube_indices).values()) == 1
    assert [len(block.cube_indices) for block in blocks] == [MAX_BLOCK_SIZE] * 12


def test_cubes_of_one_group_are_never_in_one_block() -> None:
    groups = [f"patient-{i // 5}" for i in range(60)]
    for block in draw_blocks(groups):
        assert len({groups[i] for i in block.cube_indices}) == len(block.cube_indices)


def test_blocks_of_different_bins_share_no_group() -> None:
    groups = [f"patient-{i % 12}" for i in range(96)]
    by_bin: dict[int, set[str]] = {}
    for block in draw_blocks(groups):
        by_bin.setdefault(block.group_bin, set()).update(groups[i] for i in block.cube_indices)
    all_groups = [group for bin_groups in by_bin.values() for group in bin_groups]
    assert len(by_bin) >= 4
    assert len(all_groups) == len(set(all_groups)) == 12


def test_two_groups_are_one_bin_whatever_their_number_of_cubes() -> None:
    assert {block.group_bin for block in draw_blocks([f"patient-{i % 2}" for i in range(32)])} == {0}


def test_cubes_of_two_shapes_are_never_in_one_block() -> None:
    shapes = [(4, 8, 8) if i % 3 else (4, 16, 16) for i in range(40)]
    for block in draw_blocks([f"g{i}" for i in range(40)], shapes=shapes):
        assert len({shapes[i] for i in block.cube_indices}) == 1


def test_the_number_of_pairs_is_about_the_requested_one() -> None:
    assert len(draw_blocks([f"g{i}" for i in range(200)], pairs=112)) == 4


@pytest.mark.parametrize(("count", "expected"), [(2, 1), (4, 2), (8, 4), (16, 4), (31, 4), (64, 8)])
def test_small_sets_have_enough_blocks_to_split(count: int, expected: int) -> None:
    blocks = draw_blocks([f"g{i}" for i in range(count)])
    assert len(blocks) == expected
    assert all(len(block.cube_indices) > 1 for block in blocks)


def test_one_group_has_no_pair() -> None:
    assert draw_blocks(["scene"] * 9) == []


def test_the_draw_depends_on_the_seed_alone() -> None:
    groups = [f"g{i}" for i in range(40)]
    assert draw_blocks(groups) == draw_blocks(groups)
    other_seed = draw_pair_blocks(groups=groups, shapes=[(4, 8, 8)] * 40, pairs=10**6, rng=create_rng(1, "test"))
    assert draw_blocks(groups) != other_seed
