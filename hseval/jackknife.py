"""The grouped jackknife of two sets: how far would a score move if other cubes had been drawn?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]

Statistic = Callable[["Indices", "Indices"], "Floats"]
NOTHING = np.empty(0, dtype=np.int64)


@dataclasses.dataclass(frozen=True)
class Jackknife:
    """Replicates of ``k`` numbers: ``value`` (k,), ``real`` (g, k) and ``fake`` (h, k), each with one block left out."""

    value: Floats
    real: Floats
    fake: Floats

    def variance(self) -> Floats:
        """Return the variances (k,) over draws of both sets."""
        total: Floats = sum(
            ((len(side) - 1) / len(side) * ((side - side.mean(axis=0)) ** 2).sum(axis=0) for side in (self.real, self.fake)),
            start=np.zeros_like(self.value),
        )
        return total

    def interval(self, level: float = 0.95) -> Floats:
        """Return the intervals (k, 2)."""
        from scipy import stats

        reach = stats.norm.ppf(0.5 + level / 2) * np.sqrt(self.variance())
        return np.stack([self.value - reach, self.value + reach], axis=1)


def blocks(groups: NDArray[Any], count: int, rng: np.random.Generator) -> list[Indices]:
    """Deal rows into at most ``count`` blocks of nearly equal size; no group is in two blocks."""
    _, inverse = np.unique(groups, return_inverse=True)
    members = sorted((np.flatnonzero(inverse == i) for i in range(inverse.max() + 1)), key=lambda each: int(each[0]))
    dealt: list[list[int]] = [[] for _ in range(min(count, len(members)))]
    for place in rng.permutation(len(members)):
        min(dealt, key=len).extend(members[place].tolist())
    return [np.sort(np.array(block, dtype=np.int64)) for block in dealt]


def jackknife(
    statistic: Statistic, *, real: Sequence[Indices], fake: Sequence[Indices], rng: np.random.Generator, pairs: int = 64
) -> Jackknife:
    """Evaluate ``statistic(real_out, fake_out)`` with nothing, then each block of each side, left out."""
    value = statistic(NOTHING, NOTHING)
    one = np.stack([statistic(block, NOTHING) for block in real]) if real else np.empty((0, len(value)))
    two = np.stack([statistic(NOTHING, block) for block in fake]) if fake else np.empty((0, len(value)))
    return Jackknife(value, one, two)
