"""``hseval sweep``: which steps run, are shared and are not repeated, and the effects of failures."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from hseval import load_report, open_set
from hseval import score as evaluate
from hseval.reporting.summary import list_structures
from tests.helpers.commands import Command
from tests.helpers.sets import make_texture_set, save_set
from tests.helpers.sweeps import CHEAP, StagedGenerator, format_grid, write_plan


def load_results(folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((folder / "s.sweep" / "results.json").read_text())
    return results


def load_rows(folder: Path) -> dict[str, Any]:
    return {row["label"]: row for row in load_results(folder)["rows"]}


def list_fit_calls() -> list[tuple[Any, ...]]:
    return [call[:4] for call in StagedGenerator.calls if call[0] != "sample"]


# Execution.


def test_every_run_is_fitted_sampled_timed_and_scored(folder: Path, hseval: Command) -> None:
    result = hseval("sweep", write_plan(folder, format_grid(c=[0.0, 0.2]), plot=""))
    assert result.status == 0 and "2 of 2 runs done, 0 failed" in result.out
    rows = load_rows(folder)
    assert list(rows) == ["staged c=0", "staged c=0.2"]
    clean, noisy = (row["scores"]["spectral-kl"] for row in rows.values())
    assert clean["value"] < noisy["value"] and clean["interval"][0] < clean["value"] < clean["interval"][1]
    timing = rows["staged c=0"]["timing"]
    assert timing["fastest"] <= timing["seconds"] <= timing["slowest"] and "thread" in timing["device"]
    samples = open_set(folder / "s.sweep" / rows["staged c=0"]["folder"] / "samples.h5")
    assert len(samples) == 16 and samples.info.provenance["options"]["c"] == 0.0
    assert {path.name for path in (folder / "s.sweep").glob("pareto.*")} == {"pareto.png", "pareto.svg"}


def test_the_timing_excludes_the_warm_up(folder: Path, hseval: Command) -> None:
    timing = '[score]\nmetrics = ["spectral-kl"]\n[timing]\ncubes = 3\nrepeats = 4\nwarmup = 2\n'
    hseval("sweep", write_plan(folder, format_grid(c=[0.0]), score=timing))
    timing_calls = [call for call in StagedGenerator.calls if call[0] == "sample" and call[2] == 3]
    assert len(timing_calls) == 6
    assert load_rows(folder)["staged c=0"]["timing"]["of"]["repeats"] == 4


def test_the_score_of_one_structure_equals_its_part_of_the_report(folder: Path, hseval: Command) -> None:
    score_table = CHEAP + '[score.by_structure]\nspectral-kl = ["bright", "halo"]\n'
    hseval("sweep", write_plan(folder, format_grid(c=[0.1]), score=score_table))
    row = load_rows(folder)["staged c=0.1"]
    report = load_report(folder / "s.sweep" / row["folder"] / "report.json")
    expected = {name: value for name, value, _ in list_structures(report["spectral-kl"])}["bright"]
    score = row["scores"]["spectral-kl:bright"]
    assert score["value"] == pytest.approx(expected, rel=1e-9)
    assert score["interval"][0] < score["value"] < score["interval"][1]
    assert row["scores"]["spectral-kl:halo"]["value"] is None
    assert "no structure 'halo'" in row["scores"]["spectral-kl:halo"]["verdict"]


def test_the_report_of_a_run_equals_that_of_hseval_score(folder: Path, hseval: Command) -> None:
    hseval("sweep", write_plan(folder, format_grid(c=[0.1])))
    run = folder / "s.sweep" / load_rows(folder)["staged c=0.1"]["folder"]
    expected = evaluate(run / "samples.h5", ref=folder / "ref.h5", train=folder / "train.h5", metrics=["spectral-kl"])
    assert load_report(run / "report.json")["spectral-kl"].value == expected["spectral-kl"].value


def test_excluded_runs_are_not_listed_and_configurations_may_replace_a_grid(folder: Path, hseval: Command) -> None:
    excluded = "[[generator.exclude]]\na = 2\nc = [0.1, 0.2]\n"
    configurations = '[[generator]]\nname = "staged"\nlabel = "mine"\n[[generator.configurations]]\na = 3\n'
    result = hseval(
        "sweep", write_plan(folder, format_grid(exclude=excluded, a=[1, 2], c=[0.1, 0.3]) + configurations), "--list"
    )
    assert result.status == 0 and StagedGenerator.calls == []
    runs = [line.split("  ")[0] for line in result.out.splitlines() if "=" in line]
    assert runs == ["staged a=1 c=0.1", "staged a=1 c=0.3", "staged a=2 c=0.3", "mine a=3"]
    assert "0 of 4 runs done, 0 failed, 4 waiting" in result.out


def test_only_runs_one_table(folder: Path, hseval: Command) -> None:
    other = '[[generator]]\nname = "staged"\nlabel = "mine"\n'
    file = write_plan(folder, format_grid(c=[0.1]) + other)
    assert hseval("sweep", file, "--only", "mine").status == 0
    assert [label for label, row in load_rows(folder).items() if row["scores"]] == ["mine"]
    refused = hseval("sweep", file, "--only", "mind")
    assert refused.status == 2 and "did you mean 'mine'" in refused.err


def test_other_timing_settings_need_no_new_fit_or_samples(folder: Path, hseval: Command) -> None:
    hseval("sweep", write_plan(folder, format_grid(c=[0.1])))
    StagedGenerator.calls.clear()
    hseval("sweep", write_plan(folder, format_grid(c=[0.1]), score=CHEAP.replace("cubes = 2", "cubes = 5")))
    assert set(StagedGenerator.calls) == {("sample", 1.0, 5)}
    assert load_rows(folder)["staged c=0.1"]["timing"]["of"]["cubes"] == 5


# Shared and finished steps.


def test_stages_are_fitted_once_and_sampling_options_need_no_fit(folder: Path, hseval: Command) -> None:
    hseval("sweep", write_plan(folder, format_grid(a=[1], b=[1, 2], c=[0.0, 0.1], gain=[1.0, 1.1])))
    assert sorted(list_fit_calls()) == sorted([
        ("first", 1, 1, 0.0), ("second", 1, 1, 0.0), ("second", 1, 2, 0.0),
        ("rest", 1, 1, 0.0), ("rest", 1, 1, 0.1), ("rest", 1, 2, 0.0), ("rest", 1, 2, 0.1),
    ])  # fmt: skip
    assert len(load_rows(folder)) == 8
    by_gain = {
        row["varied_options"]["gain"]: row["scores"]["spectral-kl"]["value"] for row in load_results(folder)["rows"]
    }
    assert by_gain[1.1] > by_gain[1.0]


def test_finished_runs_are_not_repeated(folder: Path, hseval: Command) -> None:
    file = write_plan(folder, format_grid(c=[0.0, 0.1]))
    hseval("sweep", file)
    results, csv_text = load_results(folder), (folder / "s.sweep" / "results.csv").read_text()
    StagedGenerator.calls.clear()
    assert hseval("sweep", file).status == 0
    assert StagedGenerator.calls == [] and load_results(folder) == results
    assert (folder / "s.sweep" / "results.csv").read_text() == csv_text
    lines = list(csv.DictReader(csv_text.splitlines()))
    assert [line["run"] for line in lines] == list(load_rows(folder)) and float(lines[0]["spectral-kl"]) > 0


def test_only_a_new_run_is_executed(folder: Path, hseval: Command) -> None:
    hseval("sweep", write_plan(folder, format_grid(c=[0.1])))
    StagedGenerator.calls.clear()
    hseval("sweep", write_plan(folder, format_grid(c=[0.1, 0.2])))
    assert list_fit_calls() == [("rest", 1, 1, 0.2)]


def test_other_scores_need_no_new_samples_but_other_training_data_need_new_fits(folder: Path, hseval: Command) -> None:
    hseval("sweep", write_plan(folder, format_grid(c=[0.1])))
    StagedGenerator.calls.clear()
    bins = CHEAP + "[score.options.spectral-kl]\nbins = 8\n"
    hseval("sweep", write_plan(folder, format_grid(c=[0.1]), score=bins))
    assert StagedGenerator.calls == []
    save_set(folder / "ref.h5", make_texture_set(24, size=16, bands=3, seed=9))
    hseval("sweep", write_plan(folder, format_grid(c=[0.1]), score=bins))
    assert StagedGenerator.calls == []
    save_set(folder / "train.h5", make_texture_set(24, size=16, bands=3, seed=8))
    hseval("sweep", write_plan(folder, format_grid(c=[0.1]), score=bins))
    assert [call[0] for call in list_fit_calls()] == ["first", "second", "rest"]


def test_samples_removed_after_scoring_are_not_drawn_again(folder: Path, hseval: Command) -> None:
    file = write_plan(folder, format_grid(c=[0.1]))
    hseval("sweep", file)
    for samples in folder.rglob("samples.h5"):
        samples.unlink()
    StagedGenerator.calls.clear()
    assert hseval("sweep", file).status == 0 and StagedGenerator.calls == []


# Failures.


def test_a_run_that_fails_is_reported_and_skipped(folder: Path, hseval: Command) -> None:
    StagedGenerator.fails["fit", 0.1] = RuntimeError("loss is\nnot finite")
    file = write_plan(folder, format_grid(c=[0.0, 0.1, 0.2], gain=[1.0, 1.1]))
    result = hseval("sweep", file)
    message = "generator 'staged' of hseval-staged: RuntimeError: loss is"
    assert result.status == 1 and "4 of 6 runs done, 2 failed" in result.out
    assert f"failed staged c=0.1 gain=1: fit: {message}" in result.out
    assert list_fit_calls().count(("rest", 1, 1, 0.1)) == 1  # the fit that both runs share failed once
    StagedGenerator.calls.clear()
    assert hseval("sweep", file).status == 1 and StagedGenerator.calls == []  # known to fail
    StagedGenerator.fails.clear()
    assert hseval("sweep", file, "--retry").status == 0
    assert list_fit_calls() == [("rest", 1, 1, 0.1)] and StagedGenerator.calls[0][4] == "resumed"


def test_a_failed_stage_fails_the_runs_that_need_it(folder: Path, hseval: Command) -> None:
    StagedGenerator.fails["first", 2] = SystemExit(3)
    result = hseval("sweep", write_plan(folder, format_grid(a=[1, 2], b=[1, 2])))
    assert result.status == 1 and "2 of 4 runs done, 2 failed" in result.out
    assert [row["error"][:12] for row in load_rows(folder).values() if row["error"]] == ["stage first:"] * 2


def test_a_sample_file_that_vanishes_before_scoring_fails_only_its_run(
    folder: Path, hseval: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hseval.sweep import run_steps

    score_samples = run_steps.score_samples

    def remove_and_score(samples: Path, plan: Any, **options: Any) -> Any:
        if open_set(samples).info.provenance["options"]["c"] == 0.1:
            samples.unlink()
        return score_samples(samples, plan, **options)

    monkeypatch.setattr(run_steps, "score_samples", remove_and_score)
    file = write_plan(folder, format_grid(c=[0.0, 0.1, 0.2]))
    result = hseval("sweep", file)
    assert result.status == 1 and "2 of 3 runs done, 1 failed" in result.out
    error = load_rows(folder)["staged c=0.1"]["error"]
    assert "scoring:" in error and "samples.h5" in error
    monkeypatch.setattr(run_steps, "score_samples", score_samples)
    StagedGenerator.calls.clear()
    assert hseval("sweep", file, "--retry").status == 0
    assert list_fit_calls() == [] and ("sample", 1.0, 16) in StagedGenerator.calls


def test_ctrl_c_ends_the_sweep_and_the_same_command_resumes(folder: Path, hseval: Command) -> None:
    StagedGenerator.fails["fit", 0.1] = KeyboardInterrupt()
    file = write_plan(folder, format_grid(c=[0.0, 0.1]))
    assert hseval("sweep", file).status == 130
    StagedGenerator.fails.clear()
    StagedGenerator.calls.clear()
    assert hseval("sweep", file).status == 0
    assert list_fit_calls() == [("rest", 1, 1, 0.1)]


# Invalid files.


@pytest.mark.parametrize(
    ("generators", "words"),
    [
        ("", ["s.toml: names no run", "[[generator]]"]),
        (format_grid("stagd", c=[1]), ["no generator is called 'stagd'", "did you mean 'staged'"]),
        (format_grid(cc=[1]), ["[[generator]] 1", "no option 'cc'"]),
        (format_grid(c=["much"]), ["'staged', option c: 'much' is not of type float"]),
        (
            format_grid(exclude="[[generator.exclude]]\nb = 1\n", c=[1]),
            ["[[exclude]]: 'b' does not vary", "vary: c"],
        ),
        (
            format_grid(c=[1]) + "[generator.sampling]\nb = 2\n",
            ["[sampling]: 'b' is no sampling option", "options: gain"],
        ),
        (format_grid(c=[1, 1]), ["2 runs are called 'staged c=1'"]),
        ('[[generator]]\nname = "staged"\nsett = {}\n', ["unknown key 'sett'", "did you mean 'set'"]),
        ('[[generator]]\nname = "staged"\n[generator.grid]\nc = 1\n', ["c is 1, expected a list of values"]),
        (format_grid(c=[1]) + "[timing]\n[timing]\n", ["can't be read as TOML"]),
        (format_grid(c=[1]) + "[sores]\n", ["unknown key 'sores'", "did you mean 'score'"]),
        ("samples", ["can't be read as TOML"]),
    ],
)
def test_an_invalid_file_is_refused_before_anything_is_executed(
    folder: Path, hseval: Command, generators: str, words: list[str]
) -> None:
    result = hseval("sweep", write_plan(folder, generators))
    assert result.status == 2 and len(result.err.splitlines()) == 1
    for word in words:
        assert word in result.err
    assert not (folder / "s.sweep").exists()


def test_a_plot_of_an_unknown_score_or_option_is_refused(folder: Path, hseval: Command) -> None:
    result = hseval("sweep", write_plan(folder, format_grid(c=[1]), plot='y = ["spectral-kll"]'))
    assert result.status == 2 and "[plot]: there is no score 'spectral-kll'" in result.err
    result = hseval("sweep", write_plan(folder, format_grid(c=[1]), plot='color = "d"'))
    assert result.status == 2 and "[plot]: color: no option 'd' varies" in result.err


def test_a_missing_set_or_metric_is_refused(folder: Path, hseval: Command) -> None:
    (folder / "ref.h5").unlink()
    result = hseval("sweep", write_plan(folder, format_grid(c=[1])))
    assert result.status == 2 and "ref.h5: there is no such file or folder ([data]" in result.err
    result = hseval("sweep", write_plan(folder, format_grid(c=[1]), score='[score]\nmetrics = ["spectral-kk"]'))
    assert result.status == 2 and "did you mean 'spectral-kl'" in result.err
    assert not (folder / "s.sweep").exists()


def test_the_example_in_the_docs_is_a_valid_file(folder: Path, hseval: Command) -> None:
    page = (Path(__file__).parents[2] / "docs" / "sweep.md").read_text(encoding="utf-8")
    (folder / "s.toml").write_text(page.split("```toml\n")[1].split("```")[0])
    result = hseval("sweep", folder / "s.toml", "--list")
    assert result.status == 0 and "0 of 3 runs done" in result.out
    assert [word in result.out for word in ("pca variance=0.9", "pca variance=0.99", "oracle")] == [True] * 3
