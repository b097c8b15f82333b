"""Intervals: a short check of coverage, closed forms, what they depend on, and when there is none."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, norm, t

import hseval
from hseval.core.plugin_manager import get_plugins
from hseval.core.report import Score
from hseval.core.report_file import load_report
from hseval.core.score_records import DetectableDifference
from hseval.reporting.summary import iterate_remarks
from hseval.stats.folded_normal import SideVariance, compute_folded_intervals, folded_normal_mean
from hseval.stats.paired import compare_paired
from hseval.stats.resampling import ResamplingPlan, compute_finite_split_variance
from hseval.stats.variance import compute_detectable_difference
from hseval.utils.errors import NotComputable
from tests.helpers.described_sets import extract_table
from tests.helpers.sets import make_texture_set
from tests.helpers.simulated_features import Mean, MeanDistance, Shift, draw_normal_table, make_table, score_tables

REPEATS = 60
MIN_HITS = int(binom.ppf(0.001, REPEATS, 0.95))  # a method that covers 95 % falls below this once in 1000
SIZE, SAMPLES = 30, 40  # m = 15: both sides' bias is large, and part of what is estimated


def compute_truth(offset: float) -> tuple[float, float]:
    """Return the expected squared distance at (m, m) of 3-dimensional unit normals, and its excess."""
    m = SIZE // 2
    return 3 * offset**2 + 3 * 2 / m, 3 * offset**2


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_intervals_contain_the_truth_as_often_as_their_level(offset: float) -> None:
    """A short version of `benchmarks/evidence/coverage.py`, where the truth has a closed form."""
    value, excess = compute_truth(offset)
    hits, widths, excesses = np.zeros(2), [], []
    for repeat in range(REPEATS):
        score = score_tables(
            MeanDistance(),
            draw_normal_table(SIZE, 2 * repeat),
            draw_normal_table(SAMPLES, 2 * repeat + 1, offset=offset),
            seed=repeat,
            quick=True,
        )
        assert score.interval is not None and score.value is not None and score.excess_interval is not None
        low, high = score.excess_interval
        hits += score.interval[0] <= value <= score.interval[1], low <= excess <= high
        widths.append(high - low)
        excesses.append(score.excess)
    assert (hits >= MIN_HITS).all(), hits
    assert np.median(widths) < 2 * 2 * 1.96 * np.std(excesses)  # and they are not much too wide


def test_an_interval_that_ignores_groups_contains_the_truth_too_rarely() -> None:
    hits, ungrouped_hits = 0, 0
    for repeat in range(20):
        real = draw_normal_table(60, 2 * repeat, group=6)
        generated = draw_normal_table(60, 2 * repeat + 1, group=6)
        grouped = score_tables(Mean(), real, generated, seed=repeat, quick=True).interval
        ungrouped = score_tables(Mean(), real, make_table(generated["x"]), seed=repeat, quick=True).interval
        assert grouped is not None and ungrouped is not None
        hits += grouped[0] <= 0.0 <= grouped[1]
        ungrouped_hits += ungrouped[0] <= 0.0 <= ungrouped[1]
    assert hits >= binom.ppf(0.001, 20, 0.95)
    assert ungrouped_hits < hits


def test_the_interval_of_a_mean_is_student_s() -> None:
    """Every sample is in equally many splits, so that their mean is the plain mean, with its standard error."""
    generated = draw_normal_table(24, 3)
    score = score_tables(Mean(), draw_normal_table(48, 1), generated)
    values = generated["x"][:, 0]
    assert score.interval is not None
    assert score.value == pytest.approx(values.mean())
    half = (score.interval[1] - score.interval[0]) / 2
    assert half / (values.std(ddof=1) / np.sqrt(24)) == pytest.approx(2.069, abs=0.03)  # t at 23 degrees


def test_the_smallest_detectable_difference_is_the_textbook_s() -> None:
    """For two means of n: (t + 0.84) standard deviations of their difference; half of it at four times as many."""
    generated = draw_normal_table(24, 3)
    detectable = get_detectable(score_tables(Mean(), draw_normal_table(48, 1), generated))
    expected = (t.ppf(0.975, 23) + norm.ppf(0.8)) * np.sqrt(2 * generated["x"][:, 0].var(ddof=1) / 24)
    assert detectable.difference == pytest.approx(expected)
    assert detectable.difference_at_4n == pytest.approx(expected / 2)
    assert detectable.samples == 24


def get_detectable(score: Score) -> DetectableDifference:
    assert score.statistics is not None and score.statistics.detectable is not None
    return score.statistics.detectable


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_a_difference_of_that_size_is_significant_about_as_often_as_its_power(offset: float) -> None:
    """The worse generator's score varies more, and differs significantly nevertheless."""

    def score_pair(seed: int, b: float) -> tuple[Any, Any]:
        real = draw_normal_table(120, 3 * seed)
        return tuple(
            score_tables(
                MeanDistance(), real, draw_normal_table(60, 3 * seed + k, offset=mean_offset), seed=seed, quick=True
            )
            for k, mean_offset in ((1, b), (2, offset))
        )  # type: ignore[return-value]

    smallest = np.mean([get_detectable(score_pair(seed, offset)[1]).difference for seed in range(5)])
    worse = np.sqrt(offset**2 + smallest / 3)
    power = np.mean([compare_paired(*score_pair(100 + seed, worse)).interval[0] > 0 for seed in range(20)])
    assert 0.5 <= power < 0.99  # at a power of 80 %, 10 of 20 or fewer occur once in 1000


def test_a_worse_generator_s_larger_variance_is_counted() -> None:
    plain = compute_detectable_difference(1.0, 1.0, 1.96, score=None)
    assert plain == pytest.approx(2.8016 * np.sqrt(2), rel=1e-4)
    for score in (0.1, 1.0, 10.0):
        difference = compute_detectable_difference(1.0, 0.5, 1.96, score=score)
        variance = 1.0 * (2 + difference / score) + 0.5 * (np.sqrt(1 + difference / score) - 1) ** 2
        assert difference == pytest.approx(2.8016 * np.sqrt(variance), rel=1e-4)
        assert difference > plain
    assert compute_detectable_difference(1.0, 1.0, 1.96, score=1e6) == pytest.approx(plain, rel=1e-4)


def test_a_distance_s_interval_is_positive_and_a_wide_one_is_skewed_upward() -> None:
    score = score_tables(MeanDistance(), draw_normal_table(16, 1), draw_normal_table(16, 2))
    assert score.interval is not None and score.value is not None
    low, high = score.interval
    assert 0 < low < score.value < high
    assert high - score.value > score.value - low


@pytest.mark.parametrize("metric", [MeanDistance, Shift, Mean])
def test_intervals_contain_the_estimate(metric: Callable[[], Any]) -> None:
    for seed in range(6):
        score = score_tables(metric(), draw_normal_table(12, seed), draw_normal_table(12, 50 + seed), seed=seed)
        assert score.interval is not None and score.value is not None
        assert score.interval[0] <= score.value <= score.interval[1]
        assert score.excess is not None and score.excess_interval is not None
        assert score.excess_interval[0] <= score.excess <= score.excess_interval[1]


def test_more_cubes_give_narrower_intervals() -> None:
    widths = []
    for n in (20, 80, 320):
        score = score_tables(MeanDistance(), draw_normal_table(n, 1), draw_normal_table(n, 2, offset=1.0))
        assert score.interval is not None
        widths.append(score.interval[1] - score.interval[0])
    assert widths[0] > 1.5 * widths[1] > 1.5 * 1.5 * widths[2]


def test_intervals_repeat_and_do_not_depend_on_order_or_names() -> None:
    real, generated = draw_normal_table(30, 1, group=3), draw_normal_table(30, 2)
    score = score_tables(MeanDistance(), real, generated)
    assert score_tables(MeanDistance(), real, generated) == score
    groups = [f"z{name[::-1]}" for name in real.groups]
    reordered = score_tables(
        MeanDistance(), dataclasses.replace(real, groups=np.array(groups), ids=real.ids[::-1]), generated
    )
    assert reordered.interval == score.interval
    assert score_tables(MeanDistance(), real, generated, seed=1).interval != score.interval


def test_fewer_than_four_groups_have_no_interval_and_the_statistics_give_the_reason() -> None:
    score = score_tables(MeanDistance(), draw_normal_table(30, 1, group=10), draw_normal_table(30, 2))
    assert score.value is not None and score.interval is None and score.statistics is not None
    assert score.statistics.no_interval == "3 independent groups of real cubes, expected at least 4"
    assert score.statistics.resamples is None


class NotComputableMetric(MeanDistance):
    """Has no value where a row is missing."""

    def headline(self, *, real: Any, generated: Any, train: Any = None) -> float:
        """Fail."""
        raise NotComputable("a row is missing")


class ConstantMetric(MeanDistance):
    """The same value whatever the cubes."""

    def headline(self, *, real: Any, generated: Any, train: Any = None) -> float:
        """Return 1."""
        return 1.0


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        (NotComputableMetric, "with some cubes left out, it has no value: a row is missing"),
        (ConstantMetric, "the value does not depend on which cubes are left out"),
    ],
)
def test_there_is_no_interval_where_replicates_fail_or_do_not_vary(metric: type[MeanDistance], reason: str) -> None:
    class WithFullValue(metric):  # type: ignore[misc, valid-type]
        def compare(self, **inputs: Any) -> float:
            return MeanDistance().compare(**inputs) if metric is NotComputableMetric else 1.0

    score = score_tables(WithFullValue(), draw_normal_table(20, 1), draw_normal_table(20, 2))
    assert score.value is not None and score.interval is score.excess_interval is None
    assert score.statistics is not None and reason in (score.statistics.no_interval or "")


def test_the_plan_depends_on_the_size_and_its_cost_is_bounded() -> None:
    plans = [ResamplingPlan.for_size(size) for size in (2, 12, 50, 51, 200, 1000, 1001, 100_000)]
    costs = [(2 * plan.block_count + plan.block_pairs) * 2 * plan.split_pairs * 2 for plan in plans]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] <= 1600 and costs[-1] >= 80


def test_the_plan_by_size_is_that_of_the_docs() -> None:
    """`docs/intervals.md`: 12 to 24 blocks per side, the first 2 to 8 splits (1 to 4 complementary pairs)."""
    plans = {size: dataclasses.astuple(ResamplingPlan.for_size(size)) for size in (2, 50, 51, 100, 1000, 1001, 10**6)}
    assert plans[2] == plans[50] == (4, 24, 48)
    assert plans[51] == plans[100] == (4, 16, 36)
    assert plans[1000] == (1, 16, 36)
    assert plans[1001] == plans[10**6] == (1, 12, 18)


def test_the_variance_of_fewer_splits_follows_from_pairs_of_splits() -> None:
    splits = np.array([[1.0], [3.0], [5.0], [7.0], [2.0], [2.0], [6.0], [6.0]])  # pairs: 2, 6, 2, 6
    assert compute_finite_split_variance(splits, 8) == pytest.approx(0.0)
    assert compute_finite_split_variance(splits, 4) == pytest.approx(np.var([2, 6, 2, 6], ddof=1) * (1 / 2 - 1 / 4))


def test_the_mean_of_the_folded_normal() -> None:
    rng = np.random.default_rng(0)
    for mean, std in ((0.0, 1.0), (0.7, 0.5), (-2.0, 1.0), (3.0, 0.0)):
        expected = np.abs(rng.normal(mean, std, 200_000)).mean()
        assert folded_normal_mean(np.array([mean]), np.array([std]))[0] == pytest.approx(expected, rel=0.01)


def test_the_interval_of_an_absolute_difference_far_from_zero_is_that_of_the_difference() -> None:
    sides = {name: SideVariance(variance=0.01, block_count=200, share=0.5) for name in ("real", "generated")}
    value, excess = compute_folded_intervals(5.0, **sides, rng=np.random.default_rng(0))
    assert value == pytest.approx(5 + 1.97 * np.sqrt(0.02) * np.array([-1, 1]), abs=0.02)
    floor = np.sqrt(2 * 0.02) * np.sqrt(2 / np.pi)
    assert excess == pytest.approx(value - floor, abs=0.03)


def test_the_interval_for_no_difference_contains_the_floor() -> None:
    """The mean of an absolute difference is never 0, even for equal sets: the interval contains the floor."""
    sides = {name: SideVariance(variance=1.0, block_count=30, share=0.5) for name in ("real", "generated")}
    value, excess = compute_folded_intervals(0.0, **sides, rng=np.random.default_rng(0))
    floor = np.sqrt(2 / np.pi) * np.sqrt(4)  # E|D| at one split, of standard deviation 2
    assert value[0] < floor < value[1] and value[0] > 0.5 * floor
    assert excess[0] < 0.1 < excess[1]


SETS = [make_texture_set(12, size=24, bands=4, seed=seed) for seed in range(3)]


@pytest.mark.parametrize(
    "name", ["fid", "fid-spectral", "spectral-kl", "spectral-angle", "band-covariance", "power-spectrum"]
)
def test_the_headline_equals_the_value_of_compare(name: str) -> None:
    metric = get_plugins().build("metric", name)
    real, generated, _ = metric.relate(
        **{
            side: extract_table(cubes, *metric.needs.features)
            for side, cubes in zip(("real", "generated"), SETS, strict=False)
        },
        train=None,
    )
    full = metric.compare(real=real, generated=generated, rng=np.random.default_rng(0)).value
    assert metric.headline(real=real, generated=generated) == pytest.approx(full, rel=1e-12)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> hseval.Report:
    """Return a report of every built-in metric, written and read."""
    folder = tmp_path_factory.mktemp("report")
    scored = hseval.score(
        SETS[0], ref=SETS[1], train=SETS[2], metrics=["all"], segmenter="none", cache=False, quick=True
    )
    scored.save(folder / "report.json")
    return load_report(folder / "report.json")


def test_every_metric_has_an_interval_or_a_reason_why_not(report: hseval.Report) -> None:
    assert {score.name for score in report.scores} >= {"fid", "kid", "prdc", "vendi", "membership", "plausibility"}
    for score in report.scores:
        assert score.value is not None and score.statistics is not None, score.verdict
        if score.interval is None:
            assert score.statistics.no_interval, score.name
            continue
        assert score.interval[0] <= score.value <= score.interval[1]
        figures = score.excess, score.excess_interval, score.p_value, get_detectable(score), score.statistics.resamples
        assert None not in figures
    assert sum(score.interval is not None for score in report.scores) >= len(report.scores) - 2


def test_remarks_give_excess_p_value_and_detectable_difference(report: hseval.Report) -> None:
    excess, detectable, *_ = iterate_remarks(report["fid"])
    assert excess.startswith("excess over the floor: ") and "Holm-adjusted" in excess
    assert detectable.startswith("smallest detectable difference (80 % power): ")


def test_p_is_0_05_where_the_interval_ends_at_0() -> None:
    """Adding a constant to the samples moves the excess of their mean, and changes none of its errors."""
    real, generated = draw_normal_table(48, 1), draw_normal_table(24, 3)
    interval = score_tables(Mean(), real, generated).excess_interval
    assert interval is not None
    for end in interval:
        moved = score_tables(Mean(), real, make_table(generated["x"] - end))
        assert moved.p_value == pytest.approx(0.05, rel=1e-6)
