"""From outcomes to curves: one way, or the mean of both ways (each half spoiled in turn)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

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
from hseval.qualification.report import Curve, SeverityPoint, Interval

if TYPE_CHECKING:
    from hseval.qualification.job import Outcome
    from hseval.stats.jackknife import JackknifeReplicates

UNBOUNDED: Interval = (-math.inf, math.inf)
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
        floors: the outcome where nothing was done, for each way.
        outcomes: by severity, ascending, for each way.
        sizes: clean cubes and spoiled cubes.
        bounds: of the metric's values.
    """
    found, why = _collect_replicates(floors)
    if why is not None:
        return Curve(metric, degradation, None, None, None, sizes, (), None, None, missing_reason=why)
    signed = len(found[0].value) > 1
    bounds = (0.0, bounds[1]) if signed else bounds
    null = float(np.sqrt(np.mean([compute_null_std(each) ** 2 for each in found])))
    points, moves = [], []
    for severity, at in outcomes.items():
        values, missing = _collect_replicates(at)
        points.append(
            _build_point(severity, values, found, null, bounds)
            if missing is None
            else SeverityPoint(severity, missing_reason=missing)
        )
        if missing is None:
            moves.append(_compute_shift(values, found))
    have = [point for point in points if point.value is not None]
    floor, between = _average_value(found), _clip_interval(_average_interval(found), _average_value(found), bounds)
    if not have:
        return Curve(
            metric,
            degradation,
            floor,
            between,
            null,
            sizes,
            tuple(points),
            None,
            None,
            missing_reason=points[0].missing_reason,
        )
    severities = [point.severity for point in have]
    return Curve(
        metric,
        degradation,
        floor=floor,
        floor_interval=between,
        sizes=sizes,
        null_std=null,
        points=tuple(points),
        spearman=spearman([0.0, *severities], _compute_ranked_values(have, floor, moves, is_signed=signed)),
        detection_threshold=find_detection_threshold(severities, [point.is_significant for point in have], moves),
    )


def _collect_replicates(outcomes: Sequence[Outcome]) -> tuple[list[JackknifeReplicates], str | None]:
    """Return the replicates of all ways, or why one has none."""
    missing = next((outcome for outcome in outcomes if outcome.replicates is None), None)
    found = [outcome.replicates for outcome in outcomes if outcome.replicates is not None]
    return found, None if missing is None else missing.missing_reason or "no value"


def _compute_ranked_values(
    points: Sequence[SeverityPoint], floor: float, shifts: Sequence[float], *, is_signed: bool
) -> list[float]:
    """Return what is ranked against the severity, severity 0 first.

    The absolute value of a difference first falls where the fault moves the difference through 0; the difference itself
    does not, so that is ranked, in the direction in which it moves.
    """
    if is_signed:
        return [0.0, *(each if shifts[-1] > 0 else -each for each in shifts)]
    return [floor, *(point.value for point in points if point.value is not None)]


def _compute_shift(values: Sequence[JackknifeReplicates], floors: Sequence[JackknifeReplicates]) -> float:
    """Return by how much the value (or the difference that it is the absolute value of) has moved from its floor."""
    moved = float(np.mean([value.value[-1] - floor.value[-1] for value, floor in zip(values, floors, strict=True)]))
    return moved if abs(moved) > ROUNDING_TOLERANCE * _compute_magnitude(values, floors) else 0.0


def _compute_magnitude(*replicates: Sequence[JackknifeReplicates]) -> float:
    return max(float(np.abs(each.value).max()) for some in replicates for each in some)


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
        excess_std=(scattered := _average_excess_std(pairs)).std,
        is_significant=is_excess_significant(
            _compute_shift(values, floors), scattered, null_std=null_std, magnitude=_compute_magnitude(values, floors)
        ),
    )


def _average_excess_std(pairs: Sequence[tuple[JackknifeReplicates, JackknifeReplicates]]) -> ExcessStd:
    """Return how one comparison of a user scatters: the mean variance over the ways."""
    found = [compute_excess_std(value=value, floor=floor) for value, floor in pairs]
    deviation = np.sqrt(np.mean([each.std**2 for each in found]))
    return ExcessStd(float(deviation), float(np.mean([each.critical_value for each in found])))


def _average_value(replicates: Sequence[JackknifeReplicates]) -> float:
    return float(np.mean([each.value[0] for each in replicates]))


def _average_interval(replicates: Sequence[JackknifeReplicates]) -> Interval:
    """Return the interval of one way around the mean of both: these share their cubes, so it is hardly narrower."""
    low, high = np.mean([drop_missing_blocks(each)[0].compute_interval()[0] for each in replicates], axis=0)
    return float(low), float(high)


def _clip_interval(interval: Interval, value: float, bounds: Interval) -> Interval:
    """Return an interval without what no value can be; on the logarithm's scale for a distance, as that of a score."""
    reach = interval[1] - value
    if bounds == NON_NEGATIVE and reach < value:
        ratio = math.exp(reach / value)
        return value / ratio, value * ratio
    return max(interval[0], bounds[0]), min(interval[1], bounds[1])
