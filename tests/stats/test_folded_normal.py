"""Differences of absolute differences, drawn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, t

from hseval.stats.folded_normal import SideVariance, SignedDifference, draw_differences, folded_normal_mean
from hseval.stats.paired import EXCESS_COLUMN, VALUE_COLUMN, StoredResamples, compare_paired, compute_standard_error
from tests.helpers.simulated_features import Mean, Shift, normal, scored

BLOCKS = 16


def side(
    signed: float, *, real: float = 0.1, generated: float = 0.1, seed: int = 0, blocks: int = BLOCKS
) -> SignedDifference:
    """Return a signed difference whose jackknife's variances are ``real**2`` and ``generated**2``."""
    left = np.random.default_rng(seed).standard_normal(BLOCKS)
    left = (left - left.mean()) / np.sqrt((BLOCKS - 1) * left.var())
    return SignedDifference(signed, signed + real * left, SideVariance(generated**2, blocks, 0.5), 0.5)


def drawn(one: SignedDifference, two: SignedDifference, seed: int = 3) -> np.ndarray:
    return draw_differences(one, two, rng=np.random.default_rng(seed))


def test_swapped_they_change_their_sign_and_nothing_else() -> None:
    one, two = side(0.3, blocks=8), side(-0.1, generated=0.3, blocks=24)
    assert np.sort(drawn(one, two)) == pytest.approx(np.sort(-drawn(two, one)))


def test_far_from_zero_it_is_the_difference_of_distances_with_the_errors_of_both() -> None:
    """No corner is near, so that a difference is as good as normal; different references would add up in full."""
    found = drawn(side(5.0, real=0.0), side(-4.0, real=0.0, generated=0.2))
    assert found.mean() == pytest.approx(1.0, abs=0.02)
    inflated = (BLOCKS - 1) / (BLOCKS - 3)  # of Student's t
    assert found.var() == pytest.approx(inflated * (0.1**2 + 0.2**2), rel=0.06)


def test_what_the_reference_adds_cancels_on_one_side_of_zero_and_counts_twice_across_it() -> None:
    alike = drawn(side(5.0, generated=0.01), side(4.0, generated=0.01))
    across = drawn(side(5.0, generated=0.01), side(-4.0, generated=0.01))
    assert alike.std() < 0.02
    assert across.std() == pytest.approx(np.sqrt((BLOCKS - 1) / (BLOCKS - 3)) * 0.2, rel=0.06)


def test_at_zero_it_is_what_is_left_of_the_noise_at_one_split() -> None:
    """Known signed differences of 0, and variances known from very many blocks: E|D| is sqrt(2 / pi) deviations."""
    one, two = (side(0.0, real=0.0, generated=generated, blocks=10**6) for generated in (0.2, 0.1))
    found = drawn(one, two)
    deviations = [np.sqrt(each.generated.variance / each.generated.share) for each in (one, two)]
    least = [float(folded_normal_mean(np.zeros(1), np.array([each]))[0]) for each in deviations]
    # Where the draw of the mean is near 0 it is shrunk to 0, for most draws of both.
    assert np.median(found) == pytest.approx(least[0] - least[1], rel=0.15)


def test_intervals_of_differences_of_absolute_differences_hold_the_truth() -> None:
    """Both sets lie as far from the reference, on either side: no difference, though either's sign is uncertain."""
    repeats, hits, widths = 40, 0, []
    for seed in range(repeats):
        real = normal(40, 1000 * seed)
        sample_sets = [normal(20, 1000 * seed + k, away=away) for k, away in ((1, 0.1), (2, -0.1))]
        low, high = compare_paired(
            *(scored(Shift(), real, generated, seed=seed, quick=True) for generated in sample_sets)
        ).interval
        hits += low <= 0.0 <= high
        widths.append(high - low)
    assert hits >= binom.ppf(0.001, repeats, 0.95)
    deviation = np.sqrt(2 / 20)  # of the difference of two means of 20: the corner makes it vary less than that
    assert np.mean(widths) < 2 * 1.96 * deviation


@pytest.mark.parametrize("place", [VALUE_COLUMN, EXCESS_COLUMN])
def test_what_a_report_keeps_gives_the_interval_that_the_score_had(place: int) -> None:
    score = scored(Mean(), normal(60, 1), normal(40, 2, away=0.3))
    error, degrees = compute_standard_error([StoredResamples(score.details["resamples"], place)])
    span = score.interval if place == VALUE_COLUMN else score.details["excess_interval"]
    assert span is not None
    assert (span[1] - span[0]) / 2 == pytest.approx(t.ppf(0.975, degrees) * error, rel=1e-6)
