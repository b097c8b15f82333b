"""``hseval diff`` on two reports: differences with intervals, and protocols that differ are refused by name."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hseval.comparison.leaderboard import compare
from hseval.comparison.pairwise_tests import PairwiseTest, _compute_p_value, compare_all_pairs
from hseval.comparison.protocol import Entry, load_entries
from hseval.stats.multiple_testing import adjust_holm
from hseval.stats.paired import compare_paired
from tests.helpers.commands import Outcome
from tests.helpers.reports import plain_report, real, report_of

Command = Callable[..., Outcome]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Return the reports' files."""
    paths = {name: tmp_path / f"{name}.json" for name in ("good", "twin", "fair", "poor")}
    for name, path in paths.items():
        plain_report(name).save(path)
    return paths


def test_two_reports_are_compared_on_shared_resamples(files: dict[str, Path], hseval: Command) -> None:
    done = hseval("diff", files["good"], files["poor"], "--json", files["good"].parent / "diff.json")
    assert done.status == 0
    row = next(line for line in done.out.splitlines() if line.startswith("spectral-kl"))
    assert "good is better" in row and "lower" in row
    found = json.loads((files["good"].parent / "diff.json").read_text())
    assert (found["format"], found["version"]) == ("hseval-diff", 1)
    pair = next(pair for pair in found["pairs"] if pair["metric"] == "spectral-kl")
    expected = compare_paired(plain_report("good")["spectral-kl"], plain_report("poor")["spectral-kl"])
    assert pair["difference"] == pytest.approx(expected.difference)
    assert pair["interval"] == pytest.approx(list(expected.interval))
    assert pair["probability"] == pytest.approx(expected.probability) and pair["better"] == "good"


def test_the_order_of_the_reports_turns_the_sign_and_nothing_else(files: dict[str, Path]) -> None:
    one, other = (compare(load_entries([files[a], files[b]])) for a, b in (("good", "fair"), ("fair", "good")))
    for mine, theirs in zip(one.pairs, other.pairs, strict=True):
        assert mine.difference == pytest.approx(-theirs.difference)
        assert mine.probability == pytest.approx(1 - theirs.probability)
        assert mine.p_adjusted == pytest.approx(theirs.p_adjusted) and mine.better == theirs.better


def test_two_draws_of_one_generator_are_not_told_apart(files: dict[str, Path], hseval: Command) -> None:
    done = hseval("diff", files["good"], files["twin"])
    assert done.status == 0 and done.out.count("not told apart") == 2


def test_verdicts_are_held_together_by_holm(files: dict[str, Path]) -> None:
    entries = load_entries([files[name] for name in ("good", "twin", "fair", "poor")])
    board = compare(entries)
    assert len(board.pairs) == 12  # six pairs in two scores
    adjusted = adjust_holm([pair.p_value for pair in board.pairs])
    assert [pair.p_adjusted for pair in board.pairs] == pytest.approx(adjusted)
    assert all(pair.p_adjusted >= pair.p_value for pair in board.pairs)


def test_no_draw_on_the_other_side_is_no_proof() -> None:
    # Of 2000 draws around 3 with a deviation of 1 none may lie below 0; the chance of it is 0.0027 all the same.
    assert _compute_p_value(1.0, (3 - 1.96, 3 + 1.96)) == pytest.approx(0.0027, rel=0.01)
    assert _compute_p_value(0.4, (-3.0, 2.0)) == pytest.approx(0.8)
    assert _compute_p_value(0.5, (0.0, 0.0)) == 1.0


def test_a_pair_is_told_by_its_adjusted_p_value() -> None:
    pair = PairwiseTest("fid", "a", "b", -1.0, (-2.0, -0.1), 0.99, 0.02, 0.04)
    assert pair.better == "a"
    assert dataclasses.replace(pair, probability=0.01).better == "b"
    assert dataclasses.replace(pair, p_adjusted=0.06).better is None
    assert dataclasses.replace(pair, p_adjusted=None).better is None


# Protocols.


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"options": {"spectral-kl": {"bins": 16}}},
         "other can't be compared with good: metric spectral-kl, option bins is 64 in good, 16 in other"),
        ({"seed": 1}, "--seed is 0 in good, 1 in other"),
        ({"count": 20}, "number of samples is 24 in good, 20 in other"),
        ({"ref": real(3)}, "reference is '"),
    ],
)  # fmt: skip
def test_reports_of_another_protocol_are_refused_by_what_differs(
    files: dict[str, Path], hseval: Command, given: dict[str, Any], told: str
) -> None:
    report_of("fair", metrics=["spectral-kl"], **given).save(files["good"].with_name("other.json"))
    done = hseval("diff", files["good"], files["good"].with_name("other.json"))
    assert done.status == 2 and len(done.err.splitlines()) == 1 and told in done.err


def test_a_training_set_counts_for_scores_that_look_at_it(tmp_path: Path, hseval: Command) -> None:
    for name, train in (("one", real(4)), ("other", real(5))):
        report_of("fair", metrics=["spectral-kl", "authenticity"], train=train).save(tmp_path / f"{name}.json")
    report_of("fair", metrics=["spectral-kl"]).save(tmp_path / "none.json")
    one, other, none = (tmp_path / f"{name}.json" for name in ("one", "other", "none"))
    refused = hseval("diff", one, other)
    assert refused.status == 2 and "training set is '" in refused.err
    assert hseval("diff", one, none).status == 0
    assert hseval("diff", one, other, "--metrics", "spectral-kl").status == 0


def test_masks_by_a_segmenter_do_not_compare_with_the_sets_own(files: dict[str, Path], hseval: Command) -> None:
    report = json.loads(files["fair"].read_text())
    report["provenance"]["segmenter"] = {"distribution": "hseval", "options": {"trees": 50}, "version": "1"}
    files["fair"].write_text(json.dumps(report))
    done = hseval("diff", files["good"], files["fair"])
    assert done.status == 2 and "segmenter, " in done.err and "is nothing in good" in done.err


def test_another_extractor_is_named_first(tmp_path: Path, hseval: Command) -> None:
    for name, extractor in (("a", "statistics"), ("b", "scattering")):
        report = json.loads(plain_report("good").to_json())
        report["provenance"]["metrics"]["spectral-kl"]["options"]["extractor"] = extractor
        (tmp_path / f"{name}.json").write_text(json.dumps(report))
    done = hseval("diff", tmp_path / "a.json", tmp_path / "b.json")
    assert done.status == 2 and "metric spectral-kl, option extractor is 'statistics' in a" in done.err


def test_another_version_of_a_metric_is_refused_and_another_machine_is_not(
    files: dict[str, Path], hseval: Command
) -> None:
    report = json.loads(files["fair"].read_text())
    report["provenance"] |= {"platform": "another", "time": "later", "command": ["x"]}
    report["provenance"]["settings"] |= {"device": "cuda", "batch_size": 16}
    files["fair"].write_text(json.dumps(report))
    assert hseval("diff", files["good"], files["fair"]).status == 0
    report["provenance"]["metrics"]["spectral-kl"]["distribution_version"] = "0.0.1"
    files["fair"].write_text(json.dumps(report))
    done = hseval("diff", files["good"], files["fair"])
    assert done.status == 2 and "metric spectral-kl, distribution version is" in done.err
    # Of a metric that is not compared nothing has to agree.
    assert hseval("diff", files["good"], files["fair"], "--metrics", "plausibility").status == 0


def test_a_score_that_one_report_lacks_is_left_out_and_said(files: dict[str, Path], hseval: Command) -> None:
    report = json.loads(files["fair"].read_text())
    report["scores"][1]["value"] = None
    files["fair"].write_text(json.dumps(report))
    done = hseval("diff", files["good"], files["fair"])
    assert done.status == 0 and "plausibility: not compared: no value in fair" in done.out
    asked = hseval("diff", files["good"], files["fair"], "--metrics", "spectral-kl,plausibility")
    assert asked.status == 1
    none = hseval("diff", files["good"], files["fair"], "--metrics", "plausibility")
    assert none.status == 2 and "no score has a value in all reports" in none.err


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["{good}"], "1 report; a comparison needs two or more"),
        (["{good}", "{good}"], "good.json: is given twice"),
        (["{good}", "{fair}", "--metrics", "fod"], "--metrics fod: no report has it"),
        (["{good}", "{fair}", "--by", "fid"], "--by fid: is not among the scores compared"),
        (["{good}", "{fair}", "--names", "a"], "--names: 1 names for 2 reports"),
        (["{good}", "{fair}", "--out", "{good}"], "is one of the reports"),
        (["{good}", "{fair}", "--out", "{good}.docx"], "no format goes by that ending"),
        (["{good}", "nowhere.json"], "nowhere.json: can't be read as a report"),
    ],
)
def test_what_can_not_be_is_refused(files: dict[str, Path], hseval: Command, typed: list[str], told: str) -> None:
    before = files["good"].read_bytes()
    done = hseval("diff", *(word.format(**files) for word in typed))
    assert done.status == 2 and len(done.err.splitlines()) == 1 and told in done.err
    assert files["good"].read_bytes() == before


def test_reports_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for run in ("a", "b"):
        (tmp_path / run).mkdir()
        plain_report("good").save(tmp_path / run / "report.json")
    entries = load_entries([tmp_path / "a" / "report.json", tmp_path / "b" / "report.json"])
    assert [entry.name for entry in entries] == ["a", "b"]


def test_scores_without_resamples_are_shown_and_not_compared() -> None:
    bare = dataclasses.replace(plain_report("good")["spectral-kl"], details={"no_interval": "too few groups"})
    entries = [Entry(name, plain_report("good")) for name in "ab"]
    pair = compare_all_pairs(entries, {"spectral-kl": {"a": bare, "b": bare}})[0]
    assert pair.p_adjusted is None and pair.missing_reason is not None and "too few groups" in pair.missing_reason


def test_the_python_of_the_docs_runs(files: dict[str, Path]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "diff.md").read_text(encoding="utf-8")
    space: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0], space)
    text = space["leaderboard"](str(files["good"].parent))
    assert text.count("\n| ") == 6 and "floor (real against real)" in text
