"""The split: whole groups, the asked share as near as they allow, and nothing of the order of the files."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hseval.core.cubes import ArraySet
from hseval.utils.errors import HsevalError
from hseval_ldm.data.split import split_held_out


def named(groups: list[str] | None, ids: list[str] | None = None, n: int = 0) -> ArraySet:
    count = n or len(groups or ids or [])
    return ArraySet(np.zeros((count, 1, 1, 1)), ids=ids, groups=groups, location="eyes.h5")


groupings = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f", ""]), min_size=1, max_size=40)


@given(groupings, st.floats(0, 0.9), st.integers(0, 2**40))
def test_parts_the_set_in_whole_groups_or_says_why_not(groups: list[str], share: float, seed: int) -> None:
    try:
        train, held = split_held_out(named(groups), share=share, seed=seed)
    except HsevalError as error:
        assert "eyes.h5: " in str(error)
        assert "hseval_ldm needs" in str(error)
        sizes = [groups.count(name) for name in set(groups) - {""}] + [1] * groups.count("")
        assert len(groups) < 4 or len(sizes) < 2 or max(sizes) > len(groups) - 2
        return
    assert sorted(train + held) == list(range(len(groups)))
    assert len(train) >= 2
    assert len(held) >= 2 or share == 0
    assert not {groups[i] for i in train} & {groups[i] for i in held} - {""}


@given(st.permutations(range(12)), st.integers(0, 9))
def test_who_is_held_out_does_not_depend_on_the_order_of_the_files(order: list[int], seed: int) -> None:
    ids, groups = [f"eye-{i}" for i in range(12)], [f"person-{i // 2}" if i < 8 else "" for i in range(12)]
    plain = split_held_out(named(groups, ids), share=0.3, seed=seed)
    mixed = split_held_out(named([groups[i] for i in order], [ids[i] for i in order]), share=0.3, seed=seed)
    assert {order[i] for i in mixed.held_out} == set(plain.held_out)


def test_holds_out_the_share_asked_for_and_other_cubes_under_another_seed() -> None:
    sides = [split_held_out(named(None, n=100), share=0.1, seed=seed) for seed in range(5)]
    assert [len(side.held_out) for side in sides] == [10] * 5
    assert len({side.held_out for side in sides}) == 5


def test_takes_the_groups_whose_cubes_come_nearest_to_the_share() -> None:
    groups = ["large"] * 17 + ["small"] * 3
    assert split_held_out(named(groups), share=0.1, seed=0).held_out == (17, 18, 19)


def test_large_groups_only_the_smallest_is_held_out() -> None:
    groups = ["a"] * 7 + ["b"] * 5 + ["c"] * 6
    assert split_held_out(named(groups), share=0.1, seed=3).held_out == (7, 8, 9, 10, 11)


@pytest.mark.parametrize("share", [0.05, 0.9])
def test_each_side_keeps_the_least_number_of_cubes(share: float) -> None:
    train, held = split_held_out(named(None, n=10), share=share, seed=0, min_cubes=3)
    assert min(len(train), len(held)) == 3


@given(st.integers(0, 20))
def test_a_group_that_would_leave_too_few_for_training_is_passed_over(seed: int) -> None:
    train, held = split_held_out(named(["a"] * 3 + ["b"] * 3 + ["c"] * 2), share=0.6, seed=seed, min_cubes=3)
    assert min(len(train), len(held)) >= 3


def test_a_share_of_nothing_holds_nothing_out() -> None:
    assert split_held_out(named(["one"] * 3), share=0, seed=1) == ((0, 1, 2), ())


@pytest.mark.parametrize(
    ("groups", "share", "told"),
    [
        (["p"] * 3, 0.2, "3 cubes of 1 group; hseval_ldm needs 4 cubes of 2 groups or more (or hold out a share of 0)"),
        (["p"], 0.0, "1 cube of 1 group; hseval_ldm needs 2 cubes of 1 group or more"),
        (["p"] * 9 + ["q"], 0.2, "the largest of 2 groups holds 9 of 10 cubes"),
        (["p"] * 9, 1.0, "the share of cubes to hold out is 1, expected 0 or more and less than 1"),
    ],
)
def test_a_set_that_cannot_be_parted_says_what_it_has_and_what_it_needs(
    groups: list[str], share: float, told: str
) -> None:
    with pytest.raises(HsevalError) as error:
        split_held_out(named(groups), share=share, seed=0)
    assert told in str(error.value)
    assert "\n" not in str(error.value)
