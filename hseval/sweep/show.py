"""Results of a sweep on the terminal."""

from __future__ import annotations

import sys
from typing import Any

from hseval.core.report import Score
from hseval.reporting.summary import DIRECTION_LABELS
from hseval.sweep.pareto.front import build_points
from hseval.sweep.results import RunResult, SweepResults
from hseval.utils.console import create_console, create_table, escape_text, print_item


def print_results(results: SweepResults) -> None:
    """Print one line for each run: its scores with intervals, and the fronts it is on; then the failed runs."""
    console, table = create_console(sys.stdout), create_table()
    headers = ("run", "s a sample", *results.score_names, "front")
    for i, header in enumerate(headers):
        table.add_column(escape_text(header), justify="right" if 0 < i < len(headers) - 1 else "left", overflow="fold")
    fronts = _find_fronts(results)
    for row in results.rows:
        cells = [_format_score(row.scores.get(name)) for name in results.score_names]
        table.add_row(
            *map(escape_text, (row.label, _format_seconds(row), *cells, ", ".join(fronts.get(row.label, []))))
        )
    console.print(table)
    for name in results.score_names:
        scores = [row.scores[name] for row in results.rows if name in row.scores]
        floors = sorted(score.floor for score in scores if score.floor is not None)
        if floors:
            better = DIRECTION_LABELS[scores[0].better]
            print_item(console, f"{name}: {better}; floor {floors[len(floors) // 2]:.4g}", "")
    for row in results.failed_rows:
        console.print(f"[red]failed[/red] {escape_text(f'{row.label}: {row.error}')}")
    waiting = sum(1 for row in results.rows if not row.scores and row.error is None)
    done = len(results.rows) - waiting - len(results.failed_rows)
    console.print(f"{done} of {len(results.rows)} runs done, {len(results.failed_rows)} failed, {waiting} waiting"
                  + ("; --retry tries failed ones again" if results.failed_rows else ""))  # fmt: skip


def _find_fronts(results: SweepResults) -> dict[str, list[str]]:
    """Return for each run, by label, the scores on whose front it is."""
    fronts: dict[str, list[str]] = {}
    for name in results.score_names:
        for point in build_points(results, results.plot.x, name) if _is_x_known(results) else []:
            if point.is_on_front:
                fronts.setdefault(point.row.label, []).append(name)
    return fronts


def _is_x_known(results: SweepResults) -> bool:
    return results.plot.x in ("samples/s", "seconds", *results.score_names)


def _format_seconds(row: RunResult) -> str:
    return "-" if row.timing is None else f"{row.timing.seconds:.3g}"


def _format_score(score: Score | None) -> Any:
    if score is None:
        return "-"
    if score.value is None:
        return score.verdict
    interval = "" if score.interval is None else f" ({score.interval[0]:.4g} to {score.interval[1]:.4g})"
    return f"{score.value:.4g}{interval}"
