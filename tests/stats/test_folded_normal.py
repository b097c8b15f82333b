"""Draws of differences of absolute differences."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import binom, chi2, norm, t

from hseval.stats.folded_normal import (
    SideVariance,
    SignedDifference,
    compute_folded_intervals,
    draw_differences,
    folded_normal_mean,
)
from hseval.stats.paired import EXCESS_COLUMN, VALUE_COLUMN, Term, compare_paired, compute_standard_error
from tests.helpers.simulated_features import Mean, Shift, draw_normal_table, score_tables

BLOCKS = 16


def make_difference(
    signed: float, *, real: float = 0.1, generated: float = 0.1, seed: int = 0, blocks: int = BLOCKS
) -> SignedDifference:
    """Return a signed difference with the jackknife variances ``real**2`` and ``generated**2``."""
    replicates = np.random.default_rng(seed).standard_normal(BLOCKS)
    replicates = (replicates - replicates.mean()) / np.sqrt((BLOCKS - 1) * replicates.var())
    return SignedDifference(signed, signed + real * replicates, SideVariance(generated**2, blocks, 0.5), 0.5)


def draw(first: SignedDifference, second: SignedDifference, seed: int = 3) -> np.ndarray:
    return draw_differences(first, second, rng=np.random.default_rng(seed))


def test_swapping_two_differences_changes_only_the_sign() -> None:
    first, second = make_difference(0.3, blocks=8), make_difference(-0.1, generated=0.3, blocks=24)
    assert np.sort(draw(first, second)) == pytest.approx(np.sort(-draw(second, first)))


def test_far_from_zero_it_is_the_difference_of_distances_with_the_errors_of_both() -> None:
    """Far from the corner at 0 a difference is nearly normal; here the reference adds no error."""
    draws = draw(make_difference(5.0, real=0.0), make_difference(-4.0, real=0.0, generated=0.2))
    assert draws.mean() == pytest.approx(1.0, abs=0.02)
    inflated = (BLOCKS - 1) / (BLOCKS - 3)  # of Student's t
    assert draws.var() == pytest.approx(inflated * (0.1**2 + 0.2**2), rel=0.06)


def test_errors_of_the_reference_cancel_for_equal_signs_and_add_up_for_opposite_ones() -> None:
    same_sign = draw(make_difference(5.0, generated=0.01), make_difference(4.0, generated=0.01))
    opposite_sign = draw(make_difference(5.0, generated=0.01), make_difference(-4.0, generated=0.01))
    assert same_sign.std() < 0.02
    assert opposite_sign.std() == pytest.approx(np.sqrt((BLOCKS - 1) / (BLOCKS - 3)) * 0.2, rel=0.06)


def test_at_zero_it_is_the_difference_of_the_expected_noise_at_one_split() -> None:
    """Signed differences of 0 with variances known from many blocks: E|D| is sqrt(2 / pi) standard deviations."""
    first, second = (make_difference(0.0, real=0.0, generated=generated, blocks=10**6) for generated in (0.2, 0.1))
    draws = draw(first, second)
    stds = [np.sqrt(item.generated.variance / item.generated.share) for item in (first, second)]
    expected = [float(folded_normal_mean(np.zeros(1), np.array([item]))[0]) for item in stds]
    # Draws of the mean near 0 are shrunk to 0: most draws of both.
    assert np.median(draws) == pytest.approx(expected[0] - expected[1], rel=0.15)


def test_draws_that_noise_explains_are_shrunk_to_zero_and_others_are_not() -> None:
    """A draw counts as 0 up to the root of two variances: 92 % of the draws around 0."""
    zero = make_difference(0.0, real=0.0, generated=0.0, blocks=10**6)
    noise = draw(make_difference(0.0, real=0.0, generated=0.2, blocks=10**6), zero)
    floor = float(folded_normal_mean(np.zeros(1), np.array([0.2 / np.sqrt(0.5)]))[0])
    assert np.mean(np.isclose(noise, floor, rtol=1e-2)) == pytest.approx(norm.cdf(np.sqrt(2)), abs=0.015)
    distinct = draw(make_difference(0.5, real=0.0, generated=0.01, blocks=10**6), zero)
    assert distinct.mean() == pytest.approx(0.5, abs=0.005)


def test_blocks_of_the_reference_that_only_one_of_the_two_has_are_left_out() -> None:
    first, second = make_difference(0.3), make_difference(0.1, seed=1)
    fewer = dataclasses.replace(second, real_replicates=second.real_replicates[:12])
    assert draw(first, fewer).mean() == pytest.approx(draw(first, second).mean(), abs=0.05)


def test_the_variances_of_an_interval_have_the_degrees_of_freedom_of_their_blocks() -> None:
    """Far from 0, with the floor's variance dominant, the excess is the difference minus a scaled inverse chi."""
    real, generated = SideVariance(1e-4, 4, 0.01), SideVariance(0.0, 4, 0.01)
    _, excess = compute_folded_intervals(10.0, real=real, generated=generated, rng=np.random.default_rng(0))
    floors = np.sqrt(2 / np.pi) * np.sqrt(2 * 1e-4 / 0.01 * 3 / chi2.ppf([0.025, 0.975], 3))
    assert excess == pytest.approx(10.0 - floors, abs=0.04)


def test_intervals_of_differences_of_absolute_differences_contain_the_truth() -> None:
    """Both sets are equally far from the reference, with opposite signs: no difference, and both signs uncertain."""
    repeats, hits, widths = 40, 0, []
    for seed in range(repeats):
        real = draw_normal_table(40, 1000 * seed)
        sample_sets = [draw_normal_table(20, 1000 * seed + k, offset=offset) for k, offset in ((1, 0.1), (2, -0.1))]
        low, high = compare_paired(
            *(score_tables(Shift(), real, generated, seed=seed, quick=True) for generated in sample_sets)
        ).interval
        hits += low <= 0.0 <= high
        widths.append(high - low)
    assert hits >= binom.ppf(0.001, repeats, 0.95)
    std = np.sqrt(2 / 20)  # of the difference of two means of 20: the corner at 0 makes it smaller
    assert np.mean(widths) < 2 * 1.96 * std


@pytest.mark.parametrize("column", [VALUE_COLUMN, EXCESS_COLUMN])
def test_the_resamples_in_a_report_give_the_same_interval_as_the_score(column: int) -> None:
    score = score_tables(Mean(), draw_normal_table(60, 1), draw_normal_table(40, 2, offset=0.3))
    assert score.statistics is not None and score.statistics.resamples is not None
    replicates = score.statistics.resamples.replicates
    interval = score.interval if column == VALUE_COLUMN else score.excess_interval
    assert replicates is not None and interval is not None
    error, degrees = compute_standard_error([Term(replicates, column)])
    assert (interval[1] - interval[0]) / 2 == pytest.approx(t.ppf(0.975, degrees) * error, rel=1e-6)
