"""The leaderboard of many reports: ranks, significant differences from the best, and all formats of the table."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from hseval.comparison.formats import FORMATTERS, format_latex, format_markdown, format_terminal
from hseval.comparison.leaderboard import Leaderboard, LeaderboardCell, _build_cells, compare
from hseval.comparison.pairwise_tests import PairwiseTest
from hseval.comparison.protocol import Entry
from hseval.core.report import Score
from tests.helpers.commands import Command
from tests.helpers.reports import NOISE, get_report


@pytest.fixture(scope="module")
def leaderboard() -> Leaderboard:
    return compare([Entry(name, get_report(name)) for name in ("poor", "twin", "good", "fair")])


def make_score(value: float, better: str = "lower", floor: float = 0.0) -> Score:
    return Score(name="x", value=value, floor=floor, better=better, verdict="", n=9)  # type: ignore[arg-type]


def make_pair(first: str, second: str, better: str | None) -> PairwiseTest:
    probability = 0.99 if better == first else 0.01
    return PairwiseTest("x", first, second, 0.0, (0.0, 0.0), probability, 0.001, 0.9 if better is None else 0.001)


def test_rows_come_in_the_order_of_the_first_score(leaderboard: Leaderboard) -> None:
    assert set(leaderboard.names[:2]) == {"good", "twin"} and leaderboard.names[2:] == ("fair", "poor")
    cells = leaderboard.cells["spectral-kl"]
    values = [cells[name].value for name in leaderboard.names]
    assert values == sorted(values) and [cells[name].rank for name in leaderboard.names] == [1, 2, 3, 4]


def test_worse_reports_differ_significantly_from_the_best_but_its_twin_does_not(leaderboard: Leaderboard) -> None:
    cells = leaderboard.cells["spectral-kl"]
    assert [cells[name].is_worse_than_best for name in leaderboard.names] == [False, False, True, True]
    assert [cells[name].rank_interval for name in leaderboard.names][:2] == [(1, 2), (1, 2)]
    assert cells["poor"].rank_interval == (4, 4)


def test_rank_intervals_are_bounded_by_significant_differences() -> None:
    scores = {"a": make_score(1), "b": make_score(2), "c": make_score(3)}
    pairs = [make_pair("a", "b", None), make_pair("a", "c", "a"), make_pair("b", "c", None)]
    cells = _build_cells(scores, pairs)
    assert {name: cell.rank_interval for name, cell in cells.items()} == {"a": (1, 2), "b": (1, 3), "c": (2, 3)}
    assert {name: cell.is_worse_than_best for name, cell in cells.items()} == {"a": False, "b": False, "c": True}


@pytest.mark.parametrize(
    ("better", "order"), [("lower", ["a", "b", "c"]), ("higher", ["c", "b", "a"]), ("floor", ["b", "c", "a"])]
)
def test_ranks_follow_the_better_side(better: str, order: list[str]) -> None:
    scores = {"a": make_score(1, better, 4.5), "b": make_score(4, better, 4.5), "c": make_score(6, better, 4.5)}
    cells = _build_cells(scores, [make_pair(x, y, None) for x, y in ("ab", "ac", "bc")])
    assert sorted(cells, key=lambda name: cells[name].rank) == order


def test_there_are_no_rank_intervals_if_a_pair_can_not_be_compared() -> None:
    pair = PairwiseTest("x", "a", "b", missing_reason="other floors")
    cells = _build_cells({"a": make_score(1), "b": make_score(2)}, [pair])
    assert cells["a"].rank_interval is None and cells["a"].is_worse_than_best is None and cells["b"].rank == 2


def test_simultaneous_rank_intervals_contain_the_true_ranks() -> None:
    # Normal values with known means: all intervals contain the true ranks at once in at least 95 % of cases.
    from hseval.stats.multiple_testing import adjust_holm

    rng, means, covered_count = np.random.default_rng(0), np.array([0.0, 0.0, 1.0, 3.0]), 0
    names = "abcd"
    from scipy.special import ndtr

    for _ in range(300):
        values = means + rng.normal(0, 0.5, 4)
        index_pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
        probabilities = [float(ndtr((values[j] - values[i]) / (0.5 * np.sqrt(2)))) for i, j in index_pairs]
        adjusted = adjust_holm([2 * min(p, 1 - p) for p in probabilities])
        pairs = [PairwiseTest("x", names[i], names[j], 0.0, (0.0, 0.0), p, 0.0, q)
                 for (i, j), p, q in zip(index_pairs, probabilities, adjusted, strict=True)]  # fmt: skip
        cells = _build_cells({name: make_score(value) for name, value in zip(names, values, strict=True)}, pairs)
        true = {"a": (1, 2), "b": (1, 2), "c": (3, 3), "d": (4, 4)}
        covered_count += all(
            cells[n].rank_interval[0] <= hi and cells[n].rank_interval[1] >= lo for n, (lo, hi) in true.items()
        )  # type: ignore[index]
    assert covered_count / 300 >= 0.95


# Formats.


def test_every_format_shows_values_intervals_ranks_floor_and_side(leaderboard: Leaderboard) -> None:
    cell, floor = leaderboard.cells["spectral-kl"]["poor"], leaderboard.columns[0].floor
    for text in (format_terminal(leaderboard), format_markdown(leaderboard), format_latex(leaderboard)):
        row = next(line for line in text.splitlines() if "poor" in line)
        assert f"{cell.value:.4g}" in row and f"{cell.interval[0]:.4g} to {cell.interval[1]:.4g}" in row
        assert f"{floor:.4g}" in next(line for line in text.splitlines() if "floor (real against real)" in line)
        assert "lower is better" in text and "20 cubes per side" in text
    assert json.loads(FORMATTERS["json"](leaderboard))["cells"]["spectral-kl"]["poor"]["rank"] == 4


def test_markdown_escapes_special_characters_in_names() -> None:
    special = "a|b *c* <script> `d` [e](f) \\ # ~"
    text = format_markdown(compare([Entry(name, get_report("good")) for name in (special, "plain", "other")]))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 6
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {4}
    assert "<script>" not in text and r"\<script\>" in text


def test_latex_escapes_special_characters_in_names() -> None:
    special = "50%_a&b$c#d{e}~f^g\\h[i]"
    text = format_latex(compare([Entry(name, get_report("good")) for name in (special, "plain", "other")]))
    row = next(line for line in text.splitlines() if "50" in line)
    name = row.removeprefix(r"\textbf{").split(" & ", maxsplit=1)[0]
    assert name == (r"50\%\_a\&b\$c\#d\{e\}\textasciitilde{}f\textasciicircum{}g\textbackslash{}h{[}i{]}")
    assert row.endswith(r"\\") and row.count(" & ") == 2
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1


def test_piped_output_is_neither_wrapped_nor_colored(tmp_path: Path, hseval: Command) -> None:
    paths = [tmp_path / f"{name}.json" for name in NOISE]
    for name, path in zip(NOISE, paths, strict=True):
        get_report(name).save(path)
    result = hseval("diff", *paths)
    assert result.status == 0 and "\x1b" not in result.out
    assert len([line for line in result.out.splitlines() if line.startswith(tuple(NOISE))]) == 4
    written = hseval("diff", *paths, "--out", tmp_path / "board.tex", "--by", "plausibility")
    assert written.status == 0 and written.out == ""
    assert (tmp_path / "board.tex").read_text().startswith("% needs")
    assert hseval("diff", *paths, "--format", "markdown").out.startswith("|  | spectral-kl ↓ |")


def test_the_folder_of_a_sweep_gives_the_reports_of_its_runs(tmp_path: Path, hseval: Command) -> None:
    from hseval.sweep.plan import PlotConfig
    from hseval.sweep.results import RunResult, SweepResults

    rows = []
    for name in ("good", "fair", "poor"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        report = get_report(name)
        report.save(tmp_path / "runs" / name / "report.json")
        scores = {score.name: score for score in report.scores}
        rows.append(RunResult(f"noise={NOISE[name]}", "x", "x", {}, f"runs/{name}", scores=scores))
    rows.append(RunResult("noise=1", "x", "x", {}, "runs/none", error="fit: no"))
    SweepResults("s", tuple(rows), PlotConfig()).save(tmp_path)
    result = hseval("diff", tmp_path)
    assert result.status == 0 and [name in result.out for name in ("noise=0.003", "noise=0.05", "noise=1")] == [
        True, True, False,
    ]  # fmt: skip


def test_a_cell_is_a_record() -> None:
    assert LeaderboardCell(1.0, None, "like real", 1, (1, 2), False).rank_interval == (1, 2)
