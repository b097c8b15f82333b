"""Paired comparison of two generators on shared resamples."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, t

import hseval
from hseval.core.feature_table import FeatureTable
from hseval.core.report import Report, Score
from hseval.core.report_file import load_report
from hseval.stats import paired
from hseval.stats.folded_normal import draw_differences
from hseval.stats.paired import compare_paired
from hseval.stats.quantile_shares import GroupedValues, draw_expected_shares
from hseval.utils.errors import HsevalError
from hseval.utils.random_streams import create_rng
from tests.helpers.simulated_features import Mean, MeanDistance, Shift, draw_normal_table, make_table, score_tables


class NearestFloor(Mean):
    """A mean that is best near its floor."""

    better = "floor"


class Higher(Mean):
    """A mean that is best high."""

    better = "higher"


def score_offsets(
    metric: type = MeanDistance, *offsets: float, n: int = 40, seed: int = 0, reference: int = 60
) -> list[Score]:
    real = draw_normal_table(reference, 100 * seed + 7)
    sample_sets = [draw_normal_table(n, 100 * seed + 8 + k, offset=offset) for k, offset in enumerate(offsets)]
    return [score_tables(metric(), real, generated, seed=seed) for generated in sample_sets]


@pytest.mark.parametrize("metric", [MeanDistance, Shift, Mean, NearestFloor, Higher])
def test_swapped_generators_swap_everything(metric: type) -> None:
    a, b = score_offsets(metric, 0.2, 0.6)
    comparison, swapped = compare_paired(a, b), compare_paired(b, a)
    assert comparison.difference == pytest.approx(-swapped.difference)
    assert comparison.interval == pytest.approx((-swapped.interval[1], -swapped.interval[0]))
    assert comparison.probability == pytest.approx(1 - swapped.probability)


@pytest.mark.parametrize("metric", [MeanDistance, Shift, Mean, NearestFloor])
def test_a_set_is_as_good_as_itself(metric: type) -> None:
    (a,) = score_offsets(metric, 0.3)
    comparison = compare_paired(a, a)
    assert (comparison.difference, comparison.probability) == (0.0, 0.5)
    assert comparison.interval[0] == pytest.approx(-comparison.interval[1])


def test_the_better_one_depends_on_the_metric_s_direction() -> None:
    a, b = score_offsets(Mean, 0.0, 3.0)
    assert compare_paired(a, b).probability > 0.999  # lower is better
    a, b = score_offsets(Higher, 0.0, 3.0)
    assert compare_paired(a, b).probability < 0.001
    a, b = score_offsets(NearestFloor, 0.5, -3.0)  # nearest the floor, on whichever side
    assert compare_paired(a, b).probability > 0.999
    assert a.excess is not None and b.excess is not None
    assert compare_paired(a, b).difference == pytest.approx(abs(a.excess) - abs(b.excess))


def test_signed_differences_are_compared_by_draws() -> None:
    a, b = score_offsets(Shift, 0.2, -0.3)
    stored = [score.statistics.resamples.replicates for score in (a, b)]  # type: ignore[union-attr]
    draws = draw_differences(*map(paired._build_signed_difference, stored), rng=create_rng(0, "shift difference"))
    assert a.value is not None and b.value is not None
    assert compare_paired(a, b) == paired._compare_draws(a, draws, a.value - b.value)


def test_pairs_of_blocks_are_left_out_unless_a_difference_is_signed() -> None:
    (plain,), (signed,) = score_offsets(MeanDistance, 0.3), score_offsets(Shift, 0.3)
    pairs = [
        score.statistics.resamples.replicates.real_pairs  # type: ignore[union-attr]
        for score in (plain, signed)
    ]
    assert len(pairs[0]) > 0 and len(pairs[1]) == 0


def test_a_difference_without_an_error_is_certain() -> None:
    probabilities = [
        paired._compare_by_t(difference, 0.0, 5.0, lower_is_better=True).probability for difference in (-1.0, 0.0, 1.0)
    ]
    assert probabilities == [1.0, 0.5, 0.0]


def test_errors_of_the_reference_cancel() -> None:
    """A small reference makes both scores uncertain, but hardly their difference."""
    a, b = score_offsets(MeanDistance, 1.0, 1.1, n=200, reference=24)
    comparison = compare_paired(a, b)
    assert a.interval is not None and b.interval is not None
    errors = [(high - low) / 2 for low, high in (a.interval, b.interval)]
    assert (comparison.interval[1] - comparison.interval[0]) / 2 < 0.6 * float(np.hypot(*errors))


def test_the_interval_of_a_difference_of_means_is_the_textbook_s() -> None:
    """The reference adds no error to either mean, so this is Welch's two-sample interval."""
    a, b = score_offsets(Mean, 0.0, 0.3, n=24, reference=48)
    first, second = (draw_normal_table(24, 8 + k, offset=offset)["x"][:, 0] for k, offset in enumerate((0.0, 0.3)))
    from scipy.stats import ttest_ind

    oracle = ttest_ind(first, second, equal_var=False)
    expected = oracle.confidence_interval(0.95)
    comparison = compare_paired(a, b)
    assert comparison.difference == pytest.approx(first.mean() - second.mean())
    assert comparison.interval == pytest.approx((expected.low, expected.high), rel=0.02)
    t = oracle.statistic
    assert (comparison.probability > 0.5) == (t < 0)


def test_intervals_of_differences_contain_the_truth() -> None:
    """The true difference of the squared distances is 3 (0.2 - 0.5)(0.2 + 0.5): the biases at (m, m) are equal."""
    repeats, truth = 40, 3 * (0.2**2 - 0.5**2)
    comparisons = []
    for seed in range(repeats):
        real = draw_normal_table(40, 1000 * seed)
        pair = [draw_normal_table(20, 1000 * seed + k, offset=offset) for k, offset in ((1, 0.2), (2, 0.5))]
        comparisons.append(
            compare_paired(
                *(score_tables(MeanDistance(), real, generated, seed=seed, quick=True) for generated in pair)
            )
        )
    hits = sum(comparison.interval[0] <= truth <= comparison.interval[1] for comparison in comparisons)
    assert hits >= binom.ppf(0.001, repeats, 0.95)
    assert np.mean([comparison.probability for comparison in comparisons]) > 0.75


def test_the_probability_for_equal_generators_varies_around_one_half() -> None:
    probabilities = [
        compare_paired(*score_offsets(MeanDistance, 0.3, 0.3, n=20, seed=seed)).probability for seed in range(30)
    ]
    assert 0.3 < np.mean(probabilities) < 0.7
    assert min(probabilities) < 0.3 and max(probabilities) > 0.7


def test_scores_from_report_files_compare_like_computed_ones(tmp_path: Path) -> None:
    a, b = score_offsets(MeanDistance, 0.2, 0.6)
    Report((a, b), (), {}).save(tmp_path / "report.json")
    assert compare_paired(*load_report(tmp_path / "report.json").scores) == compare_paired(a, b)
    assert hseval.compare_paired is compare_paired


def replace_resamples(score: Score, **changes: Any) -> Score:
    assert score.statistics is not None and score.statistics.resamples is not None
    resamples = dataclasses.replace(score.statistics.resamples, **changes)
    return dataclasses.replace(score, statistics=dataclasses.replace(score.statistics, resamples=resamples))


def test_scores_that_do_not_share_resamples_are_refused_in_one_line() -> None:
    a, b = score_offsets(MeanDistance, 0.2, 0.6)
    (other_reference,) = score_offsets(MeanDistance, 0.2, seed=1)
    (smaller,) = score_offsets(MeanDistance, 0.2, n=20)
    without_interval = score_tables(MeanDistance(), draw_normal_table(30, 1, group=10), draw_normal_table(30, 2))
    other_settings = replace_resamples(b, settings=("means-apart", "1", "Options(k=3)"))
    other_floor = dataclasses.replace(b, floor=2 * (b.floor or 1))
    for second, message in (
        (other_reference, "reference sets"),
        (smaller, "numbers of cubes"),
        (without_interval, "expected at least 4"),
        (other_settings, "settings"),
        (other_floor, "floors differ"),
        (dataclasses.replace(b, name="fid"), "different metrics"),
    ):
        with pytest.raises(HsevalError, match=message) as refused:
            compare_paired(a, second)
        assert "\n" not in str(refused.value)


def test_the_better_score_is_rarely_called_the_worse_one() -> None:
    comparisons = [compare_paired(*score_offsets(Shift, 0.0, 0.05, n=24, seed=seed)) for seed in range(30)]
    contradictions = [(comparison.probability > 0.5) != (comparison.difference < 0) for comparison in comparisons]
    assert np.mean(contradictions) < 0.25  # with unshifted draws 0.4


class ShareBelow(MeanDistance):
    """The share of samples below the smallest real value; draws its expected value itself."""

    bounds = (0.0, 1.0)

    def compare(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None, rng: Any
    ) -> float:
        """Return the share."""
        return float(np.mean(generated["x"][:, 0] < real["x"][:, 0].min()))

    def expected(self, *, real: FeatureTable, generated: FeatureTable, size: int, draws: int, rngs: Any) -> np.ndarray:
        """Return draws of the expected share and floor."""
        real_values, generated_values = (GroupedValues(table["x"][:, 0], table.groups) for table in (real, generated))
        return draw_expected_shares(
            real=real_values, generated=generated_values, size=size, rank=1, draws=draws, rngs=rngs
        )


def test_draws_of_shares_use_the_same_draws_of_a_shared_reference() -> None:
    real = draw_normal_table(60, 1)
    sample_sets = [make_table(draw_normal_table(200, 2)["x"] - 1.5), make_table(draw_normal_table(200, 3)["x"] - 1.0)]
    a, b = (score_tables(ShareBelow(), real, generated) for generated in sample_sets)
    comparison = compare_paired(a, b)
    assert comparison.probability < 0.01  # the first is lower by half a standard deviation: more of it is below
    assert a.interval is not None and b.interval is not None
    assert comparison.interval[1] - comparison.interval[0] < 0.8 * (a.interval[1] - a.interval[0])
    assert compare_paired(a, a) == (0.0, (0.0, 0.0), 0.5)
    assert compare_paired(b, a).probability == pytest.approx(1 - comparison.probability)


def test_a_difference_with_an_error_has_student_s_probability() -> None:
    comparison = paired._compare_by_t(-1.0, 0.5, 5.0, lower_is_better=True)
    assert comparison.probability == pytest.approx(t.cdf(2.0, 5))
    assert comparison.interval == pytest.approx((-1 - 0.5 * t.ppf(0.975, 5), -1 + 0.5 * t.ppf(0.975, 5)))
