"""What the page says in words: the verdict, numbers, how sure they are, and the command that makes it again."""

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
    """Where value, interval and floor lie on a line from 0 to 100."""

    value: float
    low: float
    high: float
    floor: float | None


def format_number(value: Any) -> str:
    """Return a number as it is shown, four digits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return EMPTY_CELL if value is None else str(value)
    return f"{value:.4g}".replace("-", "−")


def format_interval(interval: Sequence[Any] | None) -> str:
    """Return an interval as it is shown."""
    return "" if interval is None else f"{format_number(interval[0])} to {format_number(interval[1])}"


def format_verdict(report: Report) -> str:
    """Return the verdict on the samples in a sentence or two."""
    valued = [score for score in report.scores if score.value is not None and score.floor is not None]
    told = [score.name for score in valued if score.verdict != NOT_SIGNIFICANT]
    alike = [score.name for score in valued if score.verdict == NOT_SIGNIFICANT]
    missing = [score.name for score in report.scores if score not in valued]
    if not valued:
        return "No score could be held against its floor, so nothing is said of these samples."
    if not told:
        said = f"These samples are not told from real cubes by {_join_names(alike)}."
    elif not alike:
        said = f"These samples are told from real cubes by {_join_names(told)}."
    else:
        said = f"These samples are told from real cubes by {_join_names(told)}, but not by {_join_names(alike)}."
    return said + (f" Without a verdict: {_join_names(missing)}." if missing else "")


def get_verdict_class(score: Score) -> str:
    """Return which mark a verdict gets: ``alike``, ``told`` or ``none``."""
    if score.value is None or score.floor is None:
        return "none"
    return "alike" if score.verdict == NOT_SIGNIFICANT else "told"


def compute_strip(score: Score) -> ScoreStrip | None:
    """Return how a score is drawn as a strip; None: it has no value."""
    if score.value is None:
        return None
    low, high = score.interval or (score.value, score.value)
    ends = [score.value, low, high, *([] if score.floor is None else [score.floor])]
    least, most = min(0.0, *ends), max(0.0, *ends)
    across = most - least or 1.0

    def place(value: float) -> float:
        return round(4 + 92 * (value - least) / across, 2)

    return ScoreStrip(place(score.value), place(low), place(high), None if score.floor is None else place(score.floor))


def format_remarks(score: Score) -> Iterator[str]:
    """Yield what stands behind a score: how sure it is, its value at full size, what was left out."""
    for said in (*explain_certainty(score), *summarize_full_size(score), *collect_caveats(score)):
        yield f"{said[0].upper()}{said[1:]}."


def format_extra_numbers(score: Score) -> list[tuple[str, str]]:
    """Return the further numbers that a metric wants shown."""
    shown = score.details.get("shown")
    return [(str(label), format_number(value)) for label, value in shown.items()] if isinstance(shown, Mapping) else []


def format_rerun_command(report: Report) -> str:
    """Return the command (or Python) that makes the report again."""
    about = report.provenance
    command = [str(part) for part in about.get("command") or []]
    if command[1:2] == ["score"]:
        return shlex.join(["hseval", *command[1:]])
    places = {role: str(one.get("location")) for role, one in about.get("sets", {}).items()}
    settings = {name: value for name, value in about.get("settings", {}).items() if value not in (None, False, {})}
    given = {"ref": places.get("reference"), "train": places.get("train"), **settings}
    told = "".join(f", {name}={value!r}" for name, value in given.items() if value is not None)
    return f"hseval.score({places.get('samples')!r}{told})"


def _join_names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
