"""Text of the page: numbers, their uncertainty, and the command that reproduces the report."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from hseval.core.report import Report, Score
from hseval.reporting import summary
from hseval.stats.multiple_testing import NOT_SIGNIFICANT

EMPTY_CELL = "–"


class ScoreStrip(NamedTuple):
    """Positions of value, interval and floor on a line from 0 to 100."""

    value: float
    low: float
    high: float
    floor: float | None


def format_number(value: Any) -> str:
    """Return a number with four digits and a true minus sign."""
    if value is None:
        return EMPTY_CELL
    text = summary.format_number(value)
    return text if isinstance(value, str) else text.replace("-", "−")


def format_interval(interval: Sequence[Any] | None) -> str:
    """Return an interval as text, empty for None."""
    return "" if interval is None else f"{format_number(interval[0])} to {format_number(interval[1])}"


def get_verdict_class(score: Score) -> str:
    """Return the CSS class of a verdict: ``alike``, ``different`` or ``none``."""
    if score.value is None or score.floor is None:
        return "none"
    return "alike" if score.verdict == NOT_SIGNIFICANT else "different"


def compute_strip(score: Score) -> ScoreStrip | None:
    """Return the positions for drawing a score as a strip; None if it has no value."""
    if score.value is None:
        return None
    low, high = score.interval or (score.value, score.value)
    points = [score.value, low, high, *([] if score.floor is None else [score.floor])]
    start, end = min(0.0, *points), max(0.0, *points)
    width = end - start or 1.0

    def to_position(value: float) -> float:
        return round(4 + 92 * (value - start) / width, 2)

    floor = None if score.floor is None else to_position(score.floor)
    return ScoreStrip(to_position(score.value), to_position(low), to_position(high), floor)


def format_remarks(score: Score) -> Iterator[str]:
    """Yield remarks on a score: its uncertainty, its value at full size, what was left out."""
    for remark in summary.iterate_remarks(score):
        yield f"{remark[:1].upper()}{remark[1:]}."


def format_rerun_command(report: Report) -> str:
    """Return the command (or Python call) that reproduces the report."""
    provenance = report.provenance
    command = [str(part) for part in provenance.get("command") or []]
    if command[1:2] == ["score"]:
        return shlex.join(["hseval", *command[1:]])
    locations = {role: record.get("location") for role, record in provenance.get("sets", {}).items()}
    settings = {name: value for name, value in provenance.get("settings", {}).items() if value not in (None, False, {})}
    arguments = {"ref": locations.get("reference"), "train": locations.get("train"), **settings}
    keywords = "".join(f", {name}={value!r}" for name, value in arguments.items() if value is not None)
    return f"hseval.score({locations.get('samples')!r}{keywords})"
