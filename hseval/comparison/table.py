"""The board as rows of text: what the terminal, Markdown and LaTeX all show."""

from __future__ import annotations

import dataclasses

from hseval.comparison.leaderboard import Board, Cell, Column
from hseval.comparison.pairwise_tests import Pair
from hseval.stats.multiple_testing import LEVEL

SIDES = {"lower": "lower is better", "higher": "higher is better", "floor": "best is nearest the floor"}
RULE = f"told: Holm-adjusted p < {LEVEL:g} over all scores and pairs shown"


@dataclasses.dataclass(frozen=True)
class Text:
    """A cell's text; ``best``: of those that the best is not told from, or the better one of two."""

    text: str
    best: bool = False


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A table of text: heads, rows of cells, and lines below."""

    heads: tuple[str, ...]
    rows: tuple[tuple[Text, ...], ...]
    lines: tuple[str, ...]


def sheet_of(board: Board) -> Sheet:
    """Return the comparison of two reports, or the leaderboard of more."""
    return _two(board) if len(board.names) == 2 else _many(board)


def _two(board: Board) -> Sheet:
    a, b = board.names
    heads = ("score", "better", "floor", a, b, "difference (95 % interval)", f"P({a} better)", "verdict")
    rows = tuple(_pair_row(board, column, pair) for column, pair in zip(board.columns, board.pairs, strict=True))
    return Sheet(heads, rows, (f"difference: {a} less {b}, on shared resamples; {RULE}", *board.notes))


def _pair_row(board: Board, column: Column, pair: Pair) -> tuple[Text, ...]:
    cells = [board.cells[column.metric][name] for name in board.names]
    between = "-" if pair.difference is None else f"{number(pair.difference)} ({span(pair.interval)})"
    chance = "-" if pair.probability is None else _chance(pair.probability)
    verdict = "not comparable" if pair.why else f"{pair.better} is better" if pair.better else "not told apart"
    values = [
        Text(
            f"{number(cell.value)} ({span(cell.interval)})" if cell.interval else number(cell.value),
            pair.better == name,
        )
        for name, cell in zip(board.names, cells, strict=True)
    ]
    adjusted = "" if pair.p_adjusted is None else f" (p = {pair.p_adjusted:.2g})"
    return (Text(column.metric), Text(column.better if column.better != "floor" else "near floor"),
            Text(number(column.floor)), *values, Text(between), Text(chance), Text(verdict + adjusted))  # fmt: skip


def _many(board: Board) -> Sheet:
    heads = ["", *(f"{column.metric} {arrow(column)}" for column in board.columns)]
    rows = [
        (Text(name), *(_cell(board.cells[column.metric][name]) for column in board.columns)) for name in board.names
    ]
    floors = (Text("floor (real against real)"), *(Text(number(column.floor)) for column in board.columns))
    lines = [
        "value (95 % interval), rank [95 % interval of the rank]; * the best is not told from it",
        *(f"{column.metric}: {SIDES[column.better]}, {column.n} cubes a side" for column in board.columns),
        f"ordered by {board.by}; {RULE}",
        *board.notes,
    ]
    return Sheet(tuple(heads), (*rows, floors), tuple(lines))


def _cell(cell: Cell) -> Text:
    between = f" ({span(cell.interval)})" if cell.interval else ""
    ranks = "" if cell.ranks is None else f" [{cell.ranks[0]}]" if cell.ranks[0] == cell.ranks[1] else (
        f" [{cell.ranks[0]} to {cell.ranks[1]}]"
    )  # fmt: skip
    among = cell.told_from_best is False
    return Text(f"{number(cell.value)}{between}, {cell.rank}{ranks}{' *' if among else ''}", among)


def arrow(column: Column) -> str:
    """Return which way is better as a sign."""
    return {"lower": "↓", "higher": "↑", "floor": "→floor"}[column.better]


def number(value: float | None) -> str:
    """Return four digits, or a dash."""
    return "-" if value is None else f"{value:.4g}"


def span(interval: tuple[float, float] | None) -> str:
    """Return an interval's ends."""
    return "-" if interval is None else f"{number(interval[0])} to {number(interval[1])}"


def _chance(probability: float) -> str:
    if probability > 0.999:
        return "> 99.9 %"
    return "< 0.1 %" if probability < 0.001 else f"{100 * probability:.1f} %"
