"""From outcomes to curves: one way, or the mean of both ways (each half degraded in turn)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hseval.core.capabilities import UNBOUNDED
from hseval.qualification.dose_response import (
    ROUNDING_TOLERANCE,
    ExcessStd,
    compute_excess_std,
    compute_null_std,
    drop_missing_blocks,
    find_detection_threshold,
    is_excess_significant,
    spearman,
    subtract_floor,
)
from hseval.qualification.report import Curve, Interval, SeverityPoint

if TYPE_CHECKING:
    from hseval.qualification.job import Outcome
    from hseval.stats.jackknife import JackknifeReplicates

NON_NEGATIVE: Interval = (0.0, math.inf)


def build_curve(
    metric: str,
    degradation: str,
    *,
    floors: Sequence[Outcome],
    outcomes: Mapping[float, Sequence[Outcome]],
    sizes: tuple[int, int],
    bounds: Interval = UNBOUNDED,
) -> Curve:
    """Return the curve of one metric and degradation.

    Args:
        metric: the column's label.
        degradation: its name.
        floors: the outcome at severity 0, for each way.
        outcomes: by severity, ascending, for each way.
        sizes: numbers of clean and of degraded cubes.
        bounds: of the metric's values.
    """
    floor_replicates, floor_missing_reason = _collect_replicates(floors)
    if floor_missing_reason is not None:
        return Curve(metric, degradation, None, None, None, sizes, (), None, None, missing_reason=floor_missing_reason)
    is_signed = len(floor_replicates[0].value) > 1
    bounds = (0.0, bounds[1]) if is_signed else bounds
    null_std = float(np.sqrt(np.mean([compute_null_std(replicates) ** 2 for replicates in floor_replicates])))
    points, shifts = [], []
    for severity, way_outcomes in outcomes.items():
        values, missing_reason = _collect_replicates(way_outcomes)
        points.append(
            _build_point(severity, values, floor_replicates, null_std, bounds)
            if missing_reason is None
            else SeverityPoint(severity, missing_reason=missing_reason)
        )
        if missing_reason is None:
            shifts.append(_compute_shift(values, floor_replicates))
    computed = [point for point in points if point.value is not None]
    floor = _average_value(floor_replicates)
    floor_interval = _clip_interval(_average_interval(floor_replicates), floor, bounds)
    if not computed:
        return Curve(
            metric,
            degradation,
            floor,
            floor_interval,
            null_std,
            sizes,
            tuple(points),
            None,
            None,
            missing_reason=points[0].missing_reason,
        )
    severities = [point.severity for point in computed]
    return Curve(
        metric,
        degradation,
        floor=floor,
        floor_interval=floor_interval,
        sizes=sizes,
        null_std=null_std,
        points=tuple(points),
        spearman=spearman([0.0, *severities], _compute_ranked_values(computed, floor, shifts, is_signed=is_signed)),
        detection_threshold=find_detection_threshold(severities, [point.is_significant for point in computed], shifts),
    )


def _collect_replicates(outcomes: Sequence[Outcome]) -> tuple[list[JackknifeReplicates], str | None]:
    """Return the replicates of all ways, and why one has none (else None)."""
    missing = next((outcome for outcome in outcomes if outcome.replicates is None), None)
    replicates = [outcome.replicates for outcome in outcomes if outcome.replicates is not None]
    return replicates, None if missing is None else missing.missing_reason or "no value"


def _compute_ranked_values(
    points: Sequence[SeverityPoint], floor: float, shifts: Sequence[float], *, is_signed: bool
) -> list[float]:
    """Return the values that are ranked against the severity, severity 0 first.

    The absolute value of a difference first falls where the fault moves the difference through 0. The difference itself
    is monotone there, so the difference is ranked, in the direction in which it moves.
    """
    if is_signed:
        return [0.0, *(shift if shifts[-1] > 0 else -shift for shift in shifts)]
    return [floor, *(point.value for point in points if point.value is not None)]


def _compute_shift(values: Sequence[JackknifeReplicates], floors: Sequence[JackknifeReplicates]) -> float:
    """Return the mean shift of the value (or of the difference that it is the absolute value of) from its floor."""
    shift = float(np.mean([value.value[-1] - floor.value[-1] for value, floor in zip(values, floors, strict=True)]))
    return shift if abs(shift) > ROUNDING_TOLERANCE * _compute_magnitude(values, floors) else 0.0


def _compute_magnitude(*replicates: Sequence[JackknifeReplicates]) -> float:
    return max(float(np.abs(way.value).max()) for ways in replicates for way in ways)


def _build_point(
    severity: float,
    values: Sequence[JackknifeReplicates],
    floors: Sequence[JackknifeReplicates],
    null_std: float,
    bounds: Interval,
) -> SeverityPoint:
    pairs = list(zip(values, floors, strict=True))
    return SeverityPoint(
        severity,
        value=_average_value(values),
        interval=_clip_interval(_average_interval(values), _average_value(values), bounds),
        excess=_average_value(values) - _average_value(floors),
        excess_interval=_average_interval([subtract_floor(value, floor) for value, floor in pairs]),
        excess_std=(excess_std := _average_excess_std(pairs)).std,
        is_significant=is_excess_significant(
            _compute_shift(values, floors), excess_std, null_std=null_std, magnitude=_compute_magnitude(values, floors)
        ),
    )


def _average_excess_std(pairs: Sequence[tuple[JackknifeReplicates, JackknifeReplicates]]) -> ExcessStd:
    """Return the standard deviation of one user's excess: the root of the mean variance over the ways."""
    excess_stds = [compute_excess_std(value=value, floor=floor) for value, floor in pairs]
    std = np.sqrt(np.mean([excess_std.std**2 for excess_std in excess_stds]))
    return ExcessStd(float(std), float(np.mean([excess_std.critical_value for excess_std in excess_stds])))


def _average_value(replicates: Sequence[JackknifeReplicates]) -> float:
    return float(np.mean([way.value[0] for way in replicates]))


def _average_interval(replicates: Sequence[JackknifeReplicates]) -> Interval:
    """Return the mean interval of the ways: they share their cubes, so the interval of the mean is hardly narrower."""
    low, high = np.mean([drop_missing_blocks(way)[0].compute_interval()[0] for way in replicates], axis=0)
    return float(low), float(high)


def _clip_interval(interval: Interval, value: float, bounds: Interval) -> Interval:
    """Return an interval within the bounds; for a distance computed on the logarithmic scale, like that of a score."""
    half_width = interval[1] - value
    if bounds == NON_NEGATIVE and half_width < value:
        ratio = math.exp(half_width / value)
        return value / ratio, value * ratio
    return max(interval[0], bounds[0]), min(interval[1], bounds[1])
