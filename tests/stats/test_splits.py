"""Splits, floors and verdicts."""

from __future__ import annotations

import numpy as np
import pytest

from hseval.stats.splits import average_details, compute_std, decide_verdict, draw_splits, is_separated
from hseval.utils.random_streams import create_rng
from tests.helpers.simulated_features import MeanDistance, draw_normal_table, score_tables


def draw(real: list[str], generated: list[str], repeats: int = 8) -> list:
    return draw_splits(
        real_groups=np.array(real), generated_groups=np.array(generated), repeats=repeats, rng=create_rng(0, "test")
    )


def test_sides_are_disjoint_and_of_the_size_that_the_smaller_set_allows() -> None:
    for split in draw([f"r{i}" for i in range(20)], [f"f{i}" for i in range(7)]):
        assert len(split.real) == len(split.holdout) == len(split.generated) == 7
        assert not set(split.real) & set(split.holdout)
    for split in draw([f"r{i}" for i in range(20)], [f"f{i}" for i in range(70)]):
        assert len(split.real) == len(split.holdout) == len(split.generated) == 10


def test_no_group_is_on_both_sides() -> None:
    groups = [f"patient-{i // 3}" for i in range(30)] + ["big"] * 9
    for split in draw(groups, [f"f{i}" for i in range(50)], repeats=30):
        assert not {groups[i] for i in split.real} & {groups[i] for i in split.holdout}


@pytest.mark.parametrize(("quick", "count"), [(False, 16), (True, 6)])
def test_a_score_is_a_mean_over_sixteen_splits_and_a_quick_one_over_six(quick: bool, count: int) -> None:
    score = score_tables(MeanDistance(), draw_normal_table(40, 1), draw_normal_table(20, 2), quick=quick)
    assert score.statistics is not None and score.statistics.resamples is not None
    replicates = score.statistics.resamples.replicates
    assert replicates is not None
    assert score.statistics.count == len(replicates.splits) == count
    assert score.value == pytest.approx(np.mean([value for value, _, _ in replicates.splits]))


def test_the_standard_deviation_over_splits_is_that_of_a_sample_and_0_for_one() -> None:
    assert compute_std([1.0, 3.0]) == pytest.approx(np.sqrt(2))
    assert compute_std([3.0]) == 0.0


def test_values_are_separated_from_floors_only_if_none_lies_between_them() -> None:
    assert is_separated([1.1, 1.2], [0.5, 1.0]) and is_separated([0.1, 0.4], [0.5, 1.0])
    assert not is_separated([0.2, 0.9], [0.5, 1.0]) and not is_separated([0.7, 1.2], [0.5, 1.0])


def test_one_group_can_not_be_halved() -> None:
    assert draw(["scene"] * 10, [f"f{i}" for i in range(10)]) == []


def test_splits_do_not_depend_on_the_names_of_groups() -> None:
    splits = draw(["a", "b", "c", "c", "d", "e"], ["x", "y", "z"])
    renamed = draw(["z", "k", "1", "1", "0", "m"], ["3", "2", "1"])
    assert all(
        (a.real == b.real).all() and (a.generated == b.generated).all() for a, b in zip(splits, renamed, strict=True)
    )


@pytest.mark.parametrize(
    ("values", "better", "expected"),
    [
        ([1.0, 1.1, 0.9], "lower", "like real"),
        ([3.0, 3.1, 2.9], "lower", "worse than real"),
        ([0.1, 0.11, 0.09], "lower", "closer than real"),
        ([3.0, 3.1, 2.9], "higher", "closer than real"),
        ([3.0, 3.1, 2.9], "floor", "too high"),
        ([0.1, 0.11, 0.09], "floor", "too low"),
    ],
)
def test_the_verdict_follows_the_difference_and_the_standard_deviations(
    values: list[float], better: str, expected: str
) -> None:
    assert decide_verdict(values, [1.0, 1.1, 0.9], better) == expected  # type: ignore[arg-type]


def test_a_floor_of_zero_has_a_verdict() -> None:
    assert decide_verdict([0.0, 0.0], [0.0, 0.0], "lower") == "like real"
    assert decide_verdict([0.1, 0.1], [0.0, 0.0], "lower") == "worse than real"


def test_details_are_averaged_where_they_are_numbers() -> None:
    averaged = average_details([{"a": 1.0, "b": {"c": [1, 2]}, "d": "x"}, {"a": 3.0, "b": {"c": [3, 4]}, "d": "x"}])
    assert averaged == {"a": 2.0, "b": {"c": [2.0, 3.0]}}


def test_outliers_that_inflate_the_standard_deviation_are_detected() -> None:
    outlying = [20.0, 300.0, 25.0, 150.0, 30.0]
    assert decide_verdict(outlying, [1.0, 1.2, 0.8, 1.1, 0.9], "lower") == "worse than real"
    assert decide_verdict([*outlying, 1.1], [1.0, 1.2, 0.8, 1.1, 0.9, 1.0], "lower") == "like real"
