"""A score with cubes left out: what the jackknife evaluates, and how often it can afford to."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.pipeline.metric_inputs import Comparable, signed
from hseval.stats.jackknife import Jackknife, blocks, jackknife
from hseval.stats.splits import Split
from hseval.stats.variance import FEWEST, FEWEST_APART, LEAST, freedom
from hseval.utils.errors import NotComputable
from hseval.utils.random_streams import stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.hookspecs import ScoreParts

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Plan:
    """How many complementary pairs of splits, blocks a side and pairs of blocks are evaluated."""

    splits: int
    blocks: int
    pairs: int

    @classmethod
    def at(cls, size: int) -> Plan:
        """Return the plan at ``size`` rows a side: about ``150 000 / size`` comparisons, a rule and never a clock.

        A comparison costs about as many microseconds as 20 times its rows (``fid``), so this takes a few seconds
        whatever the size, until the least that says anything is reached.
        """
        return cls(
            splits=int(np.clip(400 // size, 1, 4)),
            blocks=24 if size <= 50 else 16 if size <= 1000 else 12,
            pairs=48 if size <= 50 else 36 if size <= 1000 else 18,
        )


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """One split, and what its three sets scored."""

    split: Split
    value: ScoreParts
    floor: ScoreParts

    def numbers(self) -> Floats:
        """Return value, floor and excess, of the signed figures where the metric has them."""
        return _three(signed(self.value), signed(self.floor))


@dataclasses.dataclass(frozen=True)
class Replicates:
    """The jackknife's replicates of value, floor and excess, ``k = 3``, over some splits of a score.

    Attributes:
        found: over the first ``used`` splits.
        used: how many these are.
        splits: ``(s, 3)``, the same of every split.
    """

    found: Jackknife
    used: int
    splits: Floats

    def variance(self) -> Floats:
        """Return the variances ``(3,)`` over draws of both sets."""
        plain = self.found.real_variance() + self.found.fake_variance()
        return np.maximum(self.found.variance() - surplus(self.splits, self.used), LEAST * plain)

    def degrees(self) -> Floats:
        """Return their degrees of freedom ``(3,)``."""
        more = (surplus(self.splits, self.used), len(self.splits) // 2 - 1)
        fewest = np.array([FEWEST, FEWEST, FEWEST_APART])
        return freedom(self.variance(), self.found.added(), [*self.found.taken(), more], fewest=fewest)


def surplus(splits: Floats, used: int) -> Floats:
    """Return by how much ``(k,)`` the variance over fewer splits exceeds that over all of them.

    Complementary pairs of splits vary around what an endless number of them would give; what this adds to a mean over
    p pairs is their variance over p.

    Args:
        splits: ``(s, k)``, figures of every split, in complementary pairs.
        used: splits that the variance was estimated over.
    """
    pairs = splits[: len(splits) // 2 * 2].reshape(-1, 2, splits.shape[1]).mean(axis=1)
    if len(pairs) < 2:
        return np.zeros(splits.shape[1])
    gone: Floats = pairs.var(axis=0, ddof=1) * (2 / used - 1 / len(pairs))
    return gone


class Left:
    """Value, floor and excess, the means over some splits, with rows left out of every split that they are in."""

    def __init__(self, comparable: Comparable, evaluated: Sequence[Evaluated]) -> None:
        self.comparable, self.evaluated = comparable, evaluated

    def __call__(self, real_out: Indices, fake_out: Indices) -> Floats:
        """Return ``(3,)`` without some rows of either side."""
        self.rows, self.places = self.comparable.without(real_out)
        kept = _kept(len(self.comparable.rows.real), real_out), _kept(len(self.comparable.rows.fake), fake_out)
        found: Floats = np.mean([self._one(each, *kept) for each in self.evaluated], axis=0)
        return found

    def _one(self, each: Evaluated, real_kept: Any, fake_kept: Any) -> Floats:
        split, known = each.split, self.rows is self.comparable.rows
        real, held, fake = split.real[real_kept[split.real]], split.held[real_kept[split.held]], split.fake
        fake = fake[fake_kept[fake]]
        if not min(len(real), len(held), len(fake)):
            raise NotComputable("nothing is left of a side")
        same = known and len(real) == len(split.real)
        value, floor = signed(each.value), signed(each.floor)
        if not same or len(fake) < len(split.fake):
            value = self._number(real, self.rows.fake.take(fake))
        if not same or len(held) < len(split.held):
            floor = self._number(real, self.rows.real.take(self.places[held]))
        return _three(value, floor)

    def _number(self, real: Indices, other: Any) -> float:
        return self.comparable.number(self.rows.real.take(self.places[real]), other, self.rows.train)


def replicates(comparable: Comparable, evaluated: Sequence[Evaluated]) -> Replicates:
    """Return the replicates of a score; which reference cubes are left out together depends on them and the seed."""
    plan = Plan.at(len(evaluated[0].split.real))
    used = evaluated[: 2 * plan.splits]
    rows, seed = comparable.rows, comparable.seed
    found = jackknife(
        Left(comparable, used),
        real=blocks(rows.real.groups, plan.blocks, stream(seed, "blocks of the reference")),
        fake=blocks(rows.fake.groups, plan.blocks, stream(seed, "blocks of the samples")),
        rng=stream(seed, "pairs of blocks"),
        pairs=0 if evaluated[0].value.signed is not None else plan.pairs,
    )
    return Replicates(found, len(used), np.array([each.numbers() for each in evaluated]))


def _three(value: float, floor: float) -> Floats:
    return np.array([value, floor, value - floor])


def _kept(count: int, out: Indices) -> NDArray[np.bool_]:
    kept = np.ones(count, dtype=bool)
    kept[out] = False
    return kept
