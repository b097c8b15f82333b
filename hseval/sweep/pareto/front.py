"""Trade-offs between two quantities of many generators: the runs that no other run beats in both.

Every score, samples per second and seconds per sample are a :class:`Quantity` with a better side. A run is on the front
of two quantities if no other run is at least as good in both and better in one (Pareto optimality).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

from hseval.core.report import Score
from hseval.sweep.results import RunResult, SweepResults
from hseval.utils.errors import HsevalError, format_suggestion

SPEED, SECONDS = "samples/s", "seconds"
Direction = Literal["lower", "higher"]


@dataclasses.dataclass(frozen=True)
class Quantity:
    """A quantity of one run.

    Attributes:
        value: its value.
        low: lower end of its interval; for speeds, of the slowest repeat.
        high: upper end.
        better: which side is better.
        floor: the score of real cubes; None: there is none.
    """

    value: float
    low: float
    high: float
    better: Direction
    floor: float | None = None


@dataclasses.dataclass(frozen=True)
class ParetoPoint:
    """One run in one panel."""

    row: RunResult
    x: Quantity
    y: Quantity
    is_on_front: bool = False


def get_quantity(row: RunResult, name: str) -> Quantity | None:
    """Return a run's quantity by name; None if it has none.

    For a score that is best nearest its floor, this is the distance from the floor.
    """
    if name in (SPEED, SECONDS):
        return _compute_speed(row, name)
    score = row.scores.get(name)
    if score is None or score.value is None:
        return None
    if score.better == "floor":
        return _compute_floor_distance(score)
    low, high = score.interval or (score.value, score.value)
    return Quantity(score.value, low, high, score.better, score.floor)


def _compute_speed(row: RunResult, name: str) -> Quantity | None:
    if row.timing is None:
        return None
    seconds, fastest, slowest = row.timing.seconds, row.timing.fastest, row.timing.slowest
    if name == SECONDS:
        return Quantity(seconds, fastest, slowest, "lower")
    return Quantity(1 / seconds, 1 / slowest, 1 / fastest, "higher")


def _compute_floor_distance(score: Score) -> Quantity | None:
    if score.value is None or score.floor is None:
        return None
    distance = abs(score.value - score.floor)
    low, high = score.excess_interval or (distance, distance)
    ends = sorted((abs(low), abs(high)))
    return Quantity(distance, 0.0 if low < 0 < high else ends[0], ends[1], "lower")


def build_points(results: SweepResults, x: str, y: str) -> list[ParetoPoint]:
    """Return the runs that have both quantities, in order, marked if they are on the front.

    Raises:
        HsevalError: there is no such quantity.
    """
    known = (SPEED, SECONDS, *results.score_names)
    for name in (x, y):
        if name not in known:
            raise HsevalError(f"{results.name}: there is no quantity {name!r}{format_suggestion(name, known)}")
    points = [
        ParetoPoint(row, a, b) for row in results.rows if (a := get_quantity(row, x)) and (b := get_quantity(row, y))
    ]
    front = mark_front([(point.x, point.y) for point in points])
    return [dataclasses.replace(point, is_on_front=is_best) for point, is_best in zip(points, front, strict=True)]


def mark_front(pairs: Sequence[tuple[Quantity, Quantity]]) -> list[bool]:
    """Return for each pair whether no other pair dominates it; of equal pairs all are on the front."""
    costs = [tuple(_compute_cost(quantity) for quantity in pair) for pair in pairs]
    return [not any(_dominates(other, cost) for other in costs) for cost in costs]


def _compute_cost(quantity: Quantity) -> float:
    return quantity.value if quantity.better == "lower" else -quantity.value


def _dominates(costs: Sequence[float], others: Sequence[float]) -> bool:
    pairs = list(zip(costs, others, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def build_table(results: SweepResults, x: str, ys: Sequence[str]) -> list[dict[str, Any]]:
    """Return one row for each run: label, options, quantities with intervals, and the fronts that it is on."""
    panels = {y: {point.row.label: point for point in build_points(results, x, y)} for y in ys}
    rows = []
    for row in results.rows:
        quantities = {name: _convert_to_dict(get_quantity(row, name)) for name in dict.fromkeys((x, *ys))}
        front = [y for y in ys if row.label in panels[y] and panels[y][row.label].is_on_front]
        rows.append({"run": row.label, "varied": dict(row.varied_options), "figures": quantities, "front": front,
                     "error": row.error})  # fmt: skip
    return rows


def _convert_to_dict(quantity: Quantity | None) -> dict[str, Any] | None:
    return None if quantity is None else dataclasses.asdict(quantity)


def choose_log_ticks(low: float, high: float) -> tuple[float, ...]:
    """Return the leading digits to label on a logarithmic axis: the shorter the axis, the more."""
    decades = math.log10(high / low)
    if decades > 2.5:
        return (1.0,)
    if decades > 1.2:
        return (1.0, 3.0)
    return (1.0, 2.0, 5.0) if decades > 0.5 else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
