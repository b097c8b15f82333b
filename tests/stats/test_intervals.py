"""Intervals: their coverage in short, closed forms, what they depend on, and when there is none."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, norm, t

import hseval
from hseval.core.plugin_manager import get_plugins
from hseval.core.report import load_report
from hseval.stats.folded_normal import SideVariance, compute_folded_intervals, folded_normal_mean
from hseval.stats.paired import compare_paired
from hseval.stats.resampling import ResamplingPlan, compute_finite_split_variance
from hseval.stats.variance import compute_detectable_difference
from hseval.utils.errors import NotComputable
from tests.helpers.described_sets import described
from tests.helpers.sets import saved, texture_set
from tests.helpers.simulated_features import Mean, MeansApart, Shift, normal, rows, scored

REPEATS = 60
FEWEST = int(binom.ppf(0.001, REPEATS, 0.95))  # a method that covers 95 % falls below this once in 1000
SIZE, SAMPLES = 30, 40  # m = 15: both sides' bias is large, and part of what is estimated


def truth(away: float) -> tuple[float, float]:
    """Return the expected squared distance at (m, m) of 3-dimensional unit normals, and its excess."""
    m = SIZE // 2
    return 3 * away**2 + 3 * 2 / m, 3 * away**2


@pytest.mark.parametrize("away", [0.0, 0.5])
def test_intervals_hold_the_truth_as_often_as_they_say(away: float) -> None:
    """`benchmarks/evidence/coverage.py` in short, where the truth has a closed form."""
    value, excess = truth(away)
    hits, widths, found = np.zeros(2), [], []
    for repeat in range(REPEATS):
        score = scored(
            MeansApart(), normal(SIZE, 2 * repeat), normal(SAMPLES, 2 * repeat + 1, away=away), seed=repeat, quick=True
        )
        assert score.interval is not None and score.value is not None
        low, high = score.details["excess_interval"]
        hits += score.interval[0] <= value <= score.interval[1], low <= excess <= high
        widths.append(high - low)
        found.append(score.details["excess"])
    assert (hits >= FEWEST).all(), hits
    assert np.median(widths) < 2 * 2 * 1.96 * np.std(found)  # nor by being much too wide


def test_an_interval_that_takes_cubes_of_a_group_for_independent_would_miss() -> None:
    hits, alone = 0, 0
    for repeat in range(20):
        real = normal(60, 2 * repeat, group=6)
        generated = normal(60, 2 * repeat + 1, group=6)
        told = scored(Mean(), real, generated, seed=repeat, quick=True).interval
        wrong = scored(Mean(), real, rows(generated["x"]), seed=repeat, quick=True).interval
        assert told is not None and wrong is not None
        hits += told[0] <= 0.0 <= told[1]
        alone += wrong[0] <= 0.0 <= wrong[1]
    assert hits >= binom.ppf(0.001, 20, 0.95)
    assert alone < hits


def test_of_a_mean_the_interval_is_student_s() -> None:
    """Every sample is dealt as often, so that the splits' mean is the plain mean, and its error the textbook's."""
    generated = normal(24, 3)
    score = scored(Mean(), normal(48, 1), generated)
    values = generated["x"][:, 0]
    assert score.interval is not None
    assert score.value == pytest.approx(values.mean())
    half = (score.interval[1] - score.interval[0]) / 2
    assert half / (values.std(ddof=1) / np.sqrt(24)) == pytest.approx(2.069, abs=0.03)  # t at 23 degrees


def test_what_two_generators_must_differ_by_is_the_textbook_s() -> None:
    """Two means of n: the reach of t and 0.84 deviations of their difference; half of it takes four times as many."""
    generated = normal(24, 3)
    details = scored(Mean(), normal(48, 1), generated).details
    expected = (t.ppf(0.975, 23) + norm.ppf(0.8)) * np.sqrt(2 * generated["x"][:, 0].var(ddof=1) / 24)
    assert details["smallest_difference"] == pytest.approx(expected)
    assert details["smallest_difference_at_4n"] == pytest.approx(expected / 2)
    assert details["samples"] == 24


@pytest.mark.parametrize("away", [0.0, 1.0])
def test_a_difference_of_that_size_is_told_about_as_often_as_it_says(away: float) -> None:
    """A worse generator varies more than this one, and is told all the same."""

    def pair(seed: int, b: float) -> tuple[Any, Any]:
        real = normal(120, 3 * seed)
        return tuple(
            scored(MeansApart(), real, normal(60, 3 * seed + k, away=each), seed=seed, quick=True)
            for k, each in ((1, b), (2, away))
        )  # type: ignore[return-value]

    least = np.mean([pair(seed, away)[1].details["smallest_difference"] for seed in range(5)])
    worse = np.sqrt(away**2 + least / 3)
    told = np.mean([compare_paired(*pair(100 + seed, worse)).interval[0] > 0 for seed in range(20)])
    assert 0.5 <= told < 0.99  # 80 % are promised: 10 of 20 or fewer come once in 1000


def test_a_worse_generator_s_larger_variance_is_counted() -> None:
    plain = compute_detectable_difference(1.0, 1.0, 1.96, score=None)
    assert plain == pytest.approx(2.8016 * np.sqrt(2), rel=1e-4)
    for score in (0.1, 1.0, 10.0):
        found = compute_detectable_difference(1.0, 0.5, 1.96, score=score)
        apart = 1.0 * (2 + found / score) + 0.5 * (np.sqrt(1 + found / score) - 1) ** 2
        assert found == pytest.approx(2.8016 * np.sqrt(apart), rel=1e-4)
        assert found > plain
    assert compute_detectable_difference(1.0, 1.0, 1.96, score=1e6) == pytest.approx(plain, rel=1e-4)


def test_a_distance_s_interval_stays_above_zero_and_a_wide_one_leans_up() -> None:
    score = scored(MeansApart(), normal(16, 1), normal(16, 2))
    assert score.interval is not None and score.value is not None
    low, high = score.interval
    assert 0 < low < score.value < high
    assert high - score.value > score.value - low


@pytest.mark.parametrize("metric", [MeansApart, Shift, Mean])
def test_intervals_hold_the_estimate(metric: Callable[[], Any]) -> None:
    for seed in range(6):
        score = scored(metric(), normal(12, seed), normal(12, 50 + seed), seed=seed)
        assert score.interval is not None and score.value is not None
        assert score.interval[0] <= score.value <= score.interval[1]
        low, high = score.details["excess_interval"]
        assert low <= score.details["excess"] <= high


def test_more_cubes_narrow_it() -> None:
    widths = []
    for n in (20, 80, 320):
        score = scored(MeansApart(), normal(n, 1), normal(n, 2, away=1.0))
        assert score.interval is not None
        widths.append(score.interval[1] - score.interval[0])
    assert widths[0] > 1.5 * widths[1] > 1.5 * 1.5 * widths[2]


def test_intervals_repeat_and_do_not_depend_on_order_or_names() -> None:
    real, generated = normal(30, 1, group=3), normal(30, 2)
    one = scored(MeansApart(), real, generated)
    assert scored(MeansApart(), real, generated) == one
    renamed = [f"z{name[::-1]}" for name in real.groups]
    other = scored(MeansApart(), dataclasses.replace(real, groups=np.array(renamed), ids=real.ids[::-1]), generated)
    assert other.interval == one.interval
    assert scored(MeansApart(), real, generated, seed=1).interval != one.interval


def test_fewer_than_four_groups_have_no_interval_and_it_says_so() -> None:
    score = scored(MeansApart(), normal(30, 1, group=10), normal(30, 2))
    assert score.value is not None and score.interval is None
    assert score.details["no_interval"] == "3 independent groups of real cubes, expected at least 4"
    assert "resamples" not in score.details


class Broken(MeansApart):
    """Has no value where a certain row is missing."""

    def headline(self, *, real: Any, generated: Any, train: Any = None) -> float:
        """Fail."""
        raise NotComputable("the odd one is missing")


class Constant(MeansApart):
    """The same value whatever the cubes."""

    def headline(self, *, real: Any, generated: Any, train: Any = None) -> float:
        """Return 1."""
        return 1.0


@pytest.mark.parametrize(
    ("metric", "why"),
    [(Broken, "with some cubes left out there is no value: the odd one is missing"), (Constant, "the value stays")],
)
def test_where_leaving_out_says_nothing_there_is_no_interval(metric: type[MeansApart], why: str) -> None:
    class Whole(metric):  # type: ignore[misc, valid-type]
        def compare(self, **given: Any) -> float:
            return MeansApart().compare(**given) if metric is Broken else 1.0

    score = scored(Whole(), normal(20, 1), normal(20, 2))
    assert score.value is not None and score.interval is None
    assert why in score.details["no_interval"]
    assert score.details["excess_interval"] is None


def test_the_plan_is_a_rule_of_the_size_and_bounded() -> None:
    plans = [ResamplingPlan.for_size(size) for size in (2, 12, 50, 51, 200, 1000, 1001, 100_000)]
    costs = [(2 * plan.block_count + plan.block_pairs) * 2 * plan.split_pairs * 2 for plan in plans]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] <= 1600 and costs[-1] >= 80


def test_fewer_splits_vary_by_what_the_pairs_of_splits_say() -> None:
    splits = np.array([[1.0], [3.0], [5.0], [7.0], [2.0], [2.0], [6.0], [6.0]])  # pairs: 2, 6, 2, 6
    assert compute_finite_split_variance(splits, 8) == pytest.approx(0.0)
    assert compute_finite_split_variance(splits, 4) == pytest.approx(np.var([2, 6, 2, 6], ddof=1) * (1 / 2 - 1 / 4))


def test_the_folded_normal_s_mean() -> None:
    rng = np.random.default_rng(0)
    for mean, deviation in ((0.0, 1.0), (0.7, 0.5), (-2.0, 1.0), (3.0, 0.0)):
        expected = np.abs(rng.normal(mean, deviation, 200_000)).mean()
        assert folded_normal_mean(np.array([mean]), np.array([deviation]))[0] == pytest.approx(expected, rel=0.01)


def test_of_an_absolute_difference_far_from_zero_the_interval_is_that_of_the_difference() -> None:
    sides = {name: SideVariance(variance=0.01, block_count=200, share=0.5) for name in ("real", "generated")}
    value, excess = compute_folded_intervals(5.0, **sides, rng=np.random.default_rng(0))
    assert value == pytest.approx(5 + 1.97 * np.sqrt(0.02) * np.array([-1, 1]), abs=0.02)
    floor = np.sqrt(2 * 0.02) * np.sqrt(2 / np.pi)
    assert excess == pytest.approx(value - floor, abs=0.03)


def test_of_no_difference_it_reaches_from_what_two_real_sets_score() -> None:
    """An absolute difference is never 0 on average, however alike the sets: the interval starts at the floor."""
    sides = {name: SideVariance(variance=1.0, block_count=30, share=0.5) for name in ("real", "generated")}
    value, excess = compute_folded_intervals(0.0, **sides, rng=np.random.default_rng(0))
    least = np.sqrt(2 / np.pi) * np.sqrt(4)  # E|D| at one split, of deviation 2
    assert value[0] < least < value[1] and value[0] > 0.5 * least
    assert excess[0] < 0.1 < excess[1]


SETS = [texture_set(12, size=24, bands=4, seed=seed) for seed in range(3)]


@pytest.mark.parametrize(
    "name", ["fid", "fid-spectral", "spectral-kl", "spectral-angle", "band-covariance", "power-spectrum"]
)
def test_the_short_way_to_a_headline_gives_the_headline(name: str) -> None:
    metric = get_plugins().build("metric", name)
    real, generated, _ = metric.relate(
        **{
            side: described(each, *metric.needs.features)
            for side, each in zip(("real", "generated"), SETS, strict=False)
        },
        train=None,
    )
    full = metric.compare(real=real, generated=generated, rng=np.random.default_rng(0)).value
    assert metric.headline(real=real, generated=generated) == pytest.approx(full, rel=1e-12)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> hseval.Report:
    """Return a report of every built-in metric, written and read."""
    folder = tmp_path_factory.mktemp("report")
    found = hseval.score(
        SETS[0], ref=SETS[1], train=SETS[2], metrics=["all"], segmenter="none", cache=False, quick=True
    )
    found.save(folder / "report.json")
    return load_report(folder / "report.json")


def test_every_metric_has_an_interval_or_says_why_not(report: hseval.Report) -> None:
    assert {score.name for score in report.scores} >= {"fid", "kid", "prdc", "vendi", "membership", "plausibility"}
    for score in report.scores:
        assert score.value is not None, score.verdict
        if score.interval is None:
            assert score.details["no_interval"], score.name
            continue
        assert score.interval[0] <= score.value <= score.interval[1]
        assert {"excess", "excess_interval", "p_value", "smallest_difference", "resamples"} <= set(score.details)
    assert sum(score.interval is not None for score in report.scores) >= len(report.scores) - 2


def test_the_terminal_shows_interval_excess_and_what_is_told_apart(hseval: Callable[..., Any], tmp_path: Path) -> None:
    paths = [saved(tmp_path / f"{seed}.h5", texture_set(16, bands=4, seed=seed)) for seed in (0, 1)]
    found = hseval("score", paths[0], "--ref", paths[1], "--metrics", "fid,spectral-kl", "--segmenter", "none")
    assert found.status == 0
    header, *_ = [line for line in found.out.splitlines() if line.startswith("score")]
    assert header.split() == ["score", "value", "95", "%", "interval", "floor", "excess", "verdict", "n", "better"]
    assert "excess over the floor: " in found.out
    assert "two generators are told apart at 16 samples if they differ by about " in found.out
    assert "2 scores at once: to be told from its floor, a score needs splits two joint spreads apart" in found.out
