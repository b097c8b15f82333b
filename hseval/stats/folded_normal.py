"""Intervals of the absolute value of a difference, which has a corner at 0 that no jackknife sees.

At one split the signed difference is nearly normal, D ~ N(delta, s^2), and the score's expected value is that of |D|
(the folded normal, Leone, Nelson and Nottingham 1961): it depends on delta and s alone. Both are drawn from what the
data say of them, as in a generalised pivotal quantity (Weerahandi 1993): delta from Student's t around the signed
difference, s^2 from its chi-squared distribution. Folding makes |D| too large where delta is small, and the draws are
shrunk for it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from hseval.stats.variance import freedom

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

DRAWS = 20_000
SHRUNK = 2.0  # variances taken off a squared draw: E D^2 = delta^2 + 1 variance; one more covers best near 0


@dataclasses.dataclass(frozen=True)
class Side:
    """What is known of one side: the variance that it adds to the signed difference, and from how many blocks.

    Attributes:
        variance: of the signed difference over all splits, this side's part.
        blocks: it was estimated from.
        share: of this side's rows that one split uses.
    """

    variance: float
    blocks: int
    share: float


def expected_absolute(mean: Floats, deviation: Floats) -> Floats:
    """Return E|D| of D ~ N(mean, deviation^2), ``(n,)``."""
    from scipy.special import ndtr

    safe = np.where(deviation > 0, deviation, 1.0)
    ratio = mean / safe
    folded = safe * np.sqrt(2 / np.pi) * np.exp(-0.5 * ratio**2) + mean * (1 - 2 * ndtr(-ratio))
    return np.asarray(np.where(deviation > 0, folded, np.abs(mean)), dtype=np.float64)


def intervals(signed: float, *, real: Side, fake: Side, rng: np.random.Generator, level: float = 0.95) -> Floats:
    """Return the intervals ``(2, 2)`` of the expected value at one split, and of its excess over the floor."""
    variance = real.variance + fake.variance
    sides = [(np.array([side.variance]), side.blocks - 1) for side in (real, fake)]
    drawn = abs(signed) - np.sqrt(variance) * rng.standard_t(freedom(np.array([variance]), sides), DRAWS)
    centre = _shrunk(drawn, variance)
    real_draws, fake_draws = (side.variance * _factor(side.blocks, rng) for side in (real, fake))
    value = expected_absolute(centre, np.sqrt(real_draws / real.share + fake_draws / fake.share))
    floor = expected_absolute(np.zeros(DRAWS), np.sqrt(2 * real_draws / real.share))
    tails = (0.5 - level / 2, 0.5 + level / 2)
    return np.stack([np.quantile(value, tails), np.quantile(value - floor, tails)])


@dataclasses.dataclass(frozen=True)
class Signed:
    """A signed difference, one of two that share a reference.

    Attributes:
        signed: the difference over all splits.
        real: ``(g,)``, its replicates with one of the reference's blocks left out.
        fake: what the samples add.
        share: of the reference's rows that one split uses.
    """

    signed: float
    real: Floats
    fake: Side
    share: float

    def turned(self) -> Floats:
        """Return the replicates with the sign that makes the difference positive."""
        return -self.real if self.signed < 0 else self.real


def differences(one: Signed, two: Signed, *, rng: np.random.Generator) -> Floats:
    """Return draws ``(n,)`` of the expected |D| of one less that of the other; what the reference adds, they share.

    Half of the draws give the two sides' own noise the other way round, so that exchanging the two changes the sign and
    nothing else.
    """
    count = min(len(one.real), len(two.real))
    centred = np.stack([_centred(side.turned()[:count]) for side in (one, two)])
    factor = (count - 1) / rng.chisquare(count - 1, DRAWS)
    # One draw a block moves both signed differences, as leaving the block out did.
    moved = np.sqrt(factor) * (centred @ rng.standard_normal((count, DRAWS)))
    shared = factor * np.square(centred).sum(axis=1)[:, None]
    own = [(rng.standard_normal(DRAWS), rng.random(DRAWS)) for _ in range(2)]
    halves = [
        _expected(one, moved[0], shared[0], *first) - _expected(two, moved[1], shared[1], *second)
        for first, second in (own, own[::-1])
    ]
    return np.concatenate(halves)


def _centred(replicates: Floats) -> Floats:
    """Return replicates ``(g,)`` around their mean, so that their squares add up to the jackknife's variance."""
    return np.asarray(np.sqrt(1 - 1 / len(replicates)) * (replicates - replicates.mean()))


def _expected(side: Signed, moved: Floats, shared: Floats, normal: Floats, uniform: Floats) -> Floats:
    """Return draws of E|D|: of its mean, from what both sides' draws move it by, and of its deviation at one split."""
    from scipy.stats import chi2

    fake = side.fake
    own = fake.variance * (fake.blocks - 1) / chi2.ppf(uniform, fake.blocks - 1)
    drawn = abs(side.signed) - moved - np.sqrt(own) * normal
    variance = float(np.square(_centred(side.real)).sum()) + fake.variance
    return expected_absolute(_shrunk(drawn, variance), np.sqrt(shared / side.share + own / fake.share))


def _shrunk(drawn: Floats, variance: float) -> Floats:
    return np.asarray(np.sqrt(np.maximum(drawn**2 - SHRUNK * variance, 0.0)) * (drawn > 0))


def _factor(blocks: int, rng: np.random.Generator) -> Floats:
    return (blocks - 1) / rng.chisquare(blocks - 1, DRAWS)
