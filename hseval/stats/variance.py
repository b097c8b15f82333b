"""Variances from jackknife replicates, their degrees of freedom, and critical values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hseval.utils.arrays import Float64Array

VarianceEstimate = tuple["Float64Array", int]  # a variance ``(k,)`` and its degrees of freedom
CONFIDENCE_LEVEL = 0.95
ITERATIONS = 60  # of a fixed-point iteration that at least halves its error in each, except for extreme scores
POWER_QUANTILE = 0.841621  # normal quantile at 80 %: the power at the smallest detectable difference
MIN_DEGREES_OF_FREEDOM = 6.0  # of a corrected variance, unless the plain one has fewer
MIN_DIFFERENCE_DEGREES_OF_FREEDOM = 15.0  # of a difference of two scores, which share most of their errors
MIN_VARIANCE_RATIO = 0.5  # of the plain jackknife variance: what remains of it if all of it is of second order


def equalize_block_sizes(value: Float64Array, replicates: Float64Array, sizes: Float64Array) -> Float64Array:
    """Return the replicates ``(g, k)`` that blocks of equal size would give.

    A term that falls as one over the size, such as a distance's bias, shifts the replicates of large blocks more, and
    would add to the variance. Pseudo-values by size are free of it (Busing, Meijer and van der Leeden 1999, "Delete-m
    jackknife for unequal m").

    Args:
        value: ``(k,)``, nothing left out.
        replicates: ``(g, k)``, one block left out.
        sizes: ``(g,)``, rows in each block.
    """
    if len(sizes) < 2 or (sizes == sizes[0]).all():
        return replicates
    ratio = (sizes.sum() / sizes)[:, None]
    pseudo = ratio * value - (ratio - 1) * replicates
    center = sizes @ pseudo / sizes.sum()
    equalized: Float64Array = value - (pseudo - center) / np.sqrt((ratio - 1) * (len(sizes) - 1))
    return equalized


def compute_block_variance(replicates: Float64Array) -> Float64Array:
    """Return the jackknife's variance ``(k,)`` of replicates ``(g, k)``; 0 of fewer than two."""
    g = len(replicates)
    if g < 2:
        return np.zeros(replicates.shape[1])
    variance: Float64Array = (g - 1) / g * ((replicates - replicates.mean(axis=0)) ** 2).sum(axis=0)
    return variance


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
    """Return the degrees of freedom ``(k,)`` of a sum and difference of variances (Satterthwaite 1946; Welch 1947).

    Their formula takes the estimates as independent. The subtracted ones correlate with the added ones, so that the
    total has more: by measured coverage at least ``min_degrees``, unless the sum of the added ones has fewer.

    Args:
        total: ``(k,)``, the added variances minus the subtracted ones.
        added: each ``(k,)``, with its own degrees of freedom.
        subtracted: likewise.
        min_degrees: one number, or one for each of the ``k`` variances.
    """
    added_total = np.asarray(np.sum([variance for variance, _ in added], axis=0), dtype=np.float64)
    lower_bound = np.minimum(_compute_welch_satterthwaite(added_total, added), min_degrees)
    return np.maximum(_compute_welch_satterthwaite(total, [*added, *subtracted]), np.maximum(lower_bound, 1.0))


def _compute_welch_satterthwaite(total: Float64Array, estimates: Sequence[VarianceEstimate]) -> Float64Array:
    weighted = np.sum([variance**2 / max(count, 1) for variance, count in estimates], axis=0)
    degrees: Float64Array = np.divide(total**2, weighted, out=np.ones_like(total), where=weighted > 0)
    return degrees


def compute_t_quantile(level: float, degrees_of_freedom: Float64Array) -> Float64Array:
    """Return a two-sided interval's half-width in standard errors, ``(k,)``."""
    from scipy.stats import t

    return np.asarray(t.ppf(0.5 + level / 2, degrees_of_freedom), dtype=np.float64)


def compute_detectable_difference(
    generated_variance: float, real_variance: float, critical_value: float, *, score: float | None
) -> float:
    """Return by how much another generator has to score worse to differ significantly with a power of 80 %.

    Both are scored against one reference, whose errors cancel where their scores are alike. The variance of a squared
    distance grows in proportion to it, and the reference's errors in two of them differ as their roots do.

    Args:
        generated_variance: the samples' part of the variance of this generator's score.
        real_variance: the reference's part.
        critical_value: half-width of the difference's interval, in standard errors.
        score: the score, if it is a distance, whose variance is in proportion to it; None: both variances are the same.
    """
    if score is None or not score > 0:
        return (critical_value + POWER_QUANTILE) * math.sqrt(2 * generated_variance)
    difference = 0.0
    for _ in range(ITERATIONS):
        variance = (
            generated_variance * (2 + difference / score) + real_variance * (math.sqrt(1 + difference / score) - 1) ** 2
        )
        difference = (critical_value + POWER_QUANTILE) * math.sqrt(variance)
    return difference
