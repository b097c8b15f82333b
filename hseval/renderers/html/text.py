"""Text of the page: the verdict, numbers, their uncertainty, and the command that reproduces the report."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from hseval.core.report import Report, Score
from hseval.reporting.summary import collect_caveats, explain_certainty, summarize_full_size
from hseval.stats.multiple_testing import NOT_SIGNIFICANT

EMPTY_CELL = "–"
DIRECTION_LABELS = {"lower": "lower is better", "higher": "higher is better", "floor": "best is nearest the floor"}


class ScoreStrip(NamedTuple):
    """Positions of value, interval and floor on a line from 0 to 100."""

    value: float
    low: float
    high: float
    floor: float | None


def format_number(value: Any) -> str:
    """Return a number with four digits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return EMPTY_CELL if value is None else str(value)
    return f"{value:.4g}".replace("-", "−")


def format_interval(interval: Sequence[Any] | None) -> str:
    """Return an interval as text, empty for None."""
    return "" if interval is None else f"{format_number(interval[0])} to {format_number(interval[1])}"


def format_verdict(report: Report) -> str:
    """Return the verdict on the samples in one or two sentences."""
    valued = [score for score in report.scores if score.value is not None and score.floor is not None]
    different = [score.name for score in valued if score.verdict != NOT_SIGNIFICANT]
    alike = [score.name for score in valued if score.verdict == NOT_SIGNIFICANT]
    missing = [score.name for score in report.scores if score not in valued]
    if not valued:
        return "No score could be compared with its floor, so there is no verdict on these samples."
    if not different:
        verdict = f"These samples are not significantly different from real cubes in {_join_names(alike)}."
    elif not alike:
        verdict = f"These samples are significantly different from real cubes in {_join_names(different)}."
    else:
        verdict = (
            f"These samples are significantly different from real cubes in {_join_names(different)}, "
            f"but not in {_join_names(alike)}."
        )
    return verdict + (f" Without a verdict: {_join_names(missing)}." if missing else "")


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
    for remark in (*explain_certainty(score), *summarize_full_size(score), *collect_caveats(score)):
        yield f"{remark[0].upper()}{remark[1:]}."


def format_extra_numbers(score: Score) -> list[tuple[str, str]]:
    """Return the additional numbers that a metric shows."""
    numbers = score.details.get("shown")
    return (
        [(str(label), format_number(value)) for label, value in numbers.items()] if isinstance(numbers, Mapping) else []
    )


def format_rerun_command(report: Report) -> str:
    """Return the command (or Python call) that reproduces the report."""
    provenance = report.provenance
    command = [str(part) for part in provenance.get("command") or []]
    if command[1:2] == ["score"]:
        return shlex.join(["hseval", *command[1:]])
    locations = {role: str(record.get("location")) for role, record in provenance.get("sets", {}).items()}
    settings = {name: value for name, value in provenance.get("settings", {}).items() if value not in (None, False, {})}
    arguments = {"ref": locations.get("reference"), "train": locations.get("train"), **settings}
    keywords = "".join(f", {name}={value!r}" for name, value in arguments.items() if value is not None)
    return f"hseval.score({locations.get('samples')!r}{keywords})"


def _join_names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
