"""Paired comparison of two sets of samples that were scored against the same reference.

Both were scored on the same halves of the reference, and the same blocks of it were left out. The reference's errors
are therefore alike in the two scores, and cancel in their difference; those of the samples do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hseval.core.report import Score
from hseval.core.score_records import Figures, Resamples, StoredReplicates
from hseval.stats import folded_normal as folded
from hseval.stats.resampling import compute_finite_split_variance
from hseval.stats.variance import (
    CONFIDENCE_LEVEL,
    MIN_DIFFERENCE_DEGREES_OF_FREEDOM,
    MIN_VARIANCE_RATIO,
    compute_block_variance,
    compute_degrees_of_freedom,
    compute_pair_variance,
    compute_t_quantile,
)
from hseval.utils.arrays import Float64Array
from hseval.utils.errors import HsevalError
from hseval.utils.random_streams import create_rng

VALUE_COLUMN, FLOOR_COLUMN, EXCESS_COLUMN = 0, 1, 2


class Term(NamedTuple):
    """One term of a sum of figures: the stored replicates of its score, its column in them, and its sign."""

    replicates: StoredReplicates
    column_index: int
    sign: float = 1.0

    def get_column(self, figures: Sequence[Figures]) -> Float64Array:
        """Return the figure's column of some replicates, ``(n, 1)``, with its sign."""
        columns = np.array(figures, dtype=np.float64).reshape(-1, 3)
        return np.asarray(self.sign * columns[:, [self.column_index]])


def compute_standard_error(terms: Sequence[Term]) -> tuple[float, float]:
    """Return the standard error of a sum of figures, such as a difference of two, and its degrees of freedom.

    The figures share a reference, whose blocks were left out of all of them alike; each has its own samples.
    """
    real = _sum_columns([term.get_column(term.replicates.real) for term in terms])
    real_pairs = _sum_columns([term.get_column(term.replicates.real_pairs) for term in terms])
    splits = _sum_columns([term.get_column(term.replicates.splits) for term in terms])
    g = len(real)
    added = [(compute_block_variance(real), g - 1)]
    subtracted = [(compute_pair_variance(real_pairs, g * (g - 1) / 2) + np.zeros(1), len(real_pairs))]
    for stored, column, _ in terms:
        added.append((np.array([stored.generated_variance[column]]), stored.generated_blocks - 1))
        subtracted.append((np.array([stored.second_order_variance[column]]), stored.generated_pairs))
    subtracted.append((compute_finite_split_variance(splits, terms[0].replicates.used_splits), len(splits) // 2 - 1))
    plain = sum(variance for variance, _ in added)
    total = np.maximum(plain - sum(variance for variance, _ in subtracted), MIN_VARIANCE_RATIO * plain)
    minimum = MIN_DIFFERENCE_DEGREES_OF_FREEDOM
    degrees = compute_degrees_of_freedom(total, added, subtracted, min_degrees=minimum)
    return math.sqrt(total[0]), float(degrees[0])


def _sum_columns(columns: Sequence[Float64Array]) -> Float64Array:
    count = min(map(len, columns))
    return np.asarray(np.sum([column[:count] for column in columns], axis=0))


FLOOR_TOLERANCE = 1e-4  # relative: what two computations of a floor may differ by
MATCHED_SETTINGS = {
    "reference": "reference sets",
    "train": "training sets",
    "size": "numbers of cubes per side",
    "settings": "settings",
    "seed": "seeds",
}


class PairedComparison(NamedTuple):
    """How two scores compare.

    Attributes:
        difference: the first's value minus the second's; where the best is nearest the floor, the first's distance
            from it minus the second's.
        interval: its 95 % interval.
        probability: that the first is better.
    """

    difference: float
    interval: tuple[float, float]
    probability: float


def compare_paired(a: Score, b: Score) -> PairedComparison:
    """Compare two scores of one metric, computed here or read from reports.

    Raises:
        HsevalError: one has no interval, or they were not computed on the same reference, size, settings and seed.
    """
    resamples = _get_matching_resamples(a, b)
    assert a.value is not None  # they have resamples
    assert b.value is not None
    difference = a.value - b.value
    if resamples[0].draws is not None and resamples[1].draws is not None:
        return _compare_draws(a, np.array(resamples[0].draws) - np.array(resamples[1].draws), difference)
    first, second = (side.replicates for side in resamples)
    assert first is not None  # without draws
    assert second is not None
    if a.better == "floor":
        return _compare_excesses(first, second)
    if first.shares is not None and second.shares is not None:
        sides = [_build_signed_difference(side) for side in (first, second)]
        rng = create_rng(resamples[0].seed, f"{a.name} difference")
        return _compare_draws(a, folded.draw_differences(*sides, rng=rng), difference)
    error, degrees = compute_standard_error([Term(first, VALUE_COLUMN), Term(second, VALUE_COLUMN, -1.0)])
    return _compare_by_t(difference, error, degrees, lower_is_better=a.better == "lower")


def _get_matching_resamples(a: Score, b: Score) -> tuple[Resamples, Resamples]:
    """Return the resamples of both.

    Raises:
        HsevalError: they can't be compared; one line gives the reason.
    """
    if a.name != b.name:
        raise HsevalError(f"{a.name} and {b.name} are different metrics: compare scores of one metric")
    first, second = (_get_resamples(score) for score in (a, b))
    for entry, label in MATCHED_SETTINGS.items():
        values = getattr(first, entry), getattr(second, entry)
        if values[0] != values[1]:
            shown = f"{values[0]!s:.60} and {values[1]!s:.60}"
            raise HsevalError(f"{a.name}: the two scores have different {label} ({shown}): score both sets alike")
    floors = [math.nan if score.floor is None else score.floor for score in (a, b)]
    is_close = np.isclose(floors[0], floors[1], rtol=FLOOR_TOLERANCE, atol=1e-12)
    if _summarize_shape(first) != _summarize_shape(second) or not is_close:
        shown = " and ".join("none" if math.isnan(floor) else f"{floor:.4g}" for floor in floors)
        raise HsevalError(f"{a.name}: the floors differ ({shown}): other structures or fields of view were compared")
    return first, second


def _get_resamples(score: Score) -> Resamples:
    statistics = score.statistics
    if statistics is None or statistics.resamples is None:
        reason = (statistics and statistics.no_interval) or score.verdict
        raise HsevalError(f"{score.name}: a score without resamples can't be compared ({reason})")
    return statistics.resamples


def _summarize_shape(resamples: Resamples) -> tuple[bool, int]:
    """Return what must agree for two scores' resamples to be subtracted: the kind and the number."""
    stored = resamples.replicates
    if stored is None:
        return False, len(resamples.draws or ())
    return stored.shares is not None, len(stored.real)


def _compare_by_t(difference: float, error: float, degrees: float, *, lower_is_better: bool) -> PairedComparison:
    from scipy.stats import t

    half_width = float(compute_t_quantile(CONFIDENCE_LEVEL, np.array(degrees))) * error
    below = float(t.cdf(-difference / error, degrees)) if error > 0 else float(np.heaviside(-difference, 0.5))
    interval = (difference - half_width, difference + half_width)
    return PairedComparison(difference, interval, below if lower_is_better else 1 - below)


def _build_signed_difference(stored: StoredReplicates) -> folded.SignedDifference:
    """Return the difference that a score is the absolute value of."""
    assert stored.shares is not None
    variance = stored.generated_variance[VALUE_COLUMN]
    return folded.SignedDifference(
        difference=float(np.mean(stored.splits, axis=0)[VALUE_COLUMN]),
        real_replicates=np.array(stored.real)[:, VALUE_COLUMN],
        generated=folded.SideVariance(variance, stored.generated_blocks, stored.shares[1]),
        share=stored.shares[0],
    )


def _compare_excesses(first: StoredReplicates, second: StoredReplicates) -> PairedComparison:
    """Compare the distances of two scores from their floor, where nearest the floor is best."""
    column = VALUE_COLUMN if first.shares is not None else EXCESS_COLUMN
    means = [float(np.mean(side.splits, axis=0)[column]) for side in (first, second)]
    signs = [1.0 if mean >= 0 else -1.0 for mean in means]
    error, degrees = compute_standard_error([Term(first, column, signs[0]), Term(second, column, -signs[1])])
    return _compare_by_t(abs(means[0]) - abs(means[1]), error, degrees, lower_is_better=True)


def _compare_draws(a: Score, draws: Float64Array, difference: float) -> PairedComparison:
    """Compare by the estimated difference and draws ``(n,)`` of the expected one.

    With few cubes the prior of shares, or the shrinkage of folded differences, pulls draws away from the estimate, so
    that they may favor the score that is worse. The probability is therefore that of the draws shifted half way to the
    estimate; the interval covers these, the draws themselves, and the estimate.
    """
    shifted = draws + (difference - draws.mean()) / 2
    tails = (0.5 - CONFIDENCE_LEVEL / 2, 0.5 + CONFIDENCE_LEVEL / 2)
    low, high = np.quantile(np.stack([draws, shifted]), tails, axis=1)
    below = float(np.mean(shifted < 0) + np.mean(shifted == 0) / 2)
    interval = (min(float(low.min()), difference), max(float(high.max()), difference))
    return PairedComparison(difference, interval, below if a.better == "lower" else 1 - below)
