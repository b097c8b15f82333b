"""The board as rows of text: what the terminal, Markdown and LaTeX all show."""

from __future__ import annotations

import dataclasses

from hseval.comparison.leaderboard import Leaderboard, LeaderboardCell, ScoreColumn
from hseval.comparison.pairwise_tests import PairwiseTest
from hseval.stats.multiple_testing import ALPHA

DIRECTION_LABELS = {"lower": "lower is better", "higher": "higher is better", "floor": "best is nearest the floor"}
SIGNIFICANCE_RULE = f"told: Holm-adjusted p < {ALPHA:g} over all scores and pairs shown"


@dataclasses.dataclass(frozen=True)
class TextCell:
    """A cell's text; ``is_best``: of those that the best is not told from, or the better one of two."""

    text: str
    is_best: bool = False


@dataclasses.dataclass(frozen=True)
class TextTable:
    """A table of text: heads, rows of cells, and lines below."""

    headers: tuple[str, ...]
    rows: tuple[tuple[TextCell, ...], ...]
    footer_lines: tuple[str, ...]


def build_text_table(leaderboard: Leaderboard) -> TextTable:
    """Return the comparison of two reports, or the leaderboard of more."""
    return _build_pair_table(leaderboard) if len(leaderboard.names) == 2 else _build_leaderboard_table(leaderboard)


def _build_pair_table(leaderboard: Leaderboard) -> TextTable:
    a, b = leaderboard.names
    heads = ("score", "better", "floor", a, b, "difference (95 % interval)", f"P({a} better)", "verdict")
    rows = tuple(
        _build_pair_row(leaderboard, column, pair)
        for column, pair in zip(leaderboard.columns, leaderboard.pairs, strict=True)
    )
    return TextTable(
        heads, rows, (f"difference: {a} less {b}, on shared resamples; {SIGNIFICANCE_RULE}", *leaderboard.notes)
    )


def _build_pair_row(leaderboard: Leaderboard, column: ScoreColumn, pair: PairwiseTest) -> tuple[TextCell, ...]:
    cells = [leaderboard.cells[column.metric][name] for name in leaderboard.names]
    between = "-" if pair.difference is None else f"{format_number(pair.difference)} ({format_interval(pair.interval)})"
    chance = "-" if pair.probability is None else _format_probability(pair.probability)
    verdict = (
        "not comparable" if pair.missing_reason else f"{pair.better} is better" if pair.better else "not told apart"
    )
    values = [
        TextCell(
            f"{format_number(cell.value)} ({format_interval(cell.interval)})"
            if cell.interval
            else format_number(cell.value),
            pair.better == name,
        )
        for name, cell in zip(leaderboard.names, cells, strict=True)
    ]
    adjusted = "" if pair.p_adjusted is None else f" (p = {pair.p_adjusted:.2g})"
    return (TextCell(column.metric), TextCell(column.better if column.better != "floor" else "near floor"),
            TextCell(format_number(column.floor)), *values, TextCell(between), TextCell(chance), TextCell(verdict + adjusted))  # fmt: skip


def _build_leaderboard_table(leaderboard: Leaderboard) -> TextTable:
    heads = ["", *(f"{column.metric} {get_direction_arrow(column)}" for column in leaderboard.columns)]
    rows = [
        (TextCell(name), *(_build_cell(leaderboard.cells[column.metric][name]) for column in leaderboard.columns))
        for name in leaderboard.names
    ]
    floors = (
        TextCell("floor (real against real)"),
        *(TextCell(format_number(column.floor)) for column in leaderboard.columns),
    )
    lines = [
        "value (95 % interval), rank [95 % interval of the rank]; * the best is not told from it",
        *(
            f"{column.metric}: {DIRECTION_LABELS[column.better]}, {column.n} cubes a side"
            for column in leaderboard.columns
        ),
        f"ordered by {leaderboard.sort_metric}; {SIGNIFICANCE_RULE}",
        *leaderboard.notes,
    ]
    return TextTable(tuple(heads), (*rows, floors), tuple(lines))


def _build_cell(cell: LeaderboardCell) -> TextCell:
    between = f" ({format_interval(cell.interval)})" if cell.interval else ""
    ranks = "" if cell.rank_interval is None else f" [{cell.rank_interval[0]}]" if cell.rank_interval[0] == cell.rank_interval[1] else (
        f" [{cell.rank_interval[0]} to {cell.rank_interval[1]}]"
    )  # fmt: skip
    among = cell.is_worse_than_best is False
    return TextCell(f"{format_number(cell.value)}{between}, {cell.rank}{ranks}{' *' if among else ''}", among)


def get_direction_arrow(column: ScoreColumn) -> str:
    """Return which way is better as a sign."""
    return {"lower": "↓", "higher": "↑", "floor": "→floor"}[column.better]


def format_number(value: float | None) -> str:
    """Return four digits, or a dash."""
    return "-" if value is None else f"{value:.4g}"


def format_interval(interval: tuple[float, float] | None) -> str:
    """Return an interval's ends."""
    return "-" if interval is None else f"{format_number(interval[0])} to {format_number(interval[1])}"


def _format_probability(probability: float) -> str:
    if probability > 0.999:
        return "> 99.9 %"
    return "< 0.1 %" if probability < 0.001 else f"{100 * probability:.1f} %"
