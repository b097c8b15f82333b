"""``hseval sweep``: what is run, what is shared, what is not done again, and what a failure costs."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hseval import load_report, open_set
from hseval import score as evaluate
from tests.helpers.commands import Outcome
from tests.helpers.sets import saved, texture_set
from tests.helpers.sweeps import CHEAP, Staged, grid, installed, plan, sets

Command = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def staged(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install the third party's generator."""
    with installed(monkeypatch):
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    sets(tmp_path)
    return tmp_path


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "s.sweep" / "results.json").read_text())
    return found


def rows(folder: Path) -> dict[str, Any]:
    return {row["label"]: row for row in results(folder)["rows"]}


def fits() -> list[tuple[Any, ...]]:
    return [call[:4] for call in Staged.calls if call[0] != "sample"]


# What is run.


def test_every_run_is_fitted_sampled_timed_and_scored(folder: Path, hseval: Command) -> None:
    done = hseval("sweep", plan(folder, grid(c=[0.0, 0.2]), plot=""))
    assert done.status == 0 and "2 of 2 runs done, 0 failed" in done.out
    found = rows(folder)
    assert list(found) == ["staged c=0", "staged c=0.2"]
    clean, noisy = (row["scores"]["spectral-kl"] for row in found.values())
    assert clean["value"] < noisy["value"] and clean["interval"][0] < clean["value"] < clean["interval"][1]
    timing = found["staged c=0"]["timing"]
    assert timing["fastest"] <= timing["seconds"] <= timing["slowest"] and "thread" in timing["device"]
    samples = open_set(folder / "s.sweep" / found["staged c=0"]["folder"] / "samples.h5")
    assert len(samples) == 16 and samples.info.provenance["options"]["c"] == 0.0
    assert {path.name for path in (folder / "s.sweep").glob("pareto.*")} == {"pareto.png", "pareto.svg"}


def test_the_timing_leaves_out_the_warm_up(folder: Path, hseval: Command) -> None:
    timing = '[score]\nmetrics = ["spectral-kl"]\n[timing]\ncubes = 3\nrepeats = 4\nwarmup = 2\n'
    hseval("sweep", plan(folder, grid(c=[0.0]), score=timing))
    timed = [call for call in Staged.calls if call[0] == "sample" and call[2] == 3]
    assert len(timed) == 6
    assert rows(folder)["staged c=0"]["timing"]["repeats"] == 4


def test_a_structure_is_scored_alone_and_equals_its_part_of_the_whole(folder: Path, hseval: Command) -> None:
    by = CHEAP + '[score.by_structure]\nspectral-kl = ["bright", "halo"]\n'
    hseval("sweep", plan(folder, grid(c=[0.1]), score=by))
    row = rows(folder)["staged c=0.1"]
    report = load_report(folder / "s.sweep" / row["folder"] / "report.json")
    whole = report["spectral-kl"].details["at_n"]["structures"]["bright"]["value"]
    alone = row["scores"]["spectral-kl:bright"]
    assert alone["value"] == pytest.approx(whole, rel=1e-9)
    assert alone["interval"][0] < alone["value"] < alone["interval"][1]
    assert row["scores"]["spectral-kl:halo"]["value"] is None
    assert "no structure 'halo'" in row["scores"]["spectral-kl:halo"]["verdict"]


def test_the_report_of_a_run_is_that_of_hseval_score(folder: Path, hseval: Command) -> None:
    hseval("sweep", plan(folder, grid(c=[0.1])))
    home = folder / "s.sweep" / rows(folder)["staged c=0.1"]["folder"]
    again = evaluate(home / "samples.h5", ref=folder / "ref.h5", train=folder / "train.h5", metrics=["spectral-kl"])
    assert load_report(home / "report.json")["spectral-kl"].value == again["spectral-kl"].value


def test_excluded_runs_are_not_run_and_a_list_may_stand_for_a_grid(folder: Path, hseval: Command) -> None:
    excluded = "[[generator.exclude]]\na = 2\nc = [0.1, 0.2]\n"
    listed = '[[generator]]\nname = "staged"\nlabel = "mine"\n[[generator.configurations]]\na = 3\n'
    done = hseval("sweep", plan(folder, grid(exclude=excluded, a=[1, 2], c=[0.1, 0.3]) + listed), "--list")
    assert done.status == 0 and Staged.calls == []
    runs = [line.split("  ")[0] for line in done.out.splitlines() if "=" in line]
    assert runs == ["staged a=1 c=0.1", "staged a=1 c=0.3", "staged a=2 c=0.3", "mine a=3"]
    assert "0 of 4 runs done, 0 failed, 4 waiting" in done.out


def test_only_one_table_is_run_where_one_is_named(folder: Path, hseval: Command) -> None:
    other = '[[generator]]\nname = "staged"\nlabel = "mine"\n'
    file = plan(folder, grid(c=[0.1]) + other)
    assert hseval("sweep", file, "--only", "mine").status == 0
    assert [label for label, row in rows(folder).items() if row["scores"]] == ["mine"]
    refused = hseval("sweep", file, "--only", "mind")
    assert refused.status == 2 and "did you mean 'mine'" in refused.err


def test_another_timing_is_measured_without_another_fit_or_sample(folder: Path, hseval: Command) -> None:
    hseval("sweep", plan(folder, grid(c=[0.1])))
    Staged.calls.clear()
    hseval("sweep", plan(folder, grid(c=[0.1]), score=CHEAP.replace("cubes = 2", "cubes = 5")))
    assert set(Staged.calls) == {("sample", 1.0, 5)}
    assert rows(folder)["staged c=0.1"]["timing"]["cubes"] == 5


# What is shared, and not done again.


def test_stages_are_fitted_once_and_sampling_alone_needs_no_fit(folder: Path, hseval: Command) -> None:
    hseval("sweep", plan(folder, grid(a=[1], b=[1, 2], c=[0.0, 0.1], gain=[1.0, 1.1])))
    assert sorted(fits()) == sorted([
        ("first", 1, 1, 0.0), ("second", 1, 1, 0.0), ("second", 1, 2, 0.0),
        ("rest", 1, 1, 0.0), ("rest", 1, 1, 0.1), ("rest", 1, 2, 0.0), ("rest", 1, 2, 0.1),
    ])  # fmt: skip
    assert len(rows(folder)) == 8
    by_gain = {row["varied"]["gain"]: row["scores"]["spectral-kl"]["value"] for row in results(folder)["rows"]}
    assert by_gain[1.1] > by_gain[1.0]


def test_what_is_done_is_not_done_again(folder: Path, hseval: Command) -> None:
    file = plan(folder, grid(c=[0.0, 0.1]))
    hseval("sweep", file)
    before, csv_before = results(folder), (folder / "s.sweep" / "results.csv").read_text()
    Staged.calls.clear()
    assert hseval("sweep", file).status == 0
    assert Staged.calls == [] and results(folder) == before
    assert (folder / "s.sweep" / "results.csv").read_text() == csv_before
    lines = list(csv.DictReader(csv_before.splitlines()))
    assert [line["run"] for line in lines] == list(rows(folder)) and float(lines[0]["spectral-kl"]) > 0


def test_a_run_that_is_added_is_the_only_one_done(folder: Path, hseval: Command) -> None:
    hseval("sweep", plan(folder, grid(c=[0.1])))
    Staged.calls.clear()
    hseval("sweep", plan(folder, grid(c=[0.1, 0.2])))
    assert fits() == [("rest", 1, 1, 0.2)]


def test_other_scores_need_no_other_samples_and_other_data_need_all(folder: Path, hseval: Command) -> None:
    hseval("sweep", plan(folder, grid(c=[0.1])))
    Staged.calls.clear()
    bins = CHEAP + "[score.options.spectral-kl]\nbins = 8\n"
    hseval("sweep", plan(folder, grid(c=[0.1]), score=bins))
    assert Staged.calls == []
    saved(folder / "ref.h5", texture_set(24, size=16, bands=3, seed=9))
    hseval("sweep", plan(folder, grid(c=[0.1]), score=bins))
    assert Staged.calls == []
    saved(folder / "train.h5", texture_set(24, size=16, bands=3, seed=8))
    hseval("sweep", plan(folder, grid(c=[0.1]), score=bins))
    assert [call[0] for call in fits()] == ["first", "second", "rest"]


def test_samples_that_were_removed_after_their_scores_are_not_missed(folder: Path, hseval: Command) -> None:
    file = plan(folder, grid(c=[0.1]))
    hseval("sweep", file)
    for samples in folder.rglob("samples.h5"):
        samples.unlink()
    Staged.calls.clear()
    assert hseval("sweep", file).status == 0 and Staged.calls == []


# Failures.


def test_a_run_that_fails_is_reported_and_skipped(folder: Path, hseval: Command) -> None:
    Staged.fails["fit", 0.1] = RuntimeError("loss is\nnot finite")
    file = plan(folder, grid(c=[0.0, 0.1, 0.2], gain=[1.0, 1.1]))
    done = hseval("sweep", file)
    told = "generator 'staged' of hseval-staged: RuntimeError: loss is"
    assert done.status == 1 and "4 of 6 runs done, 2 failed" in done.out
    assert f"failed staged c=0.1 gain=1: fit: {told}" in done.out
    assert fits().count(("rest", 1, 1, 0.1)) == 1  # what both runs share failed once
    Staged.calls.clear()
    assert hseval("sweep", file).status == 1 and Staged.calls == []  # known to fail
    Staged.fails.clear()
    assert hseval("sweep", file, "--retry").status == 0
    assert fits() == [("rest", 1, 1, 0.1)] and Staged.calls[0][4] == "resumed"


def test_a_stage_that_fails_costs_the_runs_that_need_it(folder: Path, hseval: Command) -> None:
    Staged.fails["first", 2] = SystemExit(3)
    done = hseval("sweep", plan(folder, grid(a=[1, 2], b=[1, 2])))
    assert done.status == 1 and "2 of 4 runs done, 2 failed" in done.out
    assert [row["error"][:12] for row in rows(folder).values() if row["error"]] == ["stage first:"] * 2


def test_a_sample_file_that_vanishes_before_its_scores_costs_its_run_alone(
    folder: Path, hseval: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hseval.sweep import run_steps as steps

    scored = steps.score_samples

    def vanishing(samples: Path, plan: Any, **given: Any) -> Any:
        if open_set(samples).info.provenance["options"]["c"] == 0.1:
            samples.unlink()
        return scored(samples, plan, **given)

    monkeypatch.setattr(steps, "score_samples", vanishing)
    file = plan(folder, grid(c=[0.0, 0.1, 0.2]))
    done = hseval("sweep", file)
    assert done.status == 1 and "2 of 3 runs done, 1 failed" in done.out
    assert "scoring:" in rows(folder)["staged c=0.1"]["error"] and "samples.h5" in rows(folder)["staged c=0.1"]["error"]
    monkeypatch.setattr(steps, "score_samples", scored)
    Staged.calls.clear()
    assert hseval("sweep", file, "--retry").status == 0
    assert fits() == [] and ("sample", 1.0, 16) in Staged.calls


def test_ctrl_c_ends_the_sweep_and_the_same_command_goes_on(folder: Path, hseval: Command) -> None:
    Staged.fails["fit", 0.1] = KeyboardInterrupt()
    file = plan(folder, grid(c=[0.0, 0.1]))
    assert hseval("sweep", file).status == 130
    Staged.fails.clear()
    Staged.calls.clear()
    assert hseval("sweep", file).status == 0
    assert fits() == [("rest", 1, 1, 0.1)]


# What can't be.


@pytest.mark.parametrize(
    ("generators", "words"),
    [
        ("", ["s.toml: names no run", "[[generator]]"]),
        (grid("stagd", c=[1]), ["no generator is called 'stagd'", "did you mean 'staged'"]),
        (grid(cc=[1]), ["[[generator]] 1", "no option 'cc'"]),
        (grid(c=["much"]), ["'staged'.c: 'much' is not of type float"]),
        (grid(exclude="[[generator.exclude]]\nb = 1\n", c=[1]), ["[[exclude]]: 'b' does not vary", "what does: c"]),
        (grid(c=[1]) + "[generator.sampling]\nb = 2\n", ["[sampling]: 'b' decides more than sampling", "not: gain"]),
        (grid(c=[1, 1]), ["2 runs are called 'staged c=1'"]),
        ('[[generator]]\nname = "staged"\nsett = {}\n', ["there is no 'sett' here", "did you mean 'set'"]),
        ('[[generator]]\nname = "staged"\n[generator.grid]\nc = 1\n', ["c is 1, expected a list of values"]),
        (grid(c=[1]) + "[timing]\n[timing]\n", ["can't be read as TOML"]),
        (grid(c=[1]) + "[sores]\n", ["there is no 'sores' here", "did you mean 'score'"]),
        ("samples", ["can't be read as TOML"]),
    ],
)
def test_a_file_that_can_not_be_is_refused_before_anything_is_done(
    folder: Path, hseval: Command, generators: str, words: list[str]
) -> None:
    done = hseval("sweep", plan(folder, generators))
    assert done.status == 2 and len(done.err.splitlines()) == 1
    for word in words:
        assert word in done.err
    assert not (folder / "s.sweep").exists()


def test_a_plot_of_what_there_is_not_is_refused(folder: Path, hseval: Command) -> None:
    done = hseval("sweep", plan(folder, grid(c=[1]), plot='y = ["spectral-kll"]'))
    assert done.status == 2 and "[plot]: there is no score 'spectral-kll'" in done.err
    done = hseval("sweep", plan(folder, grid(c=[1]), plot='color = "d"'))
    assert done.status == 2 and "[plot]: color: no option 'd' varies" in done.err


def test_a_missing_set_or_metric_is_refused(folder: Path, hseval: Command) -> None:
    (folder / "ref.h5").unlink()
    done = hseval("sweep", plan(folder, grid(c=[1])))
    assert done.status == 2 and "ref.h5: there is no such file or folder ([data]" in done.err
    done = hseval("sweep", plan(folder, grid(c=[1]), score='[score]\nmetrics = ["spectral-kk"]'))
    assert done.status == 2 and "did you mean 'spectral-kl'" in done.err
    assert not (folder / "s.sweep").exists()


def test_the_file_in_the_docs_is_one(folder: Path, hseval: Command) -> None:
    page = (Path(__file__).parents[2] / "docs" / "sweep.md").read_text(encoding="utf-8")
    (folder / "s.toml").write_text(page.split("```toml\n")[1].split("```")[0])
    done = hseval("sweep", folder / "s.toml", "--list")
    assert done.status == 0 and "0 of 3 runs done" in done.out
    assert [word in done.out for word in ("pca variance=0.9", "pca variance=0.99", "oracle")] == [True] * 3
