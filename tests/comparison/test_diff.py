"""``hseval diff`` on two reports: differences with intervals, and different protocols are refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from hseval.comparison.leaderboard import compare
from hseval.comparison.pairwise_tests import PairwiseTest, _compute_p_value, compare_all_pairs
from hseval.comparison.protocol import Entry, load_entries
from hseval.core.score_records import SplitStatistics
from hseval.stats.multiple_testing import adjust_holm
from hseval.stats.paired import compare_paired
from tests.helpers.commands import Command
from tests.helpers.reports import get_report, make_reference, make_report


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Return the reports' files."""
    paths = {name: tmp_path / f"{name}.json" for name in ("good", "twin", "fair", "poor")}
    for name, path in paths.items():
        get_report(name).save(path)
    return paths


def test_two_reports_are_compared_on_shared_resamples(files: dict[str, Path], hseval: Command) -> None:
    result = hseval("diff", files["good"], files["poor"], "--json", files["good"].parent / "diff.json")
    assert result.status == 0
    row = next(line for line in result.out.splitlines() if line.startswith("spectral-kl"))
    assert "good is better" in row and "lower" in row
    record = json.loads((files["good"].parent / "diff.json").read_text())
    assert (record["format"], record["version"]) == ("hseval-diff", 2)
    pair = next(pair for pair in record["pairs"] if pair["metric"] == "spectral-kl")
    expected = compare_paired(get_report("good")["spectral-kl"], get_report("poor")["spectral-kl"])
    assert pair["difference"] == pytest.approx(expected.difference)
    assert pair["interval"] == pytest.approx(list(expected.interval))
    assert pair["probability"] == pytest.approx(expected.probability) and pair["better"] == "good"


def test_exchanging_the_reports_changes_only_the_sign(files: dict[str, Path]) -> None:
    forward, backward = (compare(load_entries([files[a], files[b]])) for a, b in (("good", "fair"), ("fair", "good")))
    for pair, reverse in zip(forward.pairs, backward.pairs, strict=True):
        assert pair.difference == pytest.approx(-reverse.difference)
        assert pair.probability == pytest.approx(1 - reverse.probability)
        assert pair.p_adjusted == pytest.approx(reverse.p_adjusted) and pair.better == reverse.better


def test_two_draws_of_one_generator_are_not_significantly_different(files: dict[str, Path], hseval: Command) -> None:
    result = hseval("diff", files["good"], files["twin"])
    assert result.status == 0 and result.out.count("not significantly different") == 2


def test_p_values_are_holm_adjusted_over_all_pairs_and_scores(files: dict[str, Path]) -> None:
    entries = load_entries([files[name] for name in ("good", "twin", "fair", "poor")])
    leaderboard = compare(entries)
    assert len(leaderboard.pairs) == 12  # six pairs in two scores
    adjusted = adjust_holm([pair.p_value for pair in leaderboard.pairs])
    assert [pair.p_adjusted for pair in leaderboard.pairs] == pytest.approx(adjusted)
    assert all(pair.p_adjusted >= pair.p_value for pair in leaderboard.pairs)


def test_the_p_value_is_not_zero_without_draws_on_the_other_side() -> None:
    # 2000 draws around 3 with a standard deviation of 1 may all be above 0, though the p-value is 0.0027.
    assert _compute_p_value(1.0, (3 - 1.96, 3 + 1.96)) == pytest.approx(0.0027, rel=0.01)
    assert _compute_p_value(0.4, (-3.0, 2.0)) == pytest.approx(0.8)
    assert _compute_p_value(0.5, (0.0, 0.0)) == 1.0


def test_significance_is_decided_by_the_adjusted_p_value() -> None:
    pair = PairwiseTest("fid", "a", "b", -1.0, (-2.0, -0.1), 0.99, 0.02, 0.04)
    assert pair.better == "a"
    assert dataclasses.replace(pair, probability=0.01).better == "b"
    assert dataclasses.replace(pair, p_adjusted=0.06).better is None
    assert dataclasses.replace(pair, p_adjusted=None).better is None


# Protocols.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"options": {"spectral-kl": {"bins": 16}}},
         "other can't be compared with good: metric spectral-kl, option bins is 64 in good, 16 in other"),
        ({"seed": 1}, "--seed is 0 in good, 1 in other"),
        ({"count": 20}, "number of samples is 24 in good, 20 in other"),
        ({"ref": make_reference(3)}, "reference is '"),
    ],
)  # fmt: skip
def test_reports_of_another_protocol_are_refused_with_the_difference(
    files: dict[str, Path], hseval: Command, options: dict[str, Any], message: str
) -> None:
    make_report("fair", metrics=["spectral-kl"], **options).save(files["good"].with_name("other.json"))
    result = hseval("diff", files["good"], files["good"].with_name("other.json"))
    assert result.status == 2 and len(result.err.splitlines()) == 1 and message in result.err


def test_a_training_set_matters_only_for_scores_that_use_it(tmp_path: Path, hseval: Command) -> None:
    for name, train in (("one", make_reference(4)), ("other", make_reference(5))):
        make_report("fair", metrics=["spectral-kl", "authenticity"], train=train).save(tmp_path / f"{name}.json")
    make_report("fair", metrics=["spectral-kl"]).save(tmp_path / "none.json")
    one, other, none = (tmp_path / f"{name}.json" for name in ("one", "other", "none"))
    refused = hseval("diff", one, other)
    assert refused.status == 2 and "training set is '" in refused.err
    assert hseval("diff", one, none).status == 0
    assert hseval("diff", one, other, "--metrics", "spectral-kl").status == 0


def test_scores_with_and_without_a_segmenter_are_not_comparable(files: dict[str, Path], hseval: Command) -> None:
    report = json.loads(files["fair"].read_text())
    report["provenance"]["segmenter"] = {"distribution": "hseval", "options": {"trees": 50}, "version": "1"}
    files["fair"].write_text(json.dumps(report))
    result = hseval("diff", files["good"], files["fair"])
    assert result.status == 2 and "segmenter, " in result.err and "is nothing in good" in result.err


def test_another_extractor_is_refused(tmp_path: Path, hseval: Command) -> None:
    for name, extractor in (("a", "statistics"), ("b", "scattering")):
        report = json.loads(get_report("good").to_json())
        report["provenance"]["metrics"]["spectral-kl"]["options"]["extractor"] = extractor
        (tmp_path / f"{name}.json").write_text(json.dumps(report))
    result = hseval("diff", tmp_path / "a.json", tmp_path / "b.json")
    assert result.status == 2 and "metric spectral-kl, option extractor is 'statistics' in a" in result.err


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
    result = hseval("diff", files["good"], files["fair"])
    assert result.status == 2 and "metric spectral-kl, distribution version is" in result.err
    # Metrics that are not compared may differ.
    assert hseval("diff", files["good"], files["fair"], "--metrics", "plausibility").status == 0


def test_a_score_that_one_report_lacks_is_left_out_with_a_note(files: dict[str, Path], hseval: Command) -> None:
    report = json.loads(files["fair"].read_text())
    report["scores"][1]["value"] = None
    files["fair"].write_text(json.dumps(report))
    result = hseval("diff", files["good"], files["fair"])
    assert result.status == 0 and "plausibility: not compared: no value in fair" in result.out
    partial = hseval("diff", files["good"], files["fair"], "--metrics", "spectral-kl,plausibility")
    assert partial.status == 1
    refused = hseval("diff", files["good"], files["fair"], "--metrics", "plausibility")
    assert refused.status == 2 and "no score has a value in all reports" in refused.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{good}"], "1 report; a comparison needs two or more"),
        (["{good}", "{good}"], "good.json: is given twice"),
        (["{good}", "{fair}", "--metrics", "fod"], "--metrics fod: no report has it"),
        (["{good}", "{fair}", "--by", "fid"], "--by fid: is not among the scores compared"),
        (["{good}", "{fair}", "--names", "a"], "--names: 1 name for 2 reports"),
        (["{good}", "{fair}", "--out", "{good}"], "is an input of this command"),
        (["{good}", "{fair}", "--out", "{good}.docx"], "unknown suffix, expected one of"),
        (["{good}", "nowhere.json"], "nowhere.json: can't be read as a report"),
    ],
)
def test_invalid_arguments_are_refused(
    files: dict[str, Path], hseval: Command, arguments: list[str], message: str
) -> None:
    content = files["good"].read_bytes()
    result = hseval("diff", *(argument.format(**files) for argument in arguments))
    assert result.status == 2 and len(result.err.splitlines()) == 1 and message in result.err
    assert files["good"].read_bytes() == content


def test_reports_with_the_same_file_name_are_named_by_their_folders(tmp_path: Path) -> None:
    for run in ("a", "b"):
        (tmp_path / run).mkdir()
        get_report("good").save(tmp_path / run / "report.json")
    entries = load_entries([tmp_path / "a" / "report.json", tmp_path / "b" / "report.json"])
    assert [entry.name for entry in entries] == ["a", "b"]


def test_scores_without_resamples_are_shown_and_not_compared() -> None:
    statistics = SplitStatistics(16, 24, 40, 1.0, no_interval="too few groups")
    score = dataclasses.replace(get_report("good")["spectral-kl"], statistics=statistics)
    entries = [Entry(name, get_report("good")) for name in "ab"]
    pair = compare_all_pairs(entries, {"spectral-kl": {"a": score, "b": score}})[0]
    assert pair.p_adjusted is None and pair.missing_reason is not None and "too few groups" in pair.missing_reason


def test_the_python_example_in_the_docs_runs(files: dict[str, Path]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "diff.md").read_text(encoding="utf-8")
    namespace: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0], namespace)
    text = namespace["leaderboard"](str(files["good"].parent))
    assert text.count("\n| ") == 6 and "floor (real against real)" in text
