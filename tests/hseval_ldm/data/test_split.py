"""The split: whole groups, close to the requested share, and independent of the order of the files."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hseval.core.cubes import ArraySet
from hseval.utils.errors import HsevalError
from hseval_ldm.data.split import split_held_out


def make_set(groups: list[str] | None, ids: list[str] | None = None, n: int = 0) -> ArraySet:
    count = n or len(groups or ids or [])
    return ArraySet(np.zeros((count, 1, 1, 1)), ids=ids, groups=groups, location="eyes.h5")


GROUPINGS = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f", ""]), min_size=1, max_size=40)


@given(GROUPINGS, st.floats(0, 0.9), st.integers(0, 2**40))
def test_the_set_is_split_by_whole_groups_or_refused(groups: list[str], share: float, seed: int) -> None:
    try:
        train, held_out = split_held_out(make_set(groups), share=share, seed=seed)
    except HsevalError as error:
        assert "eyes.h5: " in str(error)
        assert "hseval_ldm needs" in str(error)
        sizes = [groups.count(name) for name in set(groups) - {""}] + [1] * groups.count("")
        assert len(groups) < 4 or len(sizes) < 2 or max(sizes) > len(groups) - 2
        return
    assert sorted(train + held_out) == list(range(len(groups)))
    assert len(train) >= 2
    assert len(held_out) >= 2 or share == 0
    assert not {groups[i] for i in train} & {groups[i] for i in held_out} - {""}


@given(st.permutations(range(12)), st.integers(0, 9))
def test_the_held_out_cubes_do_not_depend_on_the_order_of_the_files(order: list[int], seed: int) -> None:
    ids, groups = [f"eye-{i}" for i in range(12)], [f"person-{i // 2}" if i < 8 else "" for i in range(12)]
    plain = split_held_out(make_set(groups, ids), share=0.3, seed=seed)
    mixed = split_held_out(make_set([groups[i] for i in order], [ids[i] for i in order]), share=0.3, seed=seed)
    assert {order[i] for i in mixed.held_out} == set(plain.held_out)


def test_the_requested_share_is_held_out_and_other_cubes_under_another_seed() -> None:
    splits = [split_held_out(make_set(None, n=100), share=0.1, seed=seed) for seed in range(5)]
    assert [len(split.held_out) for split in splits] == [10] * 5
    assert len({split.held_out for split in splits}) == 5


def test_the_groups_that_come_closest_to_the_share_are_held_out() -> None:
    groups = ["large"] * 17 + ["small"] * 3
    assert split_held_out(make_set(groups), share=0.1, seed=0).held_out == (17, 18, 19)


def test_of_large_groups_only_the_smallest_is_held_out() -> None:
    groups = ["a"] * 7 + ["b"] * 5 + ["c"] * 6
    assert split_held_out(make_set(groups), share=0.1, seed=3).held_out == (7, 8, 9, 10, 11)


@pytest.mark.parametrize("share", [0.05, 0.9])
def test_each_part_has_the_minimum_number_of_cubes(share: float) -> None:
    train, held_out = split_held_out(make_set(None, n=10), share=share, seed=0, min_cubes=3)
    assert min(len(train), len(held_out)) == 3


@given(st.integers(0, 20))
def test_a_group_that_would_leave_too_few_cubes_for_training_is_skipped(seed: int) -> None:
    train, held_out = split_held_out(make_set(["a"] * 3 + ["b"] * 3 + ["c"] * 2), share=0.6, seed=seed, min_cubes=3)
    assert min(len(train), len(held_out)) >= 3


def test_a_share_of_0_holds_no_cube_out() -> None:
    assert split_held_out(make_set(["one"] * 3), share=0, seed=1) == ((0, 1, 2), ())


@pytest.mark.parametrize(
    ("groups", "share", "message"),
    [
        (["p"] * 3, 0.2, "3 cubes in 1 group; hseval_ldm needs 4 cubes in 2 groups or more (or held_out=0)"),
        (["p"], 0.0, "1 cube in 1 group; hseval_ldm needs 2 cubes in 1 group or more"),
        (["p"] * 9 + ["q"], 0.2, "the largest of 2 groups holds 9 of 10 cubes"),
    ],
)
def test_a_set_that_cannot_be_split_is_refused_with_the_requirements(
    groups: list[str], share: float, message: str
) -> None:
    with pytest.raises(HsevalError) as error:
        split_held_out(make_set(groups), share=share, seed=0)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
