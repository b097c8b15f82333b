"""Comparison of two reports, or the leaderboard of many.

Ranks have simultaneous 95 % intervals over all reports and scores: a report's rank is at least one more than the number
of significantly better reports, and at most the number of reports minus that of significantly worse ones (Klein, Wright
and Wieczorek 2020; Mogstad, Romano, Shaikh and Wilhelm 2024).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from hseval.comparison.pairwise_tests import PairwiseTest, compare_all_pairs
from hseval.comparison.protocol import Entry, check_protocol, find_common_metrics, find_score
from hseval.core.report import Direction, Score
from hseval.utils.errors import HsevalError
from hseval.utils.plural import format_count


@dataclasses.dataclass(frozen=True)
class LeaderboardCell:
    """One report's result in one score.

    Attributes:
        value: the score.
        interval: its 95 % interval.
        verdict: of the comparison with the floor, from the report.
        rank: 1 is the best value.
        rank_interval: 95 % interval of the rank; None: some pairs can't be compared.
        is_worse_than_best: whether it is significantly worse than the best; None: some pairs can't be compared.
    """

    value: float
    interval: tuple[float, float] | None
    verdict: str
    rank: int
    rank_interval: tuple[int, int] | None
    is_worse_than_best: bool | None


@dataclasses.dataclass(frozen=True)
class ScoreColumn:
    """A score with its better side, its floor, and the number of cubes per side."""

    metric: str
    better: Direction
    floor: float | None
    n: int


@dataclasses.dataclass(frozen=True)
class Leaderboard:
    """The result of ``hseval diff``.

    Attributes:
        names: of the reports, in the order of the rows.
        columns: the scores.
        cells: metric -> name -> cell.
        pairs: the test of every two reports in every score.
        notes: scores and pairs that were left out, and why.
        sort_metric: the score that orders the rows.
    """

    names: tuple[str, ...]
    columns: tuple[ScoreColumn, ...]
    cells: dict[str, dict[str, LeaderboardCell]]
    pairs: tuple[PairwiseTest, ...]
    notes: tuple[str, ...]
    sort_metric: str

    def as_dict(self) -> dict[str, Any]:
        """Return the leaderboard as a JSON-compatible dict."""
        record = dataclasses.asdict(self)
        record["pairs"] = [{**dataclasses.asdict(pair), "better": pair.better} for pair in self.pairs]
        return {"format": "hseval-diff", "version": 2, **record}


def compare(
    entries: Sequence[Entry], *, metrics: Sequence[str] | None = None, sort_metric: str | None = None
) -> Leaderboard:
    """Compare two or more reports.

    Args:
        entries: reports of one protocol.
        metrics: scores to compare; None: all that every report has.
        sort_metric: the score that orders the rows; None: the first.

    Raises:
        HsevalError: fewer than two reports, different protocols, or no score in common.
    """
    if len(entries) < 2:
        raise HsevalError(f"{format_count(len(entries), 'report')}; a comparison needs two or more")
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
    row_names = [entry.name for entry in entries]
    if len(entries) > 2:
        row_names.sort(key=lambda name: (cells[first][name].rank, name))
    return Leaderboard(tuple(row_names), columns, cells, tuple(pairs), tuple(notes), first)


def _get_score(entry: Entry, metric: str) -> Score:
    score = find_score(entry, metric)
    assert score is not None  # guaranteed by find_common_metrics
    return score


def _build_column(metric: str, score: Score) -> ScoreColumn:
    return ScoreColumn(metric, score.better, score.floor, score.n)


def _build_cells(scores: dict[str, Score], pairs: Sequence[PairwiseTest]) -> dict[str, LeaderboardCell]:
    costs = {name: _compute_cost(score) for name, score in scores.items()}
    best = min(costs, key=lambda name: (costs[name], name))
    is_complete = all(pair.missing_reason is None for pair in pairs)
    cells = {}
    for name, score in scores.items():
        own_pairs = [pair for pair in pairs if name in (pair.first, pair.second)]
        better_count = sum(pair.better not in (None, name) for pair in own_pairs)
        worse_count = sum(pair.better == name for pair in own_pairs)
        best_pair = next((pair for pair in own_pairs if best in (pair.first, pair.second)), None)
        is_worse = name != best and best_pair is not None and best_pair.better == best
        cells[name] = LeaderboardCell(
            value=float(score.value if score.value is not None else "nan"),
            interval=score.interval,
            verdict=score.verdict,
            rank=1 + sum(cost < costs[name] for cost in costs.values()),
            rank_interval=(1 + better_count, len(scores) - worse_count) if is_complete else None,
            is_worse_than_best=is_worse if is_complete else None,
        )
    return cells


def _compute_cost(score: Score) -> float:
    """Return a number that is smaller for a better score."""
    value = score.value if score.value is not None else float("inf")
    if score.better == "floor":
        return abs(value - (score.floor or 0.0))
    return value if score.better == "lower" else -value
