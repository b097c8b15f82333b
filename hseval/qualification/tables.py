"""Tables of a qualify report for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from hseval.utils.console import create_console, create_table, escape_text, print_item

if TYPE_CHECKING:
    from rich.table import Table

    from hseval.qualification.equivalent_severity import EquivalentSeverity, ScoreEquivalents
    from hseval.qualification.report import Curve, QualifyReport

INSENSITIVE, MISSING = "insensitive", "-"
KINDS = ("spectral", "spatial", "set", "copies")
LEGEND = (
    "smallest severity from which on all differ significantly from the floor (in parentheses: Spearman's correlation "
    "of value and severity); insensitive: not even the largest severity does; -: not computed"
)


def format_cell(curve: Curve) -> str:
    """Return one cell: ``"4 (0.98)"``, ``"insensitive (0.31)"`` or ``"-"``."""
    if curve.floor is None or all(point.value is None for point in curve.points):
        return MISSING
    text = INSENSITIVE if curve.detection_threshold is None else f"{curve.detection_threshold:.3g}"
    return text if curve.spearman is None else f"{text} ({curve.spearman:.2f})"


def build_table_rows(report: QualifyReport) -> list[tuple[str, str, list[str]]]:
    """Return the name, the unit and the cells of all columns, for each degradation."""
    return [
        (
            row.name,
            shorten_unit(row.unit),
            [format_cell(report.get_curve(column.label, row.name)) for column in report.columns],
        )
        for row in report.rows
    ]


def shorten_unit(unit: str) -> str:
    """Return a unit without the explanation in parentheses."""
    return unit.split(" (", maxsplit=1)[0]


def list_missing_reasons(report: QualifyReport) -> list[str]:
    """Return the reasons why columns have no value, each once."""
    lines: dict[str, None] = {}
    for curve in report.curves:
        reasons = [curve.missing_reason, *(point.missing_reason for point in curve.points)]
        lines.update({f"{curve.metric}: not computed: {reason}": None for reason in reasons if reason})
    return list(lines)


def format_equivalents(score: ScoreEquivalents) -> str:
    """Return a score as severities, in one line."""
    head = f"{score.metric} {score.value:.4g} (floor {score.floor:.4g}, n {score.n})"
    if score.missing_reason:
        return f"{head}: {score.missing_reason}"
    return f"{head} is {'; or '.join(_format_severity(equivalent) for equivalent in score.equivalents)}"


def _format_severity(equivalent: EquivalentSeverity) -> str:
    """Return one severity: ``"about 4 nm (3 to 5.2) of shift"``."""
    relation = {"about": "about", "below": "less than", "beyond": "more than"}[equivalent.relation]
    interval = (
        f" ({equivalent.interval[0]:.2g} to {equivalent.interval[1]:.2g})"
        if equivalent.interval is not None and equivalent.relation == "about"
        else ""
    )
    return f"{relation} {equivalent.severity:.2g} {shorten_unit(equivalent.unit)}{interval} of {equivalent.degradation}"


TableRows = Sequence[tuple[str, str, list[str]]]

COLUMN_GAP = 3  # characters between two columns
MAX_MARKDOWN_COLUMNS = 6  # metrics in one table of a page


def print_report(report: QualifyReport, stream: TextIO, equivalents: Sequence[ScoreEquivalents] = ()) -> None:
    """Write the table of the severities that each metric detects, and a user's scores as severities, if any."""
    console = create_console(stream)
    for note in report.notes:
        print_item(console, note)
    rows = build_table_rows(report)
    for column_slice in _split_columns(report, rows, console.width):
        console.print()
        console.print(_build_table(report, rows, column_slice))
    console.print()
    for line in _iterate_footer_lines(report):
        print_item(console, line, "")
    for score in equivalents:
        console.print()
        print_item(console, format_equivalents(score), "", style="bold")
        for warning in score.warnings:
            print_item(console, warning, "  ")


def format_markdown(report: QualifyReport) -> str:
    """Return Markdown tables of a few columns each, followed by the floors and by what was left out."""
    lines: list[str] = []
    for first in range(0, len(report.columns), MAX_MARKDOWN_COLUMNS):
        columns = slice(first, first + MAX_MARKDOWN_COLUMNS)
        headers = ["degradation", "unit of the severity", *(column.label for column in report.columns[columns])]
        lines += [_format_markdown_row(headers), _format_markdown_row(["---"] * len(headers))]
        lines += [_format_markdown_row([name, unit, *cells[columns]]) for name, unit, cells in build_table_rows(report)]
        lines.append("")
    return "\n".join(
        [*lines, *(f"- {line}" for line in (*report.notes, *_iterate_footer_lines(report, with_legend=False)))]
    )


def _split_columns(report: QualifyReport, rows: TableRows, width: int) -> Iterator[slice]:
    """Yield the columns that fit side by side into lines of ``width`` characters."""
    header_widths = [max(len(name) for name, _, _ in rows), max(len(unit) for _, unit, _ in rows)]
    widths = [
        max(len(column.label), *(len(cells[i]) for _, _, cells in rows)) for i, column in enumerate(report.columns)
    ]
    first, used = 0, sum(header_widths) + COLUMN_GAP
    for i, column_width in enumerate(widths):
        if i > first and used + COLUMN_GAP + column_width > width:
            yield slice(first, i)
            first, used = i, sum(header_widths) + COLUMN_GAP
        used += COLUMN_GAP + column_width
    yield slice(first, len(widths))


def _build_table(report: QualifyReport, rows: TableRows, column_slice: slice) -> Table:
    table = create_table()
    headers = ("degradation", "severity in", *(column.label for column in report.columns[column_slice]))
    for i, header in enumerate(headers):
        table.add_column(escape_text(header), justify="left" if i < 2 else "right", overflow="fold", no_wrap=i == 0)
    for name, unit, cells in rows:
        table.add_row(escape_text(name), escape_text(unit), *(_style_cell(text) for text in cells[column_slice]))
    return table


def _style_cell(text: str) -> str:
    style = "dim" if text == MISSING else "yellow" if text.startswith(INSENSITIVE) else "default"
    return f"[{style}]{text}[/{style}]"


def _iterate_footer_lines(report: QualifyReport, *, with_legend: bool = True) -> Iterator[str]:
    if with_legend:
        yield LEGEND
    for column in report.columns:
        floors = {
            (curve.floor, curve.sizes): curve.floor_interval
            for curve in report.curves
            if curve.metric == column.label and curve.floor is not None
        }
        descriptions = [
            f"{floor:.4g} ({_format_interval(interval)}) at {real} against {generated}"
            for (floor, (real, generated)), interval in floors.items()
        ]
        if descriptions:
            yield f"floor of {column.label} (95 % interval): {'; '.join(descriptions)}"
    yield from list_missing_reasons(report)
    for name, reason in report.not_applied.items():
        yield f"{name}: not applied: {reason}"


def _format_interval(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.4g} to {interval[1]:.4g}"


def _format_markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
