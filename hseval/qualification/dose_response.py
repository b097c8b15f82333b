"""Numerics of dose-response curves: monotonicity, detection threshold, and the severity that gives a certain excess."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hseval.stats.jackknife import JackknifeReplicates
from hseval.stats.variance import (
    MIN_VARIANCE_RATIO,
    compute_degrees_of_freedom,
    compute_pair_variance,
    compute_t_quantile,
)

if TYPE_CHECKING:
    from hseval.utils.arrays import Float64Array


ROUNDING_TOLERANCE = 1e-9  # relative to the values: a smaller excess counts as 0


class SeverityEstimate(NamedTuple):
    """Severity of an excess: ``"about"`` this one, ``"below"`` the smallest one, or ``"beyond"`` the largest one."""

    relation: str
    severity: float


class ExcessStd(NamedTuple):
    """Standard deviation of an excess, and the number of standard deviations that makes it significant (95 %)."""

    std: float
    critical_value: float


def drop_missing_blocks(*jackknives: JackknifeReplicates) -> list[JackknifeReplicates]:
    """Return jackknives without the replicates that some of them lack (NaN: without that block there is no value).

    All of them must leave out the same blocks and pairs of blocks.
    """
    complete: dict[str, list[Any]] = {}
    for name in ("real", "generated", "real_pairs", "generated_pairs", "cross_pairs"):
        replicates = [getattr(jackknife, name) for jackknife in jackknives]
        if any(array is None for array in replicates):
            complete[name] = [None] * len(jackknives)
            continue
        is_complete = np.logical_and.reduce([np.isfinite(array).all(axis=1) for array in replicates])
        complete[name] = [array[is_complete] for array in replicates]
    return [
        dataclasses.replace(jackknife, **{name: arrays[i] for name, arrays in complete.items()})
        for i, jackknife in enumerate(jackknives)
    ]


def subtract_floor(value: JackknifeReplicates, floor: JackknifeReplicates) -> JackknifeReplicates:
    """Return the replicates of value minus floor, where both leave out the same blocks."""
    value, floor = drop_missing_blocks(value, floor)
    pairs = [
        None if value_pairs is None or floor_pairs is None else value_pairs - floor_pairs
        for value_pairs, floor_pairs in (
            (value.real_pairs, floor.real_pairs),
            (value.generated_pairs, floor.generated_pairs),
            (value.cross_pairs, floor.cross_pairs),
        )
    ]
    return JackknifeReplicates(
        value.value - floor.value, value.real - floor.real, value.generated - floor.generated, *pairs
    )


def compute_excess_std(*, value: JackknifeReplicates, floor: JackknifeReplicates) -> ExcessStd:
    """Return the standard deviation of ``value - floor`` for a user whose sets are independent.

    Floor and value share the clean set, so its part of the variance is that of the difference. The degraded set and the
    set of the floor are the same cubes here but different ones for a user, so their parts add up. The plain jackknife
    counts the contribution of pairs of blocks twice; it is subtracted once, as
    :class:`hseval.stats.jackknife.JackknifeReplicates` does.

    Args:
        value: replicates of the value; of several numbers the last one counts.
        floor: replicates of the floor, over the same blocks.
    """
    value, floor = drop_missing_blocks(value, floor)
    difference = subtract_floor(value, floor)
    g, h = len(value.real), len(value.generated)
    added = [
        (difference.compute_real_variance(), g - 1),
        (value.compute_generated_variance(), h - 1),
        (floor.compute_generated_variance(), h - 1),
    ]
    subtracted = _estimate_pair_variance(difference.real_pairs, g * (g - 1) / 2)
    for jackknife in (value, floor):
        subtracted += _estimate_pair_variance(jackknife.generated_pairs, h * (h - 1) / 2)
        subtracted += _estimate_pair_variance(jackknife.cross_pairs, g * h)
    plain = np.sum([variance for variance, _ in added], axis=0)
    double_counted = np.sum([variance for variance, _ in subtracted], axis=0) if subtracted else np.zeros_like(plain)
    variance = np.maximum(plain - double_counted, MIN_VARIANCE_RATIO * plain)
    critical_value = compute_t_quantile(0.95, compute_degrees_of_freedom(variance, added, subtracted))
    return ExcessStd(float(np.sqrt(variance[-1])), float(critical_value[-1]))


def _estimate_pair_variance(second_differences: Float64Array | None, count: float) -> list[tuple[Float64Array, int]]:
    """Return the variance of ``count`` pairs of blocks, with the number of pairs used; nothing without any pairs."""
    return (
        []
        if second_differences is None or not len(second_differences)
        else [(np.asarray(compute_pair_variance(second_differences, count)), len(second_differences))]
    )


def compute_null_std(floor: JackknifeReplicates) -> float:
    """Return the standard deviation of ``value - floor`` without a fault: two real sets against a third one.

    The third set's part cancels and those of the two others are equal: twice the floor's variance over its other side.
    """
    (floor,) = drop_missing_blocks(floor)
    g, h = len(floor.real), len(floor.generated)
    plain = floor.compute_generated_variance()
    subtracted = [
        *_estimate_pair_variance(floor.generated_pairs, h * (h - 1) / 2),
        *_estimate_pair_variance(floor.cross_pairs, g * h),
    ]
    double_counted = np.sum([variance for variance, _ in subtracted], axis=0) if subtracted else np.zeros_like(plain)
    return float(np.sqrt(2 * np.maximum(plain - double_counted, MIN_VARIANCE_RATIO * plain)[-1]))


def is_excess_significant(excess: float, excess_std: ExcessStd, *, null_std: float, magnitude: float) -> bool:
    """Return whether an excess differs significantly from 0, given its standard deviation with and without a fault.

    The values of a gross fault vary as much as they are large, yet each of them is far beyond the floor. So the test
    uses the variance-stabilizing transform: with variance ``null^2 + (k excess)^2`` that is
    ``asinh(k excess / null) / k`` (Bartlett 1947), which is ``excess / null`` where the variance has not grown and
    logarithmic where it has.

    Args:
        excess: value minus floor.
        excess_std: standard deviation at this severity.
        null_std: standard deviation at severity 0; 0: unknown, and the excess is not transformed.
        magnitude: of the values that the excess is the difference of.
    """
    if abs(excess) <= ROUNDING_TOLERANCE * magnitude:
        return False
    if null_std <= ROUNDING_TOLERANCE * magnitude:
        return abs(excess) > excess_std.critical_value * excess_std.std
    growth = float(np.sqrt(max((excess_std.std / null_std) ** 2 - 1, 0.0)))
    shrinkage = float(np.arcsinh(growth)) / growth if growth > 0 else 1.0
    return abs(excess) / null_std * shrinkage > excess_std.critical_value


def find_detection_threshold(
    severities: Sequence[float], significant: Sequence[bool], excesses: Sequence[float]
) -> float | None:
    """Return the smallest severity from which on all are significant, on the largest one's side of the floor."""
    threshold = None
    for severity, is_significant, excess in zip(
        reversed(severities), reversed(significant), reversed(excesses), strict=True
    ):
        if not is_significant or (excess > 0) != (excesses[-1] > 0):
            break
        threshold = severity
    return threshold


def spearman(severities: Sequence[float], values: Sequence[float]) -> float | None:
    """Return the rank correlation (ties get their mean rank), or None if one of the two is constant.

    Values that differ by no more than rounding are ties: a degradation without effect must not look like a trend.
    """
    from scipy.stats import spearmanr

    array = np.asarray(values, dtype=np.float64)
    unit = ROUNDING_TOLERANCE * np.abs(array).max(initial=0.0)
    rounded = np.round(array / unit) if unit > 0 else array
    if np.ptp(severities) == 0 or np.ptp(rounded) == 0:
        return None
    return float(spearmanr(severities, rounded).statistic)


def find_equivalent_severity(severities: Sequence[float], excesses: Sequence[float], target: float) -> SeverityEstimate:
    """Return the severity at which a curve's excess over the floor is ``target``.

    The curve is made monotone away from the floor (in the direction of its last point) and interpolated linearly in the
    excess and in the logarithm of the severity. It is not extrapolated below the smallest severity.

    Args:
        severities: ascending, above 0.
        excesses: value minus floor at each.
        target: the score's own excess.
    """
    from scipy.optimize import isotonic_regression

    sign = 1.0 if excesses[-1] > 0 else -1.0
    curve = isotonic_regression(sign * np.asarray(excesses)).x
    target = sign * target
    if target < curve[0]:
        return SeverityEstimate("below", float(severities[0]))
    if target > curve[-1]:
        return SeverityEstimate("beyond", float(severities[-1]))
    # Where the curve is flat, several severities give the same excess: their geometric mean is returned.
    levels, level_index = np.unique(curve, return_inverse=True)
    logs = np.bincount(level_index, np.log(np.asarray(severities, dtype=np.float64))) / np.bincount(level_index)
    return SeverityEstimate("about", float(np.exp(np.interp(target, levels, logs))))
