"""From outcomes to curves: one way, or the mean of both ways (each half spoiled in turn)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hseval.qualification.dose_response import (
    ROUNDING,
    Scatter,
    apart,
    complete,
    difference,
    null_deviation,
    scatter,
    spearman,
    told_from,
)
from hseval.qualification.report import Curve, Point, Range

if TYPE_CHECKING:
    from hseval.qualification.job import Outcome
    from hseval.stats.jackknife import Jackknife

ANY: Range = (-math.inf, math.inf)
POSITIVE: Range = (0.0, math.inf)


def curve_of(
    metric: str,
    degradation: str,
    *,
    floors: Sequence[Outcome],
    outcomes: Mapping[float, Sequence[Outcome]],
    sizes: tuple[int, int],
    bounds: Range = ANY,
) -> Curve:
    """Return the curve of one metric and degradation.

    Args:
        metric: the column's label.
        degradation: its name.
        floors: the outcome where nothing was done, for each way.
        outcomes: by dose, ascending, for each way.
        sizes: clean cubes and spoiled cubes.
        bounds: of the metric's values.
    """
    found, why = _all(floors)
    if why is not None:
        return Curve(metric, degradation, None, None, None, sizes, (), None, None, why=why)
    signed = len(found[0].value) > 1
    bounds = (0.0, bounds[1]) if signed else bounds
    null = float(np.sqrt(np.mean([null_deviation(each) ** 2 for each in found])))
    points, moves = [], []
    for dose, at in outcomes.items():
        values, missing = _all(at)
        points.append(_point(dose, values, found, null, bounds) if missing is None else Point(dose, why=missing))
        if missing is None:
            moves.append(_moved(values, found))
    have = [point for point in points if point.value is not None]
    floor, between = _value(found), _within(_interval(found), _value(found), bounds)
    if not have:
        return Curve(metric, degradation, floor, between, null, sizes, tuple(points), None, None, why=points[0].why)
    doses = [point.dose for point in have]
    return Curve(
        metric,
        degradation,
        floor=floor,
        floor_interval=between,
        sizes=sizes,
        floor_scatter=null,
        points=tuple(points),
        spearman=spearman([0.0, *doses], _ranked(have, floor, moves, signed=signed)),
        told_from=told_from(doses, [point.told for point in have], moves),
    )


def _all(outcomes: Sequence[Outcome]) -> tuple[list[Jackknife], str | None]:
    """Return the replicates of all ways, or why one has none."""
    missing = next((outcome for outcome in outcomes if outcome.found is None), None)
    found = [outcome.found for outcome in outcomes if outcome.found is not None]
    return found, None if missing is None else missing.why or "no value"


def _ranked(points: Sequence[Point], floor: float, moves: Sequence[float], *, signed: bool) -> list[float]:
    """Return what is ranked against the dose, dose 0 first.

    The absolute value of a difference first falls where the fault moves the difference through 0; the difference itself
    does not, so that is ranked, in the direction in which it moves.
    """
    if signed:
        return [0.0, *(each if moves[-1] > 0 else -each for each in moves)]
    return [floor, *(point.value for point in points if point.value is not None)]


def _moved(values: Sequence[Jackknife], floors: Sequence[Jackknife]) -> float:
    """Return by how much the value (or the difference that it is the absolute value of) has moved from its floor."""
    moved = float(np.mean([value.value[-1] - floor.value[-1] for value, floor in zip(values, floors, strict=True)]))
    return moved if abs(moved) > ROUNDING * _size(values, floors) else 0.0


def _size(*found: Sequence[Jackknife]) -> float:
    return max(float(np.abs(each.value).max()) for some in found for each in some)


def _point(dose: float, values: Sequence[Jackknife], floors: Sequence[Jackknife], null: float, bounds: Range) -> Point:
    pairs = list(zip(values, floors, strict=True))
    return Point(
        dose,
        value=_value(values),
        interval=_within(_interval(values), _value(values), bounds),
        excess=_value(values) - _value(floors),
        excess_interval=_interval([difference(value, floor) for value, floor in pairs]),
        scatter=(scattered := _scatter(pairs)).deviation,
        told=apart(_moved(values, floors), scattered, null=null, size=_size(values, floors)),
    )


def _scatter(pairs: Sequence[tuple[Jackknife, Jackknife]]) -> Scatter:
    """Return how one comparison of a user scatters: the mean variance over the ways."""
    found = [scatter(value=value, floor=floor) for value, floor in pairs]
    deviation = np.sqrt(np.mean([each.deviation**2 for each in found]))
    return Scatter(float(deviation), float(np.mean([each.reach for each in found])))


def _value(found: Sequence[Jackknife]) -> float:
    return float(np.mean([each.value[0] for each in found]))


def _interval(found: Sequence[Jackknife]) -> Range:
    """Return the interval of one way around the mean of both: these share their cubes, so it is hardly narrower."""
    low, high = np.mean([complete(each)[0].interval()[0] for each in found], axis=0)
    return float(low), float(high)


def _within(between: Range, value: float, bounds: Range) -> Range:
    """Return an interval without what no value can be; on the logarithm's scale for a distance, as that of a score."""
    reach = between[1] - value
    if bounds == POSITIVE and reach < value:
        ratio = math.exp(reach / value)
        return value / ratio, value * ratio
    return max(between[0], bounds[0]), min(between[1], bounds[1])
