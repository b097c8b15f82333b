"""A score's 95 % interval, that of its excess over the floor, and the smallest detectable difference of two generators.

The estimand is the score's expected value at (m, m) over draws of both sets, the training set fixed; its bias at that
size is part of it, so that only the variance has to be estimated. See ``docs/intervals.md`` for the measured coverage.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from hseval.core.capabilities import SupportsExpected, get_bounds
from hseval.core.evaluation import MetricEvaluator, count_cubes
from hseval.core.score_records import DetectableDifference, Figures, Interval, StoredReplicates
from hseval.stats import folded_normal as folded
from hseval.stats.posterior_draws import compute_posterior_intervals
from hseval.stats.resampling import ScoreReplicates, SplitScore, compute_replicates
from hseval.stats.variance import (
    CONFIDENCE_LEVEL,
    MIN_DIFFERENCE_DEGREES_OF_FREEDOM,
    MIN_VARIANCE_RATIO,
    compute_block_variance,
    compute_degrees_of_freedom,
    compute_detectable_difference,
    compute_t_quantile,
)
from hseval.utils.arrays import Float64Array
from hseval.utils.errors import HsevalError, NotComputable, format_error
from hseval.utils.plural import format_count
from hseval.utils.random_streams import create_rng

MIN_GROUPS = 4  # groups per side: fewer leave the variance too uncertain


@dataclasses.dataclass(frozen=True)
class Uncertainty:
    """How certain a score is.

    Attributes:
        interval: of the value; None: ``no_interval`` gives the reason.
        excess_interval: of the excess.
        p_value: two-sided, that the excess is 0.
        detectable: the smallest detectable difference of two generators.
        evidence: what a comparison with another score needs: the jackknife's replicates, or draws.
        no_interval: why there is none.
    """

    interval: Interval | None = None
    excess_interval: Interval | None = None
    p_value: float | None = None
    detectable: DetectableDifference | None = None
    evidence: StoredReplicates | tuple[float, ...] | None = None
    no_interval: str | None = None


def compute_uncertainty(evaluator: MetricEvaluator, split_scores: Sequence[SplitScore]) -> Uncertainty:
    """Return a score's intervals, p-value and smallest detectable differences.

    Args:
        evaluator: the metric with its inputs.
        split_scores: its splits with their scores, in complementary pairs.
    """
    excess = compute_mean_excess(split_scores)
    if reason := _explain_too_few_groups(evaluator, split_scores):
        return Uncertainty(no_interval=reason)
    try:
        if isinstance(evaluator.metric, SupportsExpected):
            return _compute_posterior_uncertainty(evaluator, split_scores, excess)
        replicates = compute_replicates(evaluator, split_scores)
    except NotComputable as error:
        return Uncertainty(no_interval=f"with some cubes left out, it has no value: {error}")
    except HsevalError:
        raise
    except Exception as error:  # noqa: BLE001 - a third party's metric may raise anything
        return Uncertainty(no_interval=f"with some cubes left out, it raised {format_error(error)}")
    if not replicates.compute_variance()[0] > 0:
        return Uncertainty(
            no_interval="the value does not depend on which cubes are left out, so its variance can't be estimated"
        )
    return _compute_jackknife_uncertainty(evaluator, split_scores, replicates, excess)


def compute_mean_excess(split_scores: Sequence[SplitScore]) -> float:
    """Return the excess: the mean over splits of value minus floor."""
    return float(np.mean([split_score.value.value - split_score.floor.value for split_score in split_scores]))


def _compute_jackknife_uncertainty(
    evaluator: MetricEvaluator, split_scores: Sequence[SplitScore], replicates: ScoreReplicates, excess: float
) -> Uncertainty:
    signed = split_scores[0].value.signed is not None
    bounds = get_bounds(evaluator.metric)
    positive = bounds == (0.0, math.inf)
    sides = _build_side_variances(evaluator, split_scores, replicates) if signed else None
    if sides:
        difference = float(replicates.split_values[:, 0].mean())
        rng = create_rng(evaluator.seed, f"{evaluator.metric.name} interval")
        intervals = folded.compute_folded_intervals(difference, real=sides[0], generated=sides[1], rng=rng)
    else:
        intervals = _compute_t_intervals(replicates, is_positive=positive)
    interval, excess_interval = _clip_intervals(intervals, split_scores, excess, bounds)
    samples = count_cubes(evaluator.inputs.generated)
    return Uncertainty(
        interval,
        excess_interval,
        compute_p_value(replicates, is_signed=signed),
        _compute_detectable_difference(replicates, samples, is_positive=positive),
        build_stored_replicates(replicates, sides),
    )


def _compute_posterior_uncertainty(
    evaluator: MetricEvaluator, split_scores: Sequence[SplitScore], excess: float
) -> Uncertainty:
    """Return the uncertainty of a metric that draws its expected value itself (``Metric.expected``)."""
    mean = float(np.mean([split_score.value.value for split_score in split_scores]))
    posterior = compute_posterior_intervals(evaluator, size=len(split_scores[0].split.real), value=mean)
    bounds = get_bounds(evaluator.metric)
    interval, excess_interval = _clip_intervals(posterior.intervals, split_scores, excess, bounds)
    return Uncertainty(interval, excess_interval, posterior.p_value, posterior.detectable, posterior.draws)


def compute_p_value(score_replicates: ScoreReplicates, *, is_signed: bool) -> float:
    """Return the two-sided p-value of an excess of 0 (of a signed difference of 0, where there is one)."""
    from scipy.stats import t

    column = 0 if is_signed else 2
    error = math.sqrt(score_replicates.compute_variance()[column])
    estimate = float(score_replicates.split_values.mean(axis=0)[column])
    if error == 0.0:
        return float(estimate == 0.0)
    return float(2 * t.sf(abs(estimate) / error, score_replicates.compute_degrees_of_freedom()[column]))


def build_stored_replicates(
    score_replicates: ScoreReplicates, signed_sides: tuple[folded.SideVariance, folded.SideVariance] | None
) -> StoredReplicates:
    """Return what :mod:`hseval.stats.paired` needs of a score to compare it with another.

    Args:
        score_replicates: the replicates.
        signed_sides: the two sides of the signed difference that the score is the absolute value of, or None.
    """
    jack = score_replicates.jackknife_replicates
    _, within, across = jack.compute_second_order_variances()
    return StoredReplicates(
        splits=_to_figures(score_replicates.split_values),
        used_splits=score_replicates.used_splits,
        real=_to_figures(jack.real),
        real_pairs=() if jack.real_pairs is None else _to_figures(jack.real_pairs),
        generated_blocks=len(jack.generated),
        generated_pairs=0 if jack.generated_pairs is None else len(jack.generated_pairs),
        generated_variance=_to_figures(jack.compute_generated_variance()[None])[0],
        second_order_variance=_to_figures((within + across)[None])[0],
        shares=None if signed_sides is None else (signed_sides[0].share, signed_sides[1].share),
    )


def _to_figures(rows: Float64Array) -> tuple[Figures, ...]:
    return tuple((value, floor, excess) for value, floor, excess in rows.tolist())


def _explain_too_few_groups(evaluator: MetricEvaluator, split_scores: Sequence[SplitScore]) -> str:
    """Return why there is no interval, or ``""``."""
    for label, features in (("real cubes", evaluator.inputs.real), ("samples", evaluator.inputs.generated)):
        groups = len(np.unique(features.groups))
        if groups < MIN_GROUPS:
            return f"{format_count(groups, 'independent group')} of {label}, expected at least {MIN_GROUPS}"
    return ""


def _compute_t_intervals(score_replicates: ScoreReplicates, *, is_positive: bool) -> Float64Array:
    """Return the intervals ``(2, 2)`` of value and excess.

    Small distances vary less than large ones, so a score that can't be negative gets its interval on the logarithmic
    scale. The excess, which can, gets Student's: it excludes 0 where the p-value is below 5 %.
    """
    quantiles = compute_t_quantile(CONFIDENCE_LEVEL, score_replicates.compute_degrees_of_freedom())
    half_widths = quantiles * np.sqrt(score_replicates.compute_variance())
    means = score_replicates.split_values.mean(axis=0)
    intervals: Float64Array = np.stack([means - half_widths, means + half_widths], axis=1)[[0, 2]]
    if is_positive and means[0] > 0:
        ratio = math.exp(half_widths[0] / means[0])
        intervals[0] = means[0] / ratio, means[0] * ratio
    return intervals


def _build_side_variances(
    evaluator: MetricEvaluator, split_scores: Sequence[SplitScore], score_replicates: ScoreReplicates
) -> tuple[folded.SideVariance, folded.SideVariance]:
    """Return the variances that the two sides add to a signed difference."""
    size = len(split_scores[0].split.real)
    inputs, replicates = evaluator.inputs, score_replicates.jackknife_replicates
    real, generated = (
        folded.SideVariance(float(compute_block_variance(blocks)[0]), len(blocks), min(1.0, size / len(features)))
        for blocks, features in ((replicates.real, inputs.real), (replicates.generated, inputs.generated))
    )
    return real, generated


def _clip_intervals(
    intervals: Float64Array, split_scores: Sequence[SplitScore], excess: float, bounds: tuple[float, float]
) -> tuple[Interval, Interval]:
    """Return the intervals of value and excess: they contain the estimates, and the value's lies within its bounds.

    With few splits of few cubes the estimates may lie outside the model's intervals.
    """
    mean = float(np.mean([split_score.value.value for split_score in split_scores]))
    (low, high), (excess_low, excess_high) = intervals.tolist()
    value_interval = max(min(low, mean), bounds[0]), min(max(high, mean), bounds[1])
    return value_interval, (min(excess_low, excess), max(excess_high, excess))


def _compute_detectable_difference(
    score_replicates: ScoreReplicates, samples: int, *, is_positive: bool
) -> DetectableDifference:
    """Return the smallest detectable difference to a worse generator, at this number of samples and at 4 times as many.

    The samples' part of the variance falls with their number, and its second-order part with the square of that.
    """
    replicates = score_replicates.jackknife_replicates
    generated_variance = float(replicates.compute_generated_variance()[0])
    real_variance = float(replicates.compute_real_variance()[0])
    within_generated = float(replicates.compute_second_order_variances()[1][0])
    second_order = min(within_generated, generated_variance * (1 - MIN_VARIANCE_RATIO))
    total = generated_variance - second_order
    pairs = 0 if replicates.generated_pairs is None else len(replicates.generated_pairs)
    sides = [(np.array([generated_variance]), len(replicates.generated) - 1)]
    degrees_of_freedom = compute_degrees_of_freedom(
        np.array([total]), sides, [(np.array([second_order]), pairs)], min_degrees=MIN_DIFFERENCE_DEGREES_OF_FREEDOM
    )
    critical_value = float(compute_t_quantile(CONFIDENCE_LEVEL, degrees_of_freedom)[0])
    value, floor = (float(figure) for figure in score_replicates.split_values.mean(axis=0)[:2])
    # |a + e|^2 of noise e in d dimensions has the variance 2 F^2 / d + 4 |a|^2 F / d, F = E |e|^2: it grows with the
    # score as fast as if it were in proportion to the score less half its floor.
    score = value - min(value, max(floor, 0.0)) / 2 if is_positive else None
    first_order = max(total - second_order, 0.0)
    total_at_4n = first_order / 4 + (total - first_order) / 16
    return DetectableDifference(
        samples,
        compute_detectable_difference(total, real_variance, critical_value, score=score),
        compute_detectable_difference(total_at_4n, real_variance, critical_value, score=score),
    )
