"""A report on the terminal: the verdicts in a table, then what stands behind them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TextIO

from hseval.report import Report, Score

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
        for line in _rule(report.scores):
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
            _span(score.interval),
            _number(score.floor),
            _number(score.details.get("excess")),
            f"[{style}]{_escaped(score.verdict)}[/{style}]",
            str(score.n) if score.n else "-",
            {"lower": "lower", "higher": "higher", "floor": "near floor"}[score.better],
        )
    return table


def _rule(scores: Sequence[Score]) -> Iterator[str]:
    """Yield by which rule verdicts are given where there are several."""
    count = sum(score.details.get("p_adjusted") is not None for score in scores)
    if count > 1:
        yield (
            f"{count} scores at once: to be told from its floor, each needs p < 0.05 by Holm's rule, "
            "or splits that lie wholly apart"
        )


def _parts(report: Report) -> Iterator[RenderableType]:
    """Yield what the details hold that a person asks for next."""
    for score in report.scores:
        if isinstance(score.details.get("structures"), Mapping):
            yield _structures(score, report)
    for score in report.scores:
        lines = [*_certainty(score), *_numbers(score), *_pairs(score), *_remarks(score)]
        if lines:
            yield "\n".join([f"[bold]{_escaped(score.name)}[/bold]", *(f"  {line}" for line in lines)])


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


def _certainty(score: Score) -> Iterator[str]:
    """Yield how sure the excess is, and what two generators have to differ by to be told apart."""
    found = score.details
    if found.get("excess_interval"):
        p, adjusted = found.get("p_value"), found.get("p_adjusted")
        chance = "" if p is None else f"; p = {p:.2g}" + (f" ({adjusted:.2g} by Holm's rule)" if adjusted else "")
        yield f"excess over the floor: {_number(found['excess'])} ({_span(found['excess_interval'])}){chance}"
    elif score.value is not None and found.get("no_interval"):
        yield f"no interval: {_escaped(found['no_interval'])}"
    if found.get("smallest_difference"):
        least, less = found["smallest_difference"], found["smallest_difference_at_4n"]
        yield (
            f"two generators are told apart at {found['samples']} samples if they differ by about {_rough(least)}, "
            f"at {4 * found['samples']} by {_rough(less)}"
        )


def _numbers(score: Score) -> Iterator[str]:
    full = score.details.get("full_value")
    sizes = score.details.get("full_size")
    if full is not None and sizes:
        at = f"{sizes['samples']} samples, {sizes['reference']} reference cubes"
        yield f"at full size ({at}; not to be held against the floor): {_number(full)}"
    shown = score.details.get("shown")
    if isinstance(shown, Mapping):
        yield from (f"{_escaped(label)}: {_number(value)}" for label, value in shown.items())


def _pairs(score: Score) -> Iterator[str]:
    for pair in list(score.details.get("nearest_pairs") or [])[:SHOWN_PAIRS]:
        yield "nearest: " + ", ".join(f"{_escaped(str(key))} {_number(value)}" for key, value in pair.items())


def _remarks(score: Score) -> Iterator[str]:
    left_out, caveat = (score.details.get(name) for name in ("left_out", "caveat"))
    if isinstance(left_out, Mapping):
        for why in sorted({str(reason) for reason in left_out.values()}):
            names = ", ".join(sorted(name for name, reason in left_out.items() if str(reason) == why))
            yield f"left out, {_escaped(why)}: {_escaped(names)}"
    if isinstance(caveat, str) and caveat:
        yield _escaped(caveat)


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, column in enumerate(columns):
        numeric = column in ("value", "floor", "excess", "n", INTERVAL)
        table.add_column(column, justify="right" if numeric else "left", no_wrap=i == 0 or numeric)
    return table


def _span(interval: Sequence[float | None] | None) -> str:
    if interval is None:
        return "-"
    low, high = interval
    return f"{_number(low)} to {_number(high)}"


def _rough(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else _escaped(str(value))


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
