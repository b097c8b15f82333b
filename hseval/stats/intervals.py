"""A score's 95 % interval, that of its excess over the floor, and what two generators must differ by to be told apart.

The estimand is the score's expected value at (m, m) over draws of both sets, the training set fixed; its bias at that
size is part of it, so that only the variance has to be estimated. See ``docs/intervals.md`` for the measured coverage.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.pipeline.metric_inputs import MetricEvaluator
from hseval.stats import folded_normal as folded
from hseval.stats import posterior_draws as drawn
from hseval.stats.resampling import ScoreReplicates, SplitScore, compute_replicates
from hseval.stats.variance import (
    CONFIDENCE_LEVEL,
    MIN_DIFFERENCE_DEGREES_OF_FREEDOM,
    MIN_VARIANCE_RATIO,
    compute_degrees_of_freedom,
    compute_detectable_difference,
    compute_t_quantile,
)
from hseval.utils.errors import HsevalError, NotComputable, format_error
from hseval.utils.random_streams import create_rng

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64Array = NDArray[np.float64]

MIN_GROUPS = 4  # groups a side: of fewer the variance is hardly known


@dataclasses.dataclass(frozen=True)
class IntervalResult:
    """The interval of the value, None with a reason in the details; and the details."""

    interval: tuple[float, float] | None
    details: dict[str, Any]


def compute_interval(evaluator: MetricEvaluator, split_scores: Sequence[SplitScore]) -> IntervalResult:
    """Return a score's interval and what goes with it.

    Args:
        evaluator: the metric with its rows.
        split_scores: its splits, in complementary pairs, with what each scored.
    """
    excess = float(np.mean([each.value.value - each.floor.value for each in split_scores]))
    if why := _explain_too_few_groups(evaluator, split_scores):
        return _make_missing_interval(excess, why)
    try:
        if hasattr(evaluator.metric, "expected"):
            return _compute_posterior_interval(evaluator, split_scores, excess)
        found = compute_replicates(evaluator, split_scores)
    except NotComputable as error:
        why = f"with some cubes left out there is no value: {error}"
        return _make_missing_interval(excess, why)
    except HsevalError:
        raise
    except Exception as error:  # noqa: BLE001 - a third party's metric may raise anything
        why = f"with some cubes left out it raised {format_error(error)}"
        return _make_missing_interval(excess, why)
    if not found.compute_variance()[0] > 0:
        why = "whichever cubes are left out, the value stays: nothing says how far other cubes would move it"
        return _make_missing_interval(excess, why)
    signed = split_scores[0].value.signed is not None
    bounds = getattr(evaluator.metric, "bounds", (-math.inf, math.inf))
    positive = bounds == (0.0, math.inf)
    sides = _build_side_variances(evaluator, split_scores, found) if signed else None
    spans = (
        _compute_folded_intervals(evaluator, found, sides)
        if sides
        else _compute_t_intervals(found, is_positive=positive)
    )
    centre = float(np.mean([each.value.value for each in split_scores]))
    value, over = _clip_intervals(_extend_to_estimates(spans, [centre, excess]), bounds)
    details = {"excess": excess, "excess_interval": list(over), "p_value": compute_p_value(found, is_signed=signed)}
    details |= _compute_detectable_differences(
        found, evaluator.inputs.count_cubes(evaluator.inputs.generated), is_positive=positive
    )
    details["resamples"] = build_resample_record(found, sides)
    return IntervalResult(value, details)


def _make_missing_interval(excess: float, reason: str) -> IntervalResult:
    return IntervalResult(None, {"excess": excess, "excess_interval": None, "no_interval": reason})


def _compute_posterior_interval(
    evaluator: MetricEvaluator, split_scores: Sequence[SplitScore], excess: float
) -> IntervalResult:
    """Return the interval of a metric that draws its expected value itself."""
    centre = float(np.mean([each.value.value for each in split_scores]))
    spans, details = drawn.compute_posterior_intervals(evaluator, size=len(split_scores[0].split.real), value=centre)
    bounds = getattr(evaluator.metric, "bounds", (-math.inf, math.inf))
    value, over = _clip_intervals(_extend_to_estimates(spans, [centre, excess]), bounds)
    return IntervalResult(value, {"excess": excess, "excess_interval": list(over), **details})


def compute_p_value(score_replicates: ScoreReplicates, *, is_signed: bool) -> float:
    """Return the two-sided p-value of an excess of 0 (of a signed difference of 0, where there is one)."""
    from scipy.stats import t

    place = 0 if is_signed else 2
    error = math.sqrt(score_replicates.compute_variance()[place])
    estimate = float(score_replicates.split_values.mean(axis=0)[place])
    if error == 0.0:
        return float(estimate == 0.0)
    return float(2 * t.sf(abs(estimate) / error, score_replicates.compute_degrees_of_freedom()[place]))


def build_resample_record(
    score_replicates: ScoreReplicates, signed_sides: tuple[folded.SideVariance, folded.SideVariance] | None
) -> dict[str, Any]:
    """Return what a comparison of two reports needs of one: see :mod:`hseval.stats.paired`.

    Args:
        score_replicates: the replicates.
        signed_sides: the two sides of a signed difference, where the score is its absolute value.
    """
    jack = score_replicates.jackknife_replicates
    _, within, across = jack.compute_second_order_variances()
    return {
        "signed": signed_sides is not None,
        "shares": None if signed_sides is None else [side.share for side in signed_sides],
        "splits": score_replicates.split_values.tolist(),
        "used": score_replicates.used_splits,
        "real": jack.real.tolist(),
        "real_pairs": [] if jack.real_pairs is None else jack.real_pairs.tolist(),
        "samples": {
            "blocks": len(jack.generated),
            "pairs": 0 if jack.generated_pairs is None else len(jack.generated_pairs),
            "variance": jack.compute_generated_variance().tolist(),
            "twice": (within + across).tolist(),
        },
    }


def _explain_too_few_groups(evaluator: MetricEvaluator, split_scores: Sequence[SplitScore]) -> str:
    """Return why there is no interval, or ``""``."""
    for side, rows in (("real cubes", evaluator.inputs.real), ("samples", evaluator.inputs.generated)):
        groups = len(np.unique(rows.groups))
        if groups < MIN_GROUPS:
            return f"{groups} independent groups of {side}, expected at least {MIN_GROUPS}"
    return ""


def _compute_t_intervals(score_replicates: ScoreReplicates, *, is_positive: bool) -> Float64Array:
    """Return the intervals ``(2, 2)`` of value and excess.

    A distance that is small varies less than one that is large, so what can't be negative gets its interval on the
    logarithm's scale. The excess, which can, gets Student's: it excludes 0 where the p-value is below 5 %.
    """
    reach = compute_t_quantile(CONFIDENCE_LEVEL, score_replicates.compute_degrees_of_freedom()) * np.sqrt(
        score_replicates.compute_variance()
    )
    centre = score_replicates.split_values.mean(axis=0)
    spans: Float64Array = np.stack([centre - reach, centre + reach], axis=1)[[0, 2]]
    if is_positive and centre[0] > 0:
        ratio = math.exp(reach[0] / centre[0])
        spans[0] = centre[0] / ratio, centre[0] * ratio
    return spans


def _compute_folded_intervals(
    evaluator: MetricEvaluator,
    score_replicates: ScoreReplicates,
    sides: tuple[folded.SideVariance, folded.SideVariance],
) -> Float64Array:
    rng = create_rng(evaluator.seed, f"{evaluator.metric.name} interval")
    return folded.compute_folded_intervals(
        float(score_replicates.split_values[:, 0].mean()),
        real=sides[0],
        generated=sides[1],
        rng=rng,
        level=CONFIDENCE_LEVEL,
    )


def _build_side_variances(
    evaluator: MetricEvaluator, split_scores: Sequence[SplitScore], score_replicates: ScoreReplicates
) -> tuple[folded.SideVariance, folded.SideVariance]:
    """Return what is known of a signed difference's two sides."""
    size = len(split_scores[0].split.real)
    real, generated = (
        folded.SideVariance(float(part[0]), count, min(1.0, size / len(rows)))
        for part, count, rows in (
            (
                score_replicates.jackknife_replicates.compute_real_variance(),
                len(score_replicates.jackknife_replicates.real),
                evaluator.inputs.real,
            ),
            (
                score_replicates.jackknife_replicates.compute_generated_variance(),
                len(score_replicates.jackknife_replicates.generated),
                evaluator.inputs.generated,
            ),
        )
    )
    return real, generated


def _extend_to_estimates(intervals: Float64Array, estimates: Sequence[float]) -> Float64Array:
    """Return intervals that hold what was estimated: few splits of few cubes can lie beyond what a model expects."""
    found = np.array(estimates, dtype=np.float64)
    return np.stack([np.minimum(intervals[:, 0], found), np.maximum(intervals[:, 1], found)], axis=1)


def _clip_intervals(
    intervals: Float64Array, bounds: tuple[float, float]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Cut the value's interval where no value can be."""
    low, high = bounds
    value, excess = ((float(span[0]), float(span[1])) for span in intervals)
    return (max(value[0], low), min(value[1], high)), excess


def _compute_detectable_differences(
    score_replicates: ScoreReplicates, samples: int, *, is_positive: bool
) -> dict[str, Any]:
    """Return the difference that is told between this generator and a worse one, at this many samples and at 4 times.

    The samples' part of the variance falls with their number, and what is of second order in it with its square.
    """
    jack = score_replicates.jackknife_replicates
    plain, other = float(jack.compute_generated_variance()[0]), float(jack.compute_real_variance()[0])
    second = min(float(jack.compute_second_order_variances()[1][0]), plain * (1 - MIN_VARIANCE_RATIO))
    total = plain - second
    pairs = 0 if jack.generated_pairs is None else len(jack.generated_pairs)
    sides = [(np.array([plain]), len(jack.generated) - 1)]
    freed = compute_degrees_of_freedom(
        np.array([total]), sides, [(np.array([second]), pairs)], min_degrees=MIN_DIFFERENCE_DEGREES_OF_FREEDOM
    )
    reach = float(compute_t_quantile(CONFIDENCE_LEVEL, freed)[0])
    value, floor = (float(each) for each in score_replicates.split_values.mean(axis=0)[:2])
    # |a + e|^2 of noise e in d dimensions has the variance 2 F^2 / d + 4 |a|^2 F / d, F = E |e|^2: it grows with the
    # score as fast as if it were in proportion to the score less half its floor.
    score = value - min(value, max(floor, 0.0)) / 2 if is_positive else None
    first = max(total - second, 0.0)
    four = first / 4 + (total - first) / 16
    return {
        "samples": samples,
        "smallest_difference": compute_detectable_difference(total, other, reach, score=score),
        "smallest_difference_at_4n": compute_detectable_difference(four, other, reach, score=score),
    }
