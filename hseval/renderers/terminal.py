"""A report on the terminal: a table of the verdicts, then the details of each score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TextIO

from hseval.core.report import Report, Score
from hseval.reporting.summary import (
    collect_caveats,
    explain_certainty,
    explain_verdict_rule,
    format_interval,
    format_number,
    summarize_full_size,
)

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

VERDICT_STYLES = {
    "like real": "green",
    "worse than real": "red",
    "closer than real": "yellow",
    "too high": "red",
    "too low": "red",
}
PIPED_WIDTH = 10_000  # wide enough that no line of a piped report is wrapped or cut
INTERVAL_HEADING = "95 % interval"
MAX_NEAREST_PAIRS = 3
SPARKLINE_LEVELS = "▁▂▃▄▅▆▇█"


class TerminalRenderer:
    """Writes tables: in color and fitted to the width on a terminal, plain and unwrapped in a pipe."""

    name: ClassVar[str] = "terminal"
    summary: ClassVar[str] = "tables for people: value, floor, verdict, and where samples differ"

    def render(self, report: Report, stream: TextIO) -> None:
        """Write the report."""
        from rich.console import Console

        is_piped = not stream.isatty()
        console = Console(file=stream, highlight=False, width=PIPED_WIDTH if is_piped else None, soft_wrap=is_piped)
        for note in report.notes:
            console.print(f"[dim]·[/dim] {_escape_markup(note)}")
        console.print()
        console.print(_build_score_table(report))
        for line in explain_verdict_rule(report.scores):
            console.print(f"[dim]·[/dim] {line}")
        for section in _iter_sections(report):
            console.print()
            console.print(section)


def _build_score_table(report: Report) -> RenderableType:
    table = _create_table("score", "value", INTERVAL_HEADING, "floor", "excess", "verdict", "n", "better")
    for score in report.scores:
        style = VERDICT_STYLES.get(score.verdict, "dim" if score.value is None else "default")
        table.add_row(
            _escape_markup(score.name),
            _format_cell(score.value),
            format_interval(score.interval),
            _format_cell(score.floor),
            _format_cell(score.details.get("excess")),
            f"[{style}]{_escape_markup(score.verdict)}[/{style}]",
            str(score.n) if score.n else "-",
            {"lower": "lower", "higher": "higher", "floor": "near floor"}[score.better],
        )
    return table


def _iter_sections(report: Report) -> Iterator[RenderableType]:
    """Yield the tables by structure, then the remarks on each score."""
    for score in report.scores:
        structures = score.details.get("structures")
        if isinstance(structures, Mapping) and all(isinstance(record, Mapping) for record in structures.values()):
            yield _build_structure_table(score, report)
    for score in report.scores:
        lines = [
            *explain_certainty(score),
            *summarize_full_size(score),
            *_format_extra_numbers(score),
            *_format_nearest_pairs(score),
            *collect_caveats(score),
        ]
        if lines:
            yield "\n".join(
                [f"[bold]{_escape_markup(score.name)}[/bold]", *(f"  {_escape_markup(line)}" for line in lines)]
            )


def _build_structure_table(score: Score, report: Report) -> RenderableType:
    """Return a table with one row per structure: value, floor, and a sparkline over wavelength."""
    table = _create_table(f"{score.name} by structure", "value", "floor", "over wavelength", "largest at")
    reference = report.provenance.get("sets", {}).get("reference", {})
    unit = "{:.0f} nm" if reference.get("wavelengths_known", True) else "band {:.0f}"
    bands = [unit.format(center) for center in reference.get("wavelengths", [])]
    for name, record in score.details["structures"].items():
        curve = record.get("by_wavelength") or []
        table.add_row(
            _escape_markup(name),
            _format_cell(_get_structure_value(score.details, "at_n", name)),
            _format_cell(_get_structure_value(score.details, "floor_at_n", name)),
            _format_sparkline(curve),
            _find_peak_band(curve, bands),
        )
    return table


def _get_structure_value(details: Mapping[str, Any], key: str, structure: str) -> Any:
    record = details.get(key) or {}
    return record.get("structures", {}).get(structure, {}).get("value")


def _format_extra_numbers(score: Score) -> Iterator[str]:
    numbers = score.details.get("shown")
    if isinstance(numbers, Mapping):
        yield from (f"{label}: {format_number(value)}" for label, value in numbers.items())


def _format_nearest_pairs(score: Score) -> Iterator[str]:
    for pair in list(score.details.get("nearest_pairs") or [])[:MAX_NEAREST_PAIRS]:
        yield "nearest: " + ", ".join(f"{key} {format_number(value)}" for key, value in pair.items())


def _create_table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, column in enumerate(columns):
        is_numeric = column in ("value", "floor", "excess", "n", INTERVAL_HEADING)
        table.add_column(column, justify="right" if is_numeric else "left", no_wrap=i == 0 or is_numeric)
    return table


def _format_cell(value: Any) -> str:
    return _escape_markup(format_number(value))


def _format_sparkline(curve: Any) -> str:
    values = [value for value in curve if value is not None]
    peak = max(values, default=0.0)
    if peak <= 0:
        return ""
    return "".join(
        " " if v is None else SPARKLINE_LEVELS[min(len(SPARKLINE_LEVELS) - 1, int(v / peak * len(SPARKLINE_LEVELS)))]
        for v in curve
    )


def _find_peak_band(curve: Any, band_names: Sequence[str]) -> str:
    values = [-1.0 if value is None else value for value in curve]
    return band_names[values.index(max(values))] if values and len(values) == len(band_names) else ""


def _escape_markup(text: str) -> str:
    from rich.markup import escape

    return escape(text)
