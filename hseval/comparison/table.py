"""The leaderboard as a table of text, for the terminal, Markdown and LaTeX."""

from __future__ import annotations

import dataclasses

from hseval.comparison.leaderboard import Leaderboard, LeaderboardCell, ScoreColumn
from hseval.comparison.pairwise_tests import PairwiseTest
from hseval.reporting.summary import DIRECTION_LABELS, format_interval, format_number
from hseval.stats.multiple_testing import ALPHA
from hseval.utils.plural import format_count
from hseval.utils.text import escape_unprintable, map_text

SIGNIFICANCE_RULE = f"significant: Holm-adjusted p < {ALPHA:g} over all scores and pairs shown"


@dataclasses.dataclass(frozen=True)
class TextCell:
    """A cell's text; ``is_best``: not significantly different from the best, or the better one of two."""

    text: str
    is_best: bool = False


@dataclasses.dataclass(frozen=True)
class TextTable:
    """A table of text: headers, rows of cells, and lines below."""

    headers: tuple[str, ...]
    rows: tuple[tuple[TextCell, ...], ...]
    footer_lines: tuple[str, ...]


def build_text_table(leaderboard: Leaderboard) -> TextTable:
    """Return the comparison of two reports, or the leaderboard of more, with printable characters only."""
    build = _build_pair_table if len(leaderboard.names) == 2 else _build_leaderboard_table
    return map_text(build(leaderboard), escape_unprintable)


def _build_pair_table(leaderboard: Leaderboard) -> TextTable:
    a, b = leaderboard.names
    headers = ("score", "better", "floor", a, b, "difference (95 % interval)", f"P({a} better)", "verdict")
    rows = tuple(
        _build_pair_row(leaderboard, column, pair)
        for column, pair in zip(leaderboard.columns, leaderboard.pairs, strict=True)
    )
    rule = f"difference: {a} minus {b}, on shared resamples; {SIGNIFICANCE_RULE}"
    return TextTable(headers, rows, (rule, *leaderboard.notes))


def _build_pair_row(leaderboard: Leaderboard, column: ScoreColumn, pair: PairwiseTest) -> tuple[TextCell, ...]:
    cells = [leaderboard.cells[column.metric][name] for name in leaderboard.names]
    difference = (
        "-" if pair.difference is None else f"{format_number(pair.difference)} ({format_interval(pair.interval)})"
    )
    probability = "-" if pair.probability is None else _format_probability(pair.probability)
    verdict = f"{pair.better} is better" if pair.better else "not significantly different"
    verdict = "not comparable" if pair.missing_reason else verdict
    values = [
        TextCell(
            f"{format_number(cell.value)} ({format_interval(cell.interval)})"
            if cell.interval
            else format_number(cell.value),
            pair.better == name,
        )
        for name, cell in zip(leaderboard.names, cells, strict=True)
    ]
    p_value = "" if pair.p_adjusted is None else f" (p = {pair.p_adjusted:.2g})"
    return (
        TextCell(column.metric),
        TextCell(column.better if column.better != "floor" else "near floor"),
        TextCell(format_number(column.floor)),
        *values,
        TextCell(difference),
        TextCell(probability),
        TextCell(verdict + p_value),
    )


def _build_leaderboard_table(leaderboard: Leaderboard) -> TextTable:
    headers = ["", *(f"{column.metric} {get_direction_arrow(column)}" for column in leaderboard.columns)]
    rows = [
        (TextCell(name), *(_build_cell(leaderboard.cells[column.metric][name]) for column in leaderboard.columns))
        for name in leaderboard.names
    ]
    floors = (
        TextCell("floor (real against real)"),
        *(TextCell(format_number(column.floor)) for column in leaderboard.columns),
    )
    lines = [
        "value (95 % interval), rank [95 % interval of the rank]; * not significantly different from the best",
        *(
            f"{column.metric}: {DIRECTION_LABELS[column.better]}, {format_count(column.n, 'cube')} per side"
            for column in leaderboard.columns
        ),
        f"ordered by {leaderboard.sort_metric}; {SIGNIFICANCE_RULE}",
        *leaderboard.notes,
    ]
    return TextTable(tuple(headers), (*rows, floors), tuple(lines))


def _build_cell(cell: LeaderboardCell) -> TextCell:
    interval = f" ({format_interval(cell.interval)})" if cell.interval else ""
    ranks = "" if cell.rank_interval is None else f" [{_format_rank_interval(*cell.rank_interval)}]"
    is_best = cell.is_worse_than_best is False
    return TextCell(f"{format_number(cell.value)}{interval}, {cell.rank}{ranks}{' *' if is_best else ''}", is_best)


def _format_rank_interval(low: int, high: int) -> str:
    return f"{low}" if low == high else f"{low} to {high}"


def get_direction_arrow(column: ScoreColumn) -> str:
    """Return an arrow in the direction that is better."""
    return {"lower": "↓", "higher": "↑", "floor": "→floor"}[column.better]


def _format_probability(probability: float) -> str:
    if probability > 0.999:
        return "> 99.9 %"
    return "< 0.1 %" if probability < 0.001 else f"{100 * probability:.1f} %"
