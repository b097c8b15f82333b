"""Variances from jackknife replicates, their degrees of freedom, and how far an interval reaches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Estimate = tuple["Floats", int]  # a variance ``(k,)`` and its degrees of freedom
LEVEL = 0.95
STEPS = 60  # of an iteration that at least halves its error in each, but for the wildest scores
POWER = 0.841621  # normal quantile at 80 %: how often a difference that is said to be told is told
FEWEST = 6.0  # degrees of freedom of a corrected variance, where the plain one has as many
FEWEST_APART = 15.0  # of that of a difference of two scores, most of whose errors they share
LEAST = 0.5  # of the plain jackknife's variance: all that is left where everything is of second order


def levelled(value: Floats, left: Floats, sizes: Floats) -> Floats:
    """Return the replicates ``(g, k)`` that blocks of equal size would give.

    What falls as one over the size, as a distance's bias does, moves a replicate by more the larger its block is, and
    would pass for variance. Pseudo-values by size are free of it (Busing, Meijer and van der Leeden 1999, "Delete-m
    jackknife for unequal m").

    Args:
        value: ``(k,)``, nothing left out.
        left: ``(g, k)``, one block left out.
        sizes: ``(g,)``, rows in each block.
    """
    if len(sizes) < 2 or (sizes == sizes[0]).all():
        return left
    over = (sizes.sum() / sizes)[:, None]
    pseudo = over * value - (over - 1) * left
    centre = sizes @ pseudo / sizes.sum()
    found: Floats = value - (pseudo - centre) / np.sqrt((over - 1) * (len(sizes) - 1))
    return found


def block_variance(replicates: Floats) -> Floats:
    """Return the jackknife's variance ``(k,)`` of replicates ``(g, k)``; 0 of fewer than two."""
    g = len(replicates)
    if g < 2:
        return np.zeros(replicates.shape[1])
    found: Floats = (g - 1) / g * ((replicates - replicates.mean(axis=0)) ** 2).sum(axis=0)
    return found


def pair_variance(found: Floats | None, count: float) -> Floats | float:
    """Return the variance ``(k,)`` of ``count`` pairs of blocks, from some of them ``(p, k)``; 0 of none."""
    return 0.0 if found is None or not len(found) else count * (found**2).mean(axis=0)


def freedom(
    total: Floats, added: Sequence[Estimate], taken: Sequence[Estimate] = (), *, fewest: float | Floats = FEWEST
) -> Floats:
    """Return the degrees of freedom ``(k,)`` of a variance put together from others (Satterthwaite 1946; Welch 1947).

    Their formula takes the estimates as independent. What is taken off rises and falls with what it is taken off from,
    so that the difference is known better than that: by measured coverage as well as a plain sum with ``fewest``
    degrees would be, unless the sum itself has fewer.

    Args:
        total: ``(k,)``, what is added less what is taken off.
        added: each ``(k,)``, with its own degrees of freedom.
        taken: likewise.
        fewest: one number, or one for each of the ``k`` variances.
    """
    plain = np.asarray(np.sum([part for part, _ in added], axis=0), dtype=np.float64)
    least = np.minimum(_welch(plain, added), fewest)
    return np.maximum(_welch(total, [*added, *taken]), np.maximum(least, 1.0))


def _welch(total: Floats, estimates: Sequence[Estimate]) -> Floats:
    weighed = np.sum([part**2 / max(count, 1) for part, count in estimates], axis=0)
    found: Floats = np.divide(total**2, weighed, out=np.ones_like(total), where=weighed > 0)
    return found


def quantile(level: float, freedom: Floats) -> Floats:
    """Return how many standard errors a two-sided interval reaches, ``(k,)``."""
    from scipy.stats import t

    return np.asarray(t.ppf(0.5 + level / 2, freedom), dtype=np.float64)


def smallest_difference(fake: float, real: float, reach: float, *, score: float | None) -> float:
    """Return by how much another generator has to score worse to be told from this one with a power of 80 %.

    Both are scored against one reference. Where their scores are alike, what it adds cancels. A squared distance's
    variance grows in proportion to it, and what the reference adds to two of them differs as their roots do.

    Args:
        fake: variance of this one's score, the samples' part.
        real: the reference's part.
        reach: standard errors that the interval of the difference reaches.
        score: what the variance is in proportion to, where this one's is a distance; None: it is the same for both.
    """
    if score is None or not score > 0:
        return (reach + POWER) * math.sqrt(2 * fake)
    found = 0.0
    for _ in range(STEPS):
        apart = fake * (2 + found / score) + real * (math.sqrt(1 + found / score) - 1) ** 2
        found = (reach + POWER) * math.sqrt(apart)
    return found
