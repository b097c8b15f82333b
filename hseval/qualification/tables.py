"""A qualify report on the terminal, and as a table for a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.table import Table

    from hseval.qualification.equivalent_dose import Equivalent, Translated
    from hseval.qualification.report import Curve, QualifyReport

BLIND, MISSING = "blind", "-"
KINDS = ("spectral", "spatial", "set", "copies")
LEGEND = (
    "smallest dose from which on every dose is told from the floor (in brackets: Spearman's correlation of value and "
    "dose); blind: the largest dose is not told; -: not computed"
)


def cell(curve: Curve) -> str:
    """Return one cell: ``"4 (0.98)"``, ``"blind (0.31)"`` or ``"-"``."""
    if curve.floor is None or all(point.value is None for point in curve.points):
        return MISSING
    seen = BLIND if curve.told_from is None else f"{curve.told_from:.3g}"
    return seen if curve.spearman is None else f"{seen} ({curve.spearman:.2f})"


def rows_of(report: QualifyReport) -> list[tuple[str, str, list[str]]]:
    """Return for each degradation its name, its unit and the cells of all columns."""
    return [
        (row.name, short_unit(row.unit), [cell(report.curve(column.label, row.name)) for column in report.columns])
        for row in report.rows
    ]


def short_unit(unit: str) -> str:
    """Return a unit without what explains it in brackets."""
    return unit.split(" (", maxsplit=1)[0]


def missing(report: QualifyReport) -> list[str]:
    """Return why columns have no value, each reason once."""
    said: dict[str, None] = {}
    for curve in report.curves:
        reasons = [curve.why, *(point.why for point in curve.points)]
        said.update({f"{curve.metric}: not computed: {why}": None for why in reasons if why})
    return list(said)


def sentence(found: Translated) -> str:
    """Return a score as doses, in one line."""
    head = f"{found.metric} {found.value:.4g} (floor {found.floor:.4g}, n {found.n})"
    if found.why:
        return f"{head}: {found.why}"
    return f"{head} is {'; or '.join(_dose(each) for each in found.equivalents)}"


def _dose(found: Equivalent) -> str:
    """Return one dose: ``"about 4 nm (3 to 5.2) of shift"``."""
    word = {"about": "about", "below": "less than", "beyond": "more than"}[found.relation]
    shown = found.interval is not None and found.relation == "about"
    between = f" ({found.interval[0]:.2g} to {found.interval[1]:.2g})" if shown and found.interval else ""
    return f"{word} {found.dose:.2g} {short_unit(found.unit)}{between} of {found.degradation}"


Rows = Sequence[tuple[str, str, list[str]]]

GAP = 3  # characters between two columns
ABREAST = 6  # columns of a table on a page
PIPED_WIDTH = 10_000  # so that no line is wrapped or cut when it is piped


def print_report(report: QualifyReport, stream: TextIO, found: Sequence[Translated] = ()) -> None:
    """Write the table of what each metric sees, and a user's scores as doses where there are any."""
    from rich.console import Console
    from rich.markup import escape

    piped = not stream.isatty()
    console = Console(file=stream, highlight=False, width=PIPED_WIDTH if piped else None, soft_wrap=piped)
    for note in report.notes:
        console.print(f"[dim]·[/dim] {escape(note)}")
    rows = rows_of(report)
    for part in _parts(report, rows, console.width):
        console.print()
        console.print(_table(report, rows, part))
    console.print()
    for line in _below(report):
        console.print(escape(line))
    for each in found:
        console.print()
        console.print(f"[bold]{escape(sentence(each))}[/bold]")
        for warning in each.warnings:
            console.print(f"  {escape(warning)}")


def markdown(report: QualifyReport) -> str:
    """Return the table as Markdown, a few columns at a time, with its floors and what was left out below it."""
    lines: list[str] = []
    for first in range(0, len(report.columns), ABREAST):
        part = slice(first, first + ABREAST)
        heads = ["degradation", "unit of the dose", *(column.label for column in report.columns[part])]
        lines += [_line(heads), _line(["---"] * len(heads))]
        lines += [_line([name, unit, *cells[part]]) for name, unit, cells in rows_of(report)]
        lines.append("")
    return "\n".join([*lines, *(f"- {line}" for line in (*report.notes, *_below(report, legend=False)))])


def _parts(report: QualifyReport, rows: Rows, width: int) -> Iterator[slice]:
    """Yield which columns go side by side where a line has ``width`` characters."""
    heads = [max(len(name) for name, _, _ in rows), max(len(unit) for _, unit, _ in rows)]
    wide = [max(len(column.label), *(len(cells[i]) for _, _, cells in rows)) for i, column in enumerate(report.columns)]
    first, used = 0, sum(heads) + GAP
    for place, each in enumerate(wide):
        if place > first and used + GAP + each > width:
            yield slice(first, place)
            first, used = place, sum(heads) + GAP
        used += GAP + each
    yield slice(first, len(wide))


def _table(report: QualifyReport, rows: Rows, part: slice) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, head in enumerate(("degradation", "dose in", *(column.label for column in report.columns[part]))):
        table.add_column(escape(head), justify="left" if i < 2 else "right", overflow="fold", no_wrap=i == 0)
    for name, unit, cells in rows:
        table.add_row(escape(name), escape(unit), *(_styled(text) for text in cells[part]))
    return table


def _styled(text: str) -> str:
    style = "dim" if text == MISSING else "yellow" if text.startswith(BLIND) else "default"
    return f"[{style}]{text}[/{style}]"


def _below(report: QualifyReport, *, legend: bool = True) -> Iterator[str]:
    if legend:
        yield LEGEND
    for column in report.columns:
        floors = {
            (curve.floor, curve.sizes): curve.floor_interval
            for curve in report.curves
            if curve.metric == column.label and curve.floor is not None
        }
        told = [
            f"{floor:.4g} ({_range(between)}) at {real} against {fake}"
            for (floor, (real, fake)), between in floors.items()
        ]
        if told:
            yield f"floor of {column.label} (95 % interval): {'; '.join(told)}"
    yield from missing(report)
    for name, why in report.not_applied.items():
        yield f"{name}: not applied: {why}"


def _range(between: tuple[float, float] | None) -> str:
    return "-" if between is None else f"{between[0]:.4g} to {between[1]:.4g}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
