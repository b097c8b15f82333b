"""Two reports beside each other, or the leaderboard of many.

Ranks come with 95 % intervals that hold for all reports and scores at once: a report's rank is at least one more than
the number of those told to be better, and at most the number of reports less those told to be worse (Klein, Wright and
Wieczorek 2020; Mogstad, Romano, Shaikh and Wilhelm 2024).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from hseval.comparison.pairwise_tests import PairwiseTest, compare_all_pairs
from hseval.comparison.protocol import Entry, check_protocol, find_common_metrics, find_score
from hseval.core.report import Direction, Score
from hseval.utils.errors import HsevalError


@dataclasses.dataclass(frozen=True)
class LeaderboardCell:
    """A report in one score.

    Attributes:
        value: the score.
        interval: its 95 % interval.
        verdict: against the floor, as the report has it.
        rank: 1 is the best value.
        rank_interval: 95 % interval of the rank; None: there are pairs that can't be compared.
        is_worse_than_best: whether the best is told to be better; None: not known.
    """

    value: float
    interval: tuple[float, float] | None
    verdict: str
    rank: int
    rank_interval: tuple[int, int] | None
    is_worse_than_best: bool | None


@dataclasses.dataclass(frozen=True)
class ScoreColumn:
    """A score with its better side, its floor, and the cubes a side behind it."""

    metric: str
    better: Direction
    floor: float | None
    n: int


@dataclasses.dataclass(frozen=True)
class Leaderboard:
    """What ``hseval diff`` shows.

    Attributes:
        names: of the reports, in the order of the rows.
        columns: the scores.
        cells: metric -> name -> cell.
        pairs: every two reports in every score.
        notes: what was left out, and why.
        sort_metric: the score that orders the rows.
    """

    names: tuple[str, ...]
    columns: tuple[ScoreColumn, ...]
    cells: dict[str, dict[str, LeaderboardCell]]
    pairs: tuple[PairwiseTest, ...]
    notes: tuple[str, ...]
    sort_metric: str

    def as_dict(self) -> dict[str, Any]:
        """Return the board as JSON can hold it."""
        found = dataclasses.asdict(self)
        found["pairs"] = [{**dataclasses.asdict(pair), "better": pair.better} for pair in self.pairs]
        return {"format": "hseval-diff", "version": 1, **found}


def compare(
    entries: Sequence[Entry], *, metrics: Sequence[str] | None = None, sort_metric: str | None = None
) -> Leaderboard:
    """Compare two reports or more.

    Args:
        entries: reports of one protocol.
        metrics: scores to compare; None: all that every report has.
        sort_metric: the score that orders rows; None: the first.

    Raises:
        HsevalError: fewer than two reports, another protocol, or no score in common.
    """
    if len(entries) < 2:
        raise HsevalError(f"{len(entries)} report; a comparison needs two or more")
    names, notes = find_common_metrics(entries, metrics)
    if sort_metric is not None and sort_metric not in names:
        raise HsevalError(f"--by {sort_metric}: is not among the scores compared ({', '.join(names)})")
    check_protocol(entries, names)
    scores = {name: {entry.name: _get_score(entry, name) for entry in entries} for name in names}
    pairs = compare_all_pairs(entries, scores)
    notes += [f"{pair.first} and {pair.second}: {pair.missing_reason}" for pair in pairs if pair.missing_reason]
    cells = {name: _build_cells(scores[name], [pair for pair in pairs if pair.metric == name]) for name in names}
    columns = tuple(_build_column(name, next(iter(scores[name].values()))) for name in names)
    first = sort_metric or names[0]
    order = sorted((entry.name for entry in entries), key=lambda name: (cells[first][name].rank, name))
    listed = [entry.name for entry in entries] if len(entries) == 2 else order
    return Leaderboard(tuple(listed), columns, cells, tuple(pairs), tuple(notes), first)


def _get_score(entry: Entry, metric: str) -> Score:
    found = find_score(entry, metric)
    assert found is not None  # common_metrics has seen to it
    return found


def _build_column(metric: str, score: Score) -> ScoreColumn:
    return ScoreColumn(metric, score.better, score.floor, score.n)


def _build_cells(scores: dict[str, Score], pairs: Sequence[PairwiseTest]) -> dict[str, LeaderboardCell]:
    costs = {name: _compute_cost(score) for name, score in scores.items()}
    best = min(costs, key=lambda name: (costs[name], name))
    known = all(pair.missing_reason is None for pair in pairs)
    cells = {}
    for name, score in scores.items():
        mine = [pair for pair in pairs if name in (pair.first, pair.second)]
        above = sum(pair.better not in (None, name) for pair in mine)
        below = sum(pair.better == name for pair in mine)
        against = next((pair for pair in mine if best in (pair.first, pair.second)), None)
        cells[name] = LeaderboardCell(
            value=float(score.value if score.value is not None else "nan"),
            interval=score.interval,
            verdict=score.verdict,
            rank=1 + sum(cost < costs[name] for cost in costs.values()),
            rank_interval=(1 + above, len(scores) - below) if known else None,
            is_worse_than_best=name != best and against is not None and against.better == best if known else None,
        )
    return cells


def _compute_cost(score: Score) -> float:
    """Return what is smaller the better a score is."""
    value = score.value if score.value is not None else float("inf")
    if score.better == "floor":
        return abs(value - (score.floor or 0.0))
    return value if score.better == "lower" else -value
