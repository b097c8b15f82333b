"""Variances from jackknife replicates, their degrees of freedom, and how far an interval reaches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64Array = NDArray[np.float64]

VarianceEstimate = tuple["Float64Array", int]  # a variance ``(k,)`` and its degrees of freedom
CONFIDENCE_LEVEL = 0.95
ITERATIONS = 60  # of an iteration that at least halves its error in each, but for the wildest scores
POWER_QUANTILE = 0.841621  # normal quantile at 80 %: how often a difference that is said to be told is told
MIN_DEGREES_OF_FREEDOM = 6.0  # degrees of freedom of a corrected variance, where the plain one has as many
MIN_DIFFERENCE_DEGREES_OF_FREEDOM = 15.0  # of that of a difference of two scores, most of whose errors they share
MIN_VARIANCE_RATIO = 0.5  # of the plain jackknife's variance: all that is left where everything is of second order


def equalize_block_sizes(value: Float64Array, replicates: Float64Array, sizes: Float64Array) -> Float64Array:
    """Return the replicates ``(g, k)`` that blocks of equal size would give.

    What falls as one over the size, as a distance's bias does, moves a replicate by more the larger its block is, and
    would pass for variance. Pseudo-values by size are free of it (Busing, Meijer and van der Leeden 1999, "Delete-m
    jackknife for unequal m").

    Args:
        value: ``(k,)``, nothing left out.
        replicates: ``(g, k)``, one block left out.
        sizes: ``(g,)``, rows in each block.
    """
    if len(sizes) < 2 or (sizes == sizes[0]).all():
        return replicates
    over = (sizes.sum() / sizes)[:, None]
    pseudo = over * value - (over - 1) * replicates
    centre = sizes @ pseudo / sizes.sum()
    found: Float64Array = value - (pseudo - centre) / np.sqrt((over - 1) * (len(sizes) - 1))
    return found


def compute_block_variance(replicates: Float64Array) -> Float64Array:
    """Return the jackknife's variance ``(k,)`` of replicates ``(g, k)``; 0 of fewer than two."""
    g = len(replicates)
    if g < 2:
        return np.zeros(replicates.shape[1])
    found: Float64Array = (g - 1) / g * ((replicates - replicates.mean(axis=0)) ** 2).sum(axis=0)
    return found


def compute_pair_variance(pair_effects: Float64Array | None, count: float) -> Float64Array | float:
    """Return the variance ``(k,)`` of ``count`` pairs of blocks, from some of them ``(p, k)``; 0 of none."""
    return 0.0 if pair_effects is None or not len(pair_effects) else count * (pair_effects**2).mean(axis=0)


def compute_degrees_of_freedom(
    total: Float64Array,
    added: Sequence[VarianceEstimate],
    subtracted: Sequence[VarianceEstimate] = (),
    *,
    min_degrees: float | Float64Array = MIN_DEGREES_OF_FREEDOM,
) -> Float64Array:
    """Return the degrees of freedom ``(k,)`` of a variance put together from others (Satterthwaite 1946; Welch 1947).

    Their formula takes the estimates as independent. What is taken off rises and falls with what it is taken off from,
    so that the difference is known better than that: by measured coverage as well as a plain sum with ``min_degrees``
    degrees would be, unless the sum itself has fewer.

    Args:
        total: ``(k,)``, what is added less what is taken off.
        added: each ``(k,)``, with its own degrees of freedom.
        subtracted: likewise.
        min_degrees: one number, or one for each of the ``k`` variances.
    """
    plain = np.asarray(np.sum([part for part, _ in added], axis=0), dtype=np.float64)
    least = np.minimum(_compute_welch_satterthwaite(plain, added), min_degrees)
    return np.maximum(_compute_welch_satterthwaite(total, [*added, *subtracted]), np.maximum(least, 1.0))


def _compute_welch_satterthwaite(total: Float64Array, estimates: Sequence[VarianceEstimate]) -> Float64Array:
    weighed = np.sum([part**2 / max(count, 1) for part, count in estimates], axis=0)
    found: Float64Array = np.divide(total**2, weighed, out=np.ones_like(total), where=weighed > 0)
    return found


def compute_t_quantile(level: float, degrees_of_freedom: Float64Array) -> Float64Array:
    """Return how many standard errors a two-sided interval reaches, ``(k,)``."""
    from scipy.stats import t

    return np.asarray(t.ppf(0.5 + level / 2, degrees_of_freedom), dtype=np.float64)


def compute_detectable_difference(
    generated_variance: float, real_variance: float, critical_value: float, *, score: float | None
) -> float:
    """Return by how much another generator has to score worse to be told from this one with a power of 80 %.

    Both are scored against one reference. Where their scores are alike, what it adds cancels. A squared distance's
    variance grows in proportion to it, and what the reference adds to two of them differs as their roots do.

    Args:
        generated_variance: variance of this one's score, the samples' part.
        real_variance: the reference's part.
        critical_value: standard errors that the interval of the difference reaches.
        score: what the variance is in proportion to, where this one's is a distance; None: it is the same for both.
    """
    if score is None or not score > 0:
        return (critical_value + POWER_QUANTILE) * math.sqrt(2 * generated_variance)
    found = 0.0
    for _ in range(ITERATIONS):
        apart = generated_variance * (2 + found / score) + real_variance * (math.sqrt(1 + found / score) - 1) ** 2
        found = (critical_value + POWER_QUANTILE) * math.sqrt(apart)
    return found
