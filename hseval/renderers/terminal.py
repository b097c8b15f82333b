"""A report on the terminal: the verdicts in a table, then what stands behind them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TextIO

from hseval.core.report import Report, Score
from hseval.reporting.summary import at_full_size, caveats, certainty, number, rule, span

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

STYLES = {
    "like real": "green",
    "worse than real": "red",
    "closer than real": "yellow",
    "too high": "red",
    "too low": "red",
}
PIPED_WIDTH = 10_000  # so that no line of a report is wrapped or cut when it is piped
INTERVAL = "95 % interval"
SHOWN_PAIRS = 3
SPARK = "▁▂▃▄▅▆▇█"


class Terminal:
    """Writes tables; in colour and fitted to the width on a terminal, plain and unwrapped in a pipe."""

    name: ClassVar[str] = "terminal"
    summary: ClassVar[str] = "tables for people: value, floor, verdict, and where it differs"

    def render(self, report: Report, stream: TextIO) -> None:
        """Write the report."""
        from rich.console import Console

        piped = not stream.isatty()
        console = Console(file=stream, highlight=False, width=PIPED_WIDTH if piped else None, soft_wrap=piped)
        for note in report.notes:
            console.print(f"[dim]·[/dim] {_escaped(note)}")
        console.print()
        console.print(_scores(report))
        for line in rule(report.scores):
            console.print(f"[dim]·[/dim] {line}")
        for part in _parts(report):
            console.print()
            console.print(part)


def _scores(report: Report) -> RenderableType:
    table = _table("score", "value", INTERVAL, "floor", "excess", "verdict", "n", "better")
    for score in report.scores:
        style = STYLES.get(score.verdict, "dim" if score.value is None else "default")
        table.add_row(
            _escaped(score.name),
            _number(score.value),
            span(score.interval),
            _number(score.floor),
            _number(score.details.get("excess")),
            f"[{style}]{_escaped(score.verdict)}[/{style}]",
            str(score.n) if score.n else "-",
            {"lower": "lower", "higher": "higher", "floor": "near floor"}[score.better],
        )
    return table


def _parts(report: Report) -> Iterator[RenderableType]:
    """Yield what the details hold that a person asks for next."""
    for score in report.scores:
        found = score.details.get("structures")
        if isinstance(found, Mapping) and all(isinstance(each, Mapping) for each in found.values()):
            yield _structures(score, report)
    for score in report.scores:
        lines = [*certainty(score), *at_full_size(score), *_numbers(score), *_pairs(score), *caveats(score)]
        if lines:
            yield "\n".join([f"[bold]{_escaped(score.name)}[/bold]", *(f"  {_escaped(line)}" for line in lines)])


def _structures(score: Score, report: Report) -> RenderableType:
    """Return the table of one value a structure, with its floor and its course over wavelength."""
    table = _table(f"{score.name} by structure", "value", "floor", "over wavelength", "largest at")
    about = report.provenance.get("sets", {}).get("reference", {})
    unit = "{:.0f} nm" if about.get("wavelengths_known", True) else "band {:.0f}"
    bands = [unit.format(centre) for centre in about.get("wavelengths", [])]
    for name, found in score.details["structures"].items():
        curve = found.get("by_wavelength") or []
        table.add_row(
            _escaped(name),
            _number(_dig(score.details, "at_n", name)),
            _number(_dig(score.details, "floor_at_n", name)),
            _spark(curve),
            _peak(curve, bands),
        )
    return table


def _dig(details: Mapping[str, Any], where: str, structure: str) -> Any:
    side = details.get(where) or {}
    return side.get("structures", {}).get(structure, {}).get("value")


def _numbers(score: Score) -> Iterator[str]:
    shown = score.details.get("shown")
    if isinstance(shown, Mapping):
        yield from (f"{label}: {number(value)}" for label, value in shown.items())


def _pairs(score: Score) -> Iterator[str]:
    for pair in list(score.details.get("nearest_pairs") or [])[:SHOWN_PAIRS]:
        yield "nearest: " + ", ".join(f"{key} {number(value)}" for key, value in pair.items())


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, column in enumerate(columns):
        numeric = column in ("value", "floor", "excess", "n", INTERVAL)
        table.add_column(column, justify="right" if numeric else "left", no_wrap=i == 0 or numeric)
    return table


def _number(value: Any) -> str:
    return _escaped(number(value))


def _spark(curve: Any) -> str:
    values = [value for value in curve if value is not None]
    top = max(values, default=0.0)
    if top <= 0:
        return ""
    return "".join(" " if v is None else SPARK[min(len(SPARK) - 1, int(v / top * len(SPARK)))] for v in curve)


def _peak(curve: Any, bands: Sequence[str]) -> str:
    values = [-1.0 if value is None else value for value in curve]
    return bands[values.index(max(values))] if values and len(values) == len(bands) else ""


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
