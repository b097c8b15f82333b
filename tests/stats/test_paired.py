"""Two generators on shared resamples."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

import hseval
from hseval.core.feature_table import FeatureTable
from hseval.core.report import Report, Score, load_report
from hseval.stats.paired import compare_paired
from hseval.stats.quantile_shares import GroupedValues, draw_expected_shares
from hseval.utils.errors import HsevalError
from tests.helpers.simulated_features import Mean, MeansApart, Shift, normal, rows, scored


class Nearest(Mean):
    """A mean that is best near its floor."""

    better = "floor"


class Higher(Mean):
    """A mean that is best high."""

    better = "higher"


def scores(metric: type = MeansApart, *away: float, n: int = 40, seed: int = 0, reference: int = 60) -> list[Score]:
    real = normal(reference, 100 * seed + 7)
    sample_sets = [normal(n, 100 * seed + 8 + k, away=each) for k, each in enumerate(away)]
    return [scored(metric(), real, generated, seed=seed) for generated in sample_sets]


@pytest.mark.parametrize("metric", [MeansApart, Shift, Mean, Nearest, Higher])
def test_swapped_generators_swap_everything(metric: type) -> None:
    a, b = scores(metric, 0.2, 0.6)
    one, other = compare_paired(a, b), compare_paired(b, a)
    assert one.difference == pytest.approx(-other.difference)
    assert one.interval == pytest.approx((-other.interval[1], -other.interval[0]))
    assert one.probability == pytest.approx(1 - other.probability)


@pytest.mark.parametrize("metric", [MeansApart, Shift, Mean, Nearest])
def test_a_set_is_as_good_as_itself(metric: type) -> None:
    (a,) = scores(metric, 0.3)
    found = compare_paired(a, a)
    assert (found.difference, found.probability) == (0.0, 0.5)
    assert found.interval[0] == pytest.approx(-found.interval[1])


def test_which_is_better_follows_what_is_better() -> None:
    a, b = scores(Mean, 0.0, 3.0)
    assert compare_paired(a, b).probability > 0.999  # lower is better
    a, b = scores(Higher, 0.0, 3.0)
    assert compare_paired(a, b).probability < 0.001
    a, b = scores(Nearest, 0.5, -3.0)  # nearest the floor, on whichever side
    assert compare_paired(a, b).probability > 0.999
    assert compare_paired(a, b).difference == pytest.approx(abs(a.details["excess"]) - abs(b.details["excess"]))


def test_what_the_reference_adds_cancels() -> None:
    """A small reference makes both scores uncertain, and their difference hardly more."""
    a, b = scores(MeansApart, 1.0, 1.1, n=200, reference=24)
    found = compare_paired(a, b)
    assert a.interval is not None and b.interval is not None
    errors = [(high - low) / 2 for low, high in (a.interval, b.interval)]
    assert (found.interval[1] - found.interval[0]) / 2 < 0.6 * float(np.hypot(*errors))


def test_the_interval_of_a_difference_of_means_is_the_textbook_s() -> None:
    """The reference adds nothing to either mean, so this is the two-sample interval of Welch."""
    a, b = scores(Mean, 0.0, 0.3, n=24, reference=48)
    one, two = (normal(24, 8 + k, away=each)["x"][:, 0] for k, each in enumerate((0.0, 0.3)))
    from scipy.stats import ttest_ind

    oracle = ttest_ind(one, two, equal_var=False)
    expected = oracle.confidence_interval(0.95)
    found = compare_paired(a, b)
    assert found.difference == pytest.approx(one.mean() - two.mean())
    assert found.interval == pytest.approx((expected.low, expected.high), rel=0.02)
    t = oracle.statistic
    assert (found.probability > 0.5) == (t < 0)


def test_intervals_of_differences_hold_the_truth() -> None:
    """The true difference of the squared distances is 3 (0.2 - 0.5)(0.2 + 0.5): the biases at (m, m) are alike."""
    repeats, true = 40, 3 * (0.2**2 - 0.5**2)
    found = []
    for seed in range(repeats):
        real = normal(40, 1000 * seed)
        pair = [normal(20, 1000 * seed + k, away=away) for k, away in ((1, 0.2), (2, 0.5))]
        found.append(
            compare_paired(*(scored(MeansApart(), real, generated, seed=seed, quick=True) for generated in pair))
        )
    hits = sum(each.interval[0] <= true <= each.interval[1] for each in found)
    assert hits >= binom.ppf(0.001, repeats, 0.95)
    assert np.mean([each.probability for each in found]) > 0.75


def test_of_equal_generators_the_probability_is_anything() -> None:
    found = [compare_paired(*scores(MeansApart, 0.3, 0.3, n=20, seed=seed)).probability for seed in range(30)]
    assert 0.3 < np.mean(found) < 0.7
    assert min(found) < 0.3 and max(found) > 0.7


def test_scores_read_from_reports_compare_as_those_computed(tmp_path: Path) -> None:
    a, b = scores(MeansApart, 0.2, 0.6)
    Report((a, b), (), {}).save(tmp_path / "report.json")
    assert compare_paired(*load_report(tmp_path / "report.json").scores) == compare_paired(a, b)
    assert hseval.compare_paired is compare_paired


def test_what_does_not_share_its_resamples_is_refused_in_one_line() -> None:
    a, b = scores(MeansApart, 0.2, 0.6)
    (other,) = scores(MeansApart, 0.2, seed=1)
    (smaller,) = scores(MeansApart, 0.2, n=20)
    bare = scored(MeansApart(), normal(30, 1, group=10), normal(30, 2))
    settings = {**b.details["resamples"], "settings": ["means-apart", "1", "Options(k=3)"]}
    changed = dataclasses.replace(b, details={**b.details, "resamples": settings})
    floored = dataclasses.replace(b, floor=2 * (b.floor or 1))
    for second, told in (
        (other, "reference sets"),
        (smaller, "numbers of cubes"),
        (bare, "expected at least 4"),
        (changed, "settings"),
        (floored, "floors differ"),
        (dataclasses.replace(b, name="fid"), "different scores"),
    ):
        with pytest.raises(HsevalError, match=told) as refused:
            compare_paired(a, second)
        assert "\n" not in str(refused.value)


def test_a_report_that_lacks_what_draws_need_is_refused_in_one_line() -> None:
    a, b = scores(Shift, 0.2, 0.6)
    kept = {key: value for key, value in b.details["resamples"].items() if key != "shares"}
    with pytest.raises(HsevalError, match="score again"):
        compare_paired(a, dataclasses.replace(b, details={**b.details, "resamples": kept}))


def test_who_scored_better_is_rarely_called_the_worse_one() -> None:
    found = [compare_paired(*scores(Shift, 0.0, 0.05, n=24, seed=seed)) for seed in range(30)]
    against = [(each.probability > 0.5) != (each.difference < 0) for each in found]
    assert np.mean(against) < 0.25  # by the draws alone 0.4


class Near(MeansApart):
    """The share of samples below the least real row, which draws its expected value."""

    bounds = (0.0, 1.0)

    def compare(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None, rng: Any
    ) -> float:
        """Return the share."""
        return float(np.mean(generated["x"][:, 0] < real["x"][:, 0].min()))

    def expected(self, *, real: FeatureTable, generated: FeatureTable, size: int, draws: int, rngs: Any) -> np.ndarray:
        """Return draws of the expected share and floor."""
        one, two = (GroupedValues(each["x"][:, 0], each.groups) for each in (real, generated))
        return draw_expected_shares(real=one, generated=two, size=size, rank=1, draws=draws, rngs=rngs)


def test_draws_of_shares_are_shared_where_the_reference_is() -> None:
    real = normal(60, 1)
    sample_sets = [rows(normal(200, 2)["x"] - 1.5), rows(normal(200, 3)["x"] - 1.0)]
    a, b = (scored(Near(), real, generated) for generated in sample_sets)
    found = compare_paired(a, b)
    assert found.probability < 0.01  # the first lies lower by half a deviation: more of it is beyond
    assert a.interval is not None and b.interval is not None
    assert found.interval[1] - found.interval[0] < 0.8 * (a.interval[1] - a.interval[0])
    assert compare_paired(a, a) == (0.0, (0.0, 0.0), 0.5)
    assert compare_paired(b, a).probability == pytest.approx(1 - found.probability)
