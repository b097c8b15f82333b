"""A qualify report on the terminal, and as a table for a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.table import Table

    from hseval.qualification.equivalent_severity import EquivalentSeverity, ScoreEquivalents
    from hseval.qualification.report import Curve, QualifyReport

INSENSITIVE, MISSING = "blind", "-"
KINDS = ("spectral", "spatial", "set", "copies")
LEGEND = (
    "smallest severity from which on every severity is told from the floor (in brackets: Spearman's correlation of value and "
    "severity); blind: the largest severity is not told; -: not computed"
)


def format_cell(curve: Curve) -> str:
    """Return one cell: ``"4 (0.98)"``, ``"blind (0.31)"`` or ``"-"``."""
    if curve.floor is None or all(point.value is None for point in curve.points):
        return MISSING
    seen = INSENSITIVE if curve.detection_threshold is None else f"{curve.detection_threshold:.3g}"
    return seen if curve.spearman is None else f"{seen} ({curve.spearman:.2f})"


def build_table_rows(report: QualifyReport) -> list[tuple[str, str, list[str]]]:
    """Return for each degradation its name, its unit and the cells of all columns."""
    return [
        (
            row.name,
            shorten_unit(row.unit),
            [format_cell(report.get_curve(column.label, row.name)) for column in report.columns],
        )
        for row in report.rows
    ]


def shorten_unit(unit: str) -> str:
    """Return a unit without what explains it in brackets."""
    return unit.split(" (", maxsplit=1)[0]


def list_missing_reasons(report: QualifyReport) -> list[str]:
    """Return why columns have no value, each reason once."""
    said: dict[str, None] = {}
    for curve in report.curves:
        reasons = [curve.missing_reason, *(point.missing_reason for point in curve.points)]
        said.update({f"{curve.metric}: not computed: {why}": None for why in reasons if why})
    return list(said)


def format_equivalents(score_equivalents: ScoreEquivalents) -> str:
    """Return a score as severities, in one line."""
    head = f"{score_equivalents.metric} {score_equivalents.value:.4g} (floor {score_equivalents.floor:.4g}, n {score_equivalents.n})"
    if score_equivalents.missing_reason:
        return f"{head}: {score_equivalents.missing_reason}"
    return f"{head} is {'; or '.join(_format_severity(each) for each in score_equivalents.equivalents)}"


def _format_severity(equivalent: EquivalentSeverity) -> str:
    """Return one severity: ``"about 4 nm (3 to 5.2) of shift"``."""
    word = {"about": "about", "below": "less than", "beyond": "more than"}[equivalent.relation]
    shown = equivalent.interval is not None and equivalent.relation == "about"
    between = (
        f" ({equivalent.interval[0]:.2g} to {equivalent.interval[1]:.2g})" if shown and equivalent.interval else ""
    )
    return f"{word} {equivalent.severity:.2g} {shorten_unit(equivalent.unit)}{between} of {equivalent.degradation}"


TableRows = Sequence[tuple[str, str, list[str]]]

COLUMN_GAP = 3  # characters between two columns
MAX_MARKDOWN_COLUMNS = 6  # columns of a table on a page
PIPED_WIDTH = 10_000  # so that no line is wrapped or cut when it is piped


def print_report(report: QualifyReport, stream: TextIO, equivalents: Sequence[ScoreEquivalents] = ()) -> None:
    """Write the table of what each metric sees, and a user's scores as severities where there are any."""
    from rich.console import Console
    from rich.markup import escape

    piped = not stream.isatty()
    console = Console(file=stream, highlight=False, width=PIPED_WIDTH if piped else None, soft_wrap=piped)
    for note in report.notes:
        console.print(f"[dim]·[/dim] {escape(note)}")
    rows = build_table_rows(report)
    for part in _split_columns(report, rows, console.width):
        console.print()
        console.print(_build_table(report, rows, part))
    console.print()
    for line in _iterate_footer_lines(report):
        console.print(escape(line))
    for each in equivalents:
        console.print()
        console.print(f"[bold]{escape(format_equivalents(each))}[/bold]")
        for warning in each.warnings:
            console.print(f"  {escape(warning)}")


def format_markdown(report: QualifyReport) -> str:
    """Return the table as Markdown, a few columns at a time, with its floors and what was left out below it."""
    lines: list[str] = []
    for first in range(0, len(report.columns), MAX_MARKDOWN_COLUMNS):
        part = slice(first, first + MAX_MARKDOWN_COLUMNS)
        heads = ["degradation", "unit of the severity", *(column.label for column in report.columns[part])]
        lines += [_format_markdown_row(heads), _format_markdown_row(["---"] * len(heads))]
        lines += [_format_markdown_row([name, unit, *cells[part]]) for name, unit, cells in build_table_rows(report)]
        lines.append("")
    return "\n".join(
        [*lines, *(f"- {line}" for line in (*report.notes, *_iterate_footer_lines(report, with_legend=False)))]
    )


def _split_columns(report: QualifyReport, rows: TableRows, width: int) -> Iterator[slice]:
    """Yield which columns go side by side where a line has ``width`` characters."""
    heads = [max(len(name) for name, _, _ in rows), max(len(unit) for _, unit, _ in rows)]
    wide = [max(len(column.label), *(len(cells[i]) for _, _, cells in rows)) for i, column in enumerate(report.columns)]
    first, used = 0, sum(heads) + COLUMN_GAP
    for place, each in enumerate(wide):
        if place > first and used + COLUMN_GAP + each > width:
            yield slice(first, place)
            first, used = place, sum(heads) + COLUMN_GAP
        used += COLUMN_GAP + each
    yield slice(first, len(wide))


def _build_table(report: QualifyReport, rows: TableRows, column_slice: slice) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, head in enumerate(
        ("degradation", "severity in", *(column.label for column in report.columns[column_slice]))
    ):
        table.add_column(escape(head), justify="left" if i < 2 else "right", overflow="fold", no_wrap=i == 0)
    for name, unit, cells in rows:
        table.add_row(escape(name), escape(unit), *(_style_cell(text) for text in cells[column_slice]))
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
        told = [
            f"{floor:.4g} ({_format_interval(between)}) at {real} against {generated}"
            for (floor, (real, generated)), between in floors.items()
        ]
        if told:
            yield f"floor of {column.label} (95 % interval): {'; '.join(told)}"
    yield from list_missing_reasons(report)
    for name, why in report.not_applied.items():
        yield f"{name}: not applied: {why}"


def _format_interval(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.4g} to {interval[1]:.4g}"


def _format_markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
