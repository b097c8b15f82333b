"""A report on the terminal: the verdict in one sentence, a row a score, and the notes; details on request."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, TextIO

from hseval.core.options import option
from hseval.core.report import Report, Score
from hseval.reporting.summary import (
    explain_verdict_rule,
    format_interval,
    format_number,
    iterate_remarks,
    list_shown_numbers,
    list_structures,
    summarize_verdicts,
)
from hseval.utils.console import create_console, create_table, escape_text, print_item

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

VERDICT_STYLES = {
    "like real": "green",
    "worse than real": "red",
    "closer than real": "yellow",
    "too high": "red",
    "too low": "red",
}
NUMERIC_COLUMNS = ("value", "floor", "excess", "p", "n", "95 % interval")
MAX_NEAREST_PAIRS = 3
SPARKLINE_LEVELS = "▁▂▃▄▅▆▇█"


class TerminalRenderer:
    """Writes text: in color and fitted to the width on a terminal, plain and unwrapped in a pipe."""

    name: ClassVar[str] = "terminal"
    summary: ClassVar[str] = "a short table for people: verdict, excess, p, and where samples differ"

    @dataclasses.dataclass(frozen=True)
    class Options:
        """Options of the renderer."""

        details: bool = option(False, "also show values, intervals, floors and what stands behind each score")

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def render(self, report: Report, stream: TextIO) -> None:
        """Write the report."""
        console = create_console(stream)
        print_item(console, summarize_verdicts(report), "", style="bold")
        console.print()
        console.print(_build_verdict_table(report))
        if self.options.details:
            _print_details(console, report)
        for heading, sentences in (("Notes", report.notes), ("Where samples differ", report.differences)):
            if sentences:
                console.print(f"\n{heading}")
            for sentence in sentences:
                print_item(console, sentence)


def format_report(report: Report) -> str:
    """Return a report as plain text."""
    stream = io.StringIO()
    TerminalRenderer().render(report, stream)
    return stream.getvalue().rstrip("\n")


def _build_verdict_table(report: Report) -> Table:
    table = _create_table("score", "verdict", "excess", "p")
    for score in report.scores:
        style = VERDICT_STYLES.get(score.verdict, "dim" if score.value is None else "default")
        p_value = score.p_value if score.p_adjusted is None else score.p_adjusted
        table.add_row(
            escape_text(score.name),
            f"[{style}]{escape_text(score.verdict)}[/{style}]",
            format_number(score.excess),
            "-" if p_value is None else f"{p_value:.2g}",
        )
    return table


def _print_details(console: Console, report: Report) -> None:
    """Print the table of values, the tables by structure, and the remarks on each score."""
    for table in (_build_value_table(report), *_iter_structure_tables(report)):
        console.print()
        console.print(table)
    for sentence in explain_verdict_rule(report.scores):
        console.print()
        print_item(console, sentence, "")
    for score in report.scores:
        numbers = [f"{label}: {number}" for label, number in list_shown_numbers(score)]
        lines = [*iterate_remarks(score), *numbers, *_format_nearest_pairs(score)]
        if lines:
            console.print(f"\n[bold]{escape_text(score.name)}[/bold]")
        for line in lines:
            print_item(console, line, "  ")


def _build_value_table(report: Report) -> Table:
    table = _create_table("score", "value", "95 % interval", "floor", "n", "better")
    for score in report.scores:
        table.add_row(
            escape_text(score.name),
            format_number(score.value),
            format_interval(score.interval),
            format_number(score.floor),
            str(score.n) if score.n else "-",
            {"lower": "lower", "higher": "higher", "floor": "near floor"}[score.better],
        )
    return table


def _iter_structure_tables(report: Report) -> Iterator[Table]:
    """Yield a table a score with one row per structure: value, floor, and a sparkline over wavelength."""
    reference = report.provenance.get("sets", {}).get("reference", {})
    unit = "{:.0f} nm" if reference.get("wavelengths_known", True) else "band {:.0f}"
    bands = [unit.format(center) for center in reference.get("wavelengths", [])]
    for score in report.scores:
        structures = list_structures(score)
        table = _create_table(
            f"{escape_text(score.name)} by structure", "value", "floor", "over wavelength", "largest at"
        )
        for name, value, floor in structures:
            curve = score.details.get("structures", {}).get(name, {}).get("by_wavelength", [])
            numbers = format_number(value), format_number(floor)
            table.add_row(escape_text(name), *numbers, _format_sparkline(curve), _find_peak_band(curve, bands))
        if structures:
            yield table


def _format_nearest_pairs(score: Score) -> Iterator[str]:
    for pair in score.details.get("nearest_pairs", [])[:MAX_NEAREST_PAIRS]:
        yield "nearest: " + ", ".join(f"{key} {format_number(value)}" for key, value in pair.items())


def _create_table(*columns: str) -> Table:
    table = create_table()
    for i, column in enumerate(columns):
        is_numeric = column in NUMERIC_COLUMNS
        table.add_column(
            column, justify="right" if is_numeric else "left", no_wrap=i == 0 or is_numeric, overflow="fold"
        )
    return table


def _format_sparkline(curve: Sequence[float | None]) -> str:
    peak = max((value for value in curve if value is not None), default=0.0)
    if peak <= 0:
        return ""
    top = len(SPARKLINE_LEVELS) - 1
    return "".join(
        " " if value is None else SPARKLINE_LEVELS[max(0, min(top, int(value / peak * (top + 1))))] for value in curve
    )


def _find_peak_band(curve: Sequence[float | None], band_names: Sequence[str]) -> str:
    values = [-1.0 if value is None else value for value in curve]
    return band_names[values.index(max(values))] if values and len(values) == len(band_names) else ""
