"""Intervals of the absolute value of a difference, whose corner at 0 the jackknife can't account for.

At one split the signed difference is nearly normal, D ~ N(delta, s^2), and the score's expected value is that of |D|
(the folded normal, Leone, Nelson and Nottingham 1961): it depends on delta and s alone. Both are drawn given the data,
as in a generalized pivotal quantity (Weerahandi 1993): delta from Student's t around the signed difference, s^2 from
its chi-squared distribution. |D| is biased upward where delta is small, so the draws are shrunk.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from hseval.stats.variance import CONFIDENCE_LEVEL, compute_degrees_of_freedom
from hseval.utils.arrays import Float64Array

PIVOTAL_DRAWS = 20_000
# Variances subtracted from a squared draw: E D^2 = delta^2 + 1 variance; one more gives the best coverage near 0.
SHRINKAGE_VARIANCES = 2.0


@dataclasses.dataclass(frozen=True)
class SideVariance:
    """The variance that one side adds to the signed difference.

    Attributes:
        variance: this side's part of the variance of the signed difference over all splits.
        block_count: blocks that it was estimated from.
        share: share of this side's rows that one split uses.
    """

    variance: float
    block_count: int
    share: float


def folded_normal_mean(mean: Float64Array, std: Float64Array) -> Float64Array:
    """Return E|D| of D ~ N(mean, std^2), ``(n,)``."""
    from scipy.special import ndtr

    safe_std = np.where(std > 0, std, 1.0)
    ratio = mean / safe_std
    folded = safe_std * np.sqrt(2 / np.pi) * np.exp(-0.5 * ratio**2) + mean * (1 - 2 * ndtr(-ratio))
    return np.asarray(np.where(std > 0, folded, np.abs(mean)), dtype=np.float64)


def compute_folded_intervals(
    difference: float, *, real: SideVariance, generated: SideVariance, rng: np.random.Generator
) -> Float64Array:
    """Return the intervals ``(2, 2)`` of the expected value at one split, and of its excess over the floor."""
    variance = real.variance + generated.variance
    sides = [(np.array([side.variance]), side.block_count - 1) for side in (real, generated)]
    degrees_of_freedom = compute_degrees_of_freedom(np.array([variance]), sides)
    draws = abs(difference) - np.sqrt(variance) * rng.standard_t(degrees_of_freedom, PIVOTAL_DRAWS)
    mean_draws = _shrink_draws(draws, variance)
    real_draws, generated_draws = (
        side.variance * ((side.block_count - 1) / rng.chisquare(side.block_count - 1, PIVOTAL_DRAWS))
        for side in (real, generated)
    )
    value = folded_normal_mean(mean_draws, np.sqrt(real_draws / real.share + generated_draws / generated.share))
    floor = folded_normal_mean(np.zeros(PIVOTAL_DRAWS), np.sqrt(2 * real_draws / real.share))
    tails = (0.5 - CONFIDENCE_LEVEL / 2, 0.5 + CONFIDENCE_LEVEL / 2)
    return np.stack([np.quantile(value, tails), np.quantile(value - floor, tails)])


@dataclasses.dataclass(frozen=True)
class SignedDifference:
    """One of two signed differences that share a reference.

    Attributes:
        difference: the difference over all splits.
        real_replicates: ``(g,)``, its replicates with one block of the reference left out.
        generated: the samples' part of its variance.
        share: share of the reference's rows that one split uses.
    """

    difference: float
    real_replicates: Float64Array
    generated: SideVariance
    share: float

    def orient_replicates(self) -> Float64Array:
        """Return the replicates with the sign that makes the difference positive."""
        return -self.real_replicates if self.difference < 0 else self.real_replicates


def draw_differences(first: SignedDifference, second: SignedDifference, *, rng: np.random.Generator) -> Float64Array:
    """Return draws ``(n,)`` of the expected |D| of the first minus that of the second, on one reference.

    Half of the draws swap the noise of the two sets of samples: exchanging the differences changes only the sign.
    """
    count = min(len(first.real_replicates), len(second.real_replicates))
    centered = np.stack([_center_replicates(side.orient_replicates()[:count]) for side in (first, second)])
    factor = (count - 1) / rng.chisquare(count - 1, PIVOTAL_DRAWS)
    # One draw per block shifts both signed differences, as leaving the block out does.
    real_shifts = np.sqrt(factor) * (centered @ rng.standard_normal((count, PIVOTAL_DRAWS)))
    real_variances = factor * np.square(centered).sum(axis=1)[:, None]
    noise = [(rng.standard_normal(PIVOTAL_DRAWS), rng.random(PIVOTAL_DRAWS)) for _ in range(2)]
    halves = [
        _draw_expected_absolute(first, real_shifts[0], real_variances[0], *first_noise)
        - _draw_expected_absolute(second, real_shifts[1], real_variances[1], *second_noise)
        for first_noise, second_noise in (noise, noise[::-1])
    ]
    return np.concatenate(halves)


def _center_replicates(replicates: Float64Array) -> Float64Array:
    """Return replicates ``(g,)`` around their mean, so that their squares add up to the jackknife's variance."""
    return np.asarray(np.sqrt(1 - 1 / len(replicates)) * (replicates - replicates.mean()))


def _draw_expected_absolute(
    signed_difference: SignedDifference,
    real_shift: Float64Array,
    real_variance: Float64Array,
    normal: Float64Array,
    uniform: Float64Array,
) -> Float64Array:
    """Return draws of E|D| at one split, from draws of D's mean and standard deviation."""
    from scipy.stats import chi2

    generated = signed_difference.generated
    generated_variance = generated.variance * (generated.block_count - 1) / chi2.ppf(uniform, generated.block_count - 1)
    draws = abs(signed_difference.difference) - real_shift - np.sqrt(generated_variance) * normal
    variance = float(np.square(_center_replicates(signed_difference.real_replicates)).sum()) + generated.variance
    std = np.sqrt(real_variance / signed_difference.share + generated_variance / generated.share)
    return folded_normal_mean(_shrink_draws(draws, variance), std)


def _shrink_draws(draws: Float64Array, variance: float) -> Float64Array:
    return np.asarray(np.sqrt(np.maximum(draws**2 - SHRINKAGE_VARIANCES * variance, 0.0)) * (draws > 0))
