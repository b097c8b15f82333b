"""The leaderboard of many reports: ranks, who is told from the best, and the same table in every format."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hseval.comparison.formats import FORMATTERS, format_latex, format_markdown, format_terminal
from hseval.comparison.leaderboard import Leaderboard, LeaderboardCell, _build_cells, compare
from hseval.comparison.pairwise_tests import PairwiseTest
from hseval.comparison.protocol import Entry
from hseval.core.report import Score
from tests.helpers.commands import Outcome
from tests.helpers.reports import NOISE, plain_report

Command = Callable[..., Outcome]


@pytest.fixture(scope="module")
def board() -> Leaderboard:
    return compare([Entry(name, plain_report(name)) for name in ("poor", "twin", "good", "fair")])


def score(value: float, better: str = "lower", floor: float = 0.0) -> Score:
    return Score("x", value, floor, None, better, "", 9)  # type: ignore[arg-type]


def told(first: str, second: str, better: str | None) -> PairwiseTest:
    probability = 0.99 if better == first else 0.01
    return PairwiseTest("x", first, second, 0.0, (0.0, 0.0), probability, 0.001, 0.9 if better is None else 0.001)


def test_rows_come_in_the_order_of_the_first_score(board: Leaderboard) -> None:
    assert set(board.names[:2]) == {"good", "twin"} and board.names[2:] == ("fair", "poor")
    cells = board.cells["spectral-kl"]
    values = [cells[name].value for name in board.names]
    assert values == sorted(values) and [cells[name].rank for name in board.names] == [1, 2, 3, 4]


def test_the_best_is_told_from_those_that_are_worse_and_not_from_its_twin(board: Leaderboard) -> None:
    cells = board.cells["spectral-kl"]
    assert [cells[name].is_worse_than_best for name in board.names] == [False, False, True, True]
    assert [cells[name].rank_interval for name in board.names][:2] == [(1, 2), (1, 2)]
    assert cells["poor"].rank_interval == (4, 4)


def test_ranks_are_bounded_by_what_is_told() -> None:
    scores = {"a": score(1), "b": score(2), "c": score(3)}
    pairs = [told("a", "b", None), told("a", "c", "a"), told("b", "c", None)]
    cells = _build_cells(scores, pairs)
    assert {name: cell.rank_interval for name, cell in cells.items()} == {"a": (1, 2), "b": (1, 3), "c": (2, 3)}
    assert {name: cell.is_worse_than_best for name, cell in cells.items()} == {"a": False, "b": False, "c": True}


@pytest.mark.parametrize(
    ("better", "order"), [("lower", ["a", "b", "c"]), ("higher", ["c", "b", "a"]), ("floor", ["b", "c", "a"])]
)
def test_ranks_follow_the_better_side(better: str, order: list[str]) -> None:
    scores = {"a": score(1, better, 4.5), "b": score(4, better, 4.5), "c": score(6, better, 4.5)}
    cells = _build_cells(scores, [told(x, y, None) for x, y in ("ab", "ac", "bc")])
    assert sorted(cells, key=lambda name: cells[name].rank) == order


def test_a_pair_that_can_not_be_compared_leaves_no_rank_intervals() -> None:
    cells = _build_cells({"a": score(1), "b": score(2)}, [PairwiseTest("x", "a", "b", missing_reason="other floors")])
    assert cells["a"].rank_interval is None and cells["a"].is_worse_than_best is None and cells["b"].rank == 2


def test_simultaneous_rank_intervals_hold_the_true_ranks() -> None:
    # Normal values with known means: all intervals at once hold the true ranks in 95 % of cases or more.
    from hseval.stats.multiple_testing import adjust_holm

    rng, means, held = np.random.default_rng(0), np.array([0.0, 0.0, 1.0, 3.0]), 0
    names = "abcd"
    from scipy.special import ndtr

    for _ in range(300):
        values = means + rng.normal(0, 0.5, 4)
        couples = [(i, j) for i in range(4) for j in range(i + 1, 4)]
        chances = [float(ndtr((values[j] - values[i]) / (0.5 * np.sqrt(2)))) for i, j in couples]
        adjusted = adjust_holm([2 * min(p, 1 - p) for p in chances])
        pairs = [PairwiseTest("x", names[i], names[j], 0.0, (0.0, 0.0), p, 0.0, q)
                 for (i, j), p, q in zip(couples, chances, adjusted, strict=True)]  # fmt: skip
        cells = _build_cells({name: score(value) for name, value in zip(names, values, strict=True)}, pairs)
        true = {"a": (1, 2), "b": (1, 2), "c": (3, 3), "d": (4, 4)}
        held += all(cells[n].rank_interval[0] <= hi and cells[n].rank_interval[1] >= lo for n, (lo, hi) in true.items())  # type: ignore[index]
    assert held / 300 >= 0.95


# Formats.


def test_every_format_shows_values_intervals_ranks_floor_and_side(board: Leaderboard) -> None:
    cell, floor = board.cells["spectral-kl"]["poor"], board.columns[0].floor
    for text in (format_terminal(board), format_markdown(board), format_latex(board)):
        row = next(line for line in text.splitlines() if "poor" in line)
        assert f"{cell.value:.4g}" in row and f"{cell.interval[0]:.4g} to {cell.interval[1]:.4g}" in row
        assert f"{floor:.4g}" in next(line for line in text.splitlines() if "floor (real against real)" in line)
        assert "lower is better" in text and "20 cubes a side" in text
    assert json.loads(FORMATTERS["json"](board))["cells"]["spectral-kl"]["poor"]["rank"] == 4


def test_markdown_is_one_table_whatever_names_hold() -> None:
    odd = "a|b *c* <script> `d` [e](f) \\ # ~"
    text = format_markdown(compare([Entry(name, plain_report("good")) for name in (odd, "plain", "other")]))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 6
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {4}
    assert "<script>" not in text and r"\<script\>" in text


def test_latex_escapes_what_it_would_read_as_commands() -> None:
    odd = "50%_a&b$c#d{e}~f^g\\h[i]"
    text = format_latex(compare([Entry(name, plain_report("good")) for name in (odd, "plain", "other")]))
    row = next(line for line in text.splitlines() if "50" in line)
    name = row.removeprefix(r"\textbf{").split(" & ", maxsplit=1)[0]
    assert name == (r"50\%\_a\&b\$c\#d\{e\}\textasciitilde{}f\textasciicircum{}g\textbackslash{}h{[}i{]}")
    assert row.endswith(r"\\") and row.count(" & ") == 2
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1


def test_piped_output_is_neither_wrapped_nor_coloured(tmp_path: Path, hseval: Command) -> None:
    paths = [tmp_path / f"{name}.json" for name in NOISE]
    for name, path in zip(NOISE, paths, strict=True):
        plain_report(name).save(path)
    done = hseval("diff", *paths)
    assert done.status == 0 and "\x1b" not in done.out
    assert len([line for line in done.out.splitlines() if line.startswith(tuple(NOISE))]) == 4
    written = hseval("diff", *paths, "--out", tmp_path / "board.tex", "--by", "plausibility")
    assert written.status == 0 and written.out == ""
    assert (tmp_path / "board.tex").read_text().startswith("% needs")
    assert hseval("diff", *paths, "--format", "markdown").out.startswith("|  | spectral-kl ↓ |")


def test_the_folder_of_a_sweep_stands_for_its_runs(tmp_path: Path, hseval: Command) -> None:
    from hseval.sweep.plan import PlotConfig
    from hseval.sweep.results import RunResult, SweepResults

    rows = []
    for name in ("good", "fair", "poor"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        report = plain_report(name)
        report.save(tmp_path / "runs" / name / "report.json")
        scores = {found.name: found for found in report.scores}
        rows.append(RunResult(f"noise={NOISE[name]}", "x", "x", {}, f"runs/{name}", scores=scores))
    rows.append(RunResult("noise=1", "x", "x", {}, "runs/none", error="fit: no"))
    SweepResults("s", tuple(rows), PlotConfig()).save(tmp_path)
    done = hseval("diff", tmp_path)
    assert done.status == 0 and [name in done.out for name in ("noise=0.003", "noise=0.05", "noise=1")] == [
        True, True, False,
    ]  # fmt: skip


def test_a_cell_is_a_record() -> None:
    assert LeaderboardCell(1.0, None, "like real", 1, (1, 2), False).rank_interval == (1, 2)
