"""The grouped jackknife of two sets: how far would a score move if other cubes had been drawn?

Blocks of whole groups are left out one at a time (Quenouille 1956, Tukey 1958), over both sets. Near its floor a
distance is degenerate: what single cubes add vanishes, and what pairs of them add decides. Those second-order parts the
jackknife counts twice (Efron and Stein 1981, "The jackknife estimate of variance", section 4). They are estimated from
second differences on a seeded subset of pairs of blocks, and taken off once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.stats.variance import (
    LEAST,
    LEVEL,
    Estimate,
    block_variance,
    freedom,
    levelled,
    pair_variance,
    quantile,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]

Statistic = Callable[["Indices", "Indices"], "Floats"]
NOTHING = np.empty(0, dtype=np.int64)
LEAST_PAIRED = 8  # blocks of a side from which on pairs of them are left out


@dataclasses.dataclass(frozen=True)
class Jackknife:
    """Replicates of ``k`` numbers.

    Attributes:
        value: ``(k,)``, nothing left out.
        real: ``(g, k)``, one block of the real side left out.
        fake: ``(h, k)``, one block of the other side left out.
        real_pairs: ``(p, k)``, what two blocks of the real side add together, at random pairs.
        fake_pairs: ``(p, k)``, the same of the other side.
        cross_pairs: ``(p, k)``, the same of a block of each side. None of the three: they are not known.
    """

    value: Floats
    real: Floats
    fake: Floats
    real_pairs: Floats | None = None
    fake_pairs: Floats | None = None
    cross_pairs: Floats | None = None

    def real_variance(self) -> Floats:
        """Return what the real side adds to the plain jackknife's variance, ``(k,)``."""
        return block_variance(self.real)

    def fake_variance(self) -> Floats:
        """Return what the other side adds to the plain jackknife's variance, ``(k,)``."""
        return block_variance(self.fake)

    def parts(self) -> tuple[Floats, Floats, Floats]:
        """Return the second-order variances ``(k,)`` within the real side, within the other, and across."""
        g, h = len(self.real), len(self.fake)
        none = np.zeros_like(self.value)
        return (
            none + pair_variance(self.real_pairs, g * (g - 1) / 2),
            none + pair_variance(self.fake_pairs, h * (h - 1) / 2),
            none + pair_variance(self.cross_pairs, g * h),
        )

    def variance(self) -> Floats:
        """Return the variances ``(k,)`` over draws of both sets; never below ``LEAST`` times the plain ones."""
        plain = self.real_variance() + self.fake_variance()
        return np.maximum(plain - sum(self.parts()), LEAST * plain)

    def degrees(self) -> Floats:
        """Return the degrees of freedom ``(k,)`` of the variances: fewer, the more the correction takes off."""
        return freedom(self.variance(), self.added(), self.taken())

    def added(self) -> list[Estimate]:
        """Return the variances that are added up."""
        sides = (self.real_variance(), len(self.real)), (self.fake_variance(), len(self.fake))
        return [(variance, count - 1) for variance, count in sides]

    def taken(self) -> list[Estimate]:
        """Return the variances that are taken off."""
        drawn = (self.real_pairs, self.fake_pairs, self.cross_pairs)
        parts = zip(self.parts(), drawn, strict=True)
        return [(part, len(found)) for part, found in parts if found is not None]

    def interval(self, level: float = LEVEL) -> Floats:
        """Return the intervals ``(k, 2)`` by Student's t."""
        reach = quantile(level, self.degrees()) * np.sqrt(self.variance())
        return np.stack([self.value - reach, self.value + reach], axis=1)


def blocks(groups: NDArray[Any], count: int, rng: np.random.Generator) -> list[Indices]:
    """Deal rows into at most ``count`` blocks of nearly equal size; no group is in two blocks.

    Which rows meet depends on the rows' order and ``rng``, not on what groups are called.
    """
    _, inverse = np.unique(groups, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(inverse))[:-1])
    members.sort(key=lambda each: int(each[0]))
    dealt: list[list[int]] = [[] for _ in range(min(count, len(members)))]
    for place in rng.permutation(len(members)):
        min(dealt, key=len).extend(members[place].tolist())
    return [np.sort(np.array(block, dtype=np.int64)) for block in dealt]


def jackknife(
    statistic: Statistic, *, real: Sequence[Indices], fake: Sequence[Indices], rng: np.random.Generator, pairs: int = 64
) -> Jackknife:
    """Evaluate ``statistic(real_out, fake_out)`` with nothing, each block of each side, and pairs of blocks left out.

    Args:
        statistic: gets row indices to leave out on each side (empty: none), returns ``(k,)``. It may be a mean, a
            distance, or their difference; each side's rows count through averages, so that it is smooth.
        real: the real side's blocks, at least 2; or none, if that side stays as it is.
        fake: the other side's, likewise.
        rng: draws the pairs of blocks.
        pairs: evaluations for the second differences, in all; 0: the plain jackknife.
    """
    value = np.asarray(statistic(NOTHING, NOTHING), dtype=np.float64)
    width = len(value)
    one = _stacked([statistic(block, NOTHING) for block in real], width)
    two = _stacked([statistic(NOTHING, block) for block in fake], width)
    g, h = len(real), len(fake)
    both = bool(g and h)
    each = pairs // 3 if both else pairs
    within_real = _within(value, one, _pairs(g, each, rng), lambda i, j: statistic(_joined(real, i, j), NOTHING))
    within_fake = _within(value, two, _pairs(h, each, rng), lambda i, j: statistic(NOTHING, _joined(fake, i, j)))
    # A block's share of its side is 1 / g; the factor takes off what leaving out adds to every other pair.
    scale = np.sqrt((1 - 1 / g) * (1 - 1 / h)) if both else 0.0
    across = [
        scale * (value - one[i] - two[j] + statistic(real[i], fake[j]))
        for i, j in (_crossed(g, h, each, rng) if both else ())
    ]
    sizes = [np.array([len(block) for block in side], dtype=np.float64) for side in (real, fake)]
    level_real, level_fake = (levelled(value, left, size) for left, size in zip((one, two), sizes, strict=True))
    return Jackknife(value, level_real, level_fake, within_real, within_fake, _stacked(across, width))


def _within(value: Floats, one: Floats, drawn: Sequence[tuple[int, int]], left: Callable[[int, int], Floats]) -> Floats:
    """Return ``(g t - (g - 1) (t_j + t_k) + (g - 2) t_jk) / g`` of the drawn pairs of blocks.

    Unlike the plain second difference this is 0 for whatever is linear, or falls as one over the size (Efron and Stein
    1981, equation 4.3: their Q).
    """
    g = len(one)
    found = [(g * value - (g - 1) * (one[j] + one[k]) + (g - 2) * left(j, k)) / g for j, k in drawn]
    return _stacked(found, len(value))


def _pairs(count: int, wanted: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Return distinct pairs of ``count`` blocks; of few, of which a split takes half, two out leave too little."""
    if count < LEAST_PAIRED:
        return []
    one, other = np.triu_indices(count, 1)
    drawn = rng.permutation(len(one))[:wanted]
    return [(int(one[place]), int(other[place])) for place in drawn]


def _crossed(g: int, h: int, wanted: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    return [divmod(int(place), h) for place in rng.permutation(g * h)[:wanted]]


def _joined(found: Sequence[Indices], i: int, j: int) -> Indices:
    return np.concatenate([found[i], found[j]])


def _stacked(found: Sequence[Any], width: int) -> Floats:
    return np.array(found, dtype=np.float64).reshape(len(found), width)
