"""``hseval score`` as typed: exit status, streams, and one line for every kind of bad input."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hseval import Score
from hseval.utils.feature_cache import get_cache_path
from tests.helpers.commands import Outcome, run_hseval_process, run_on_terminal, strip_styles
from tests.helpers.sets import make_texture_set, save_set

Run = Callable[..., Outcome]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("sets")
    for name, seed in (("samples", 1), ("real", 2), ("train", 3)):
        save_set(base / f"{name}.h5", make_texture_set(16, size=24, seed=seed))
    return base


def test_a_score_prints_a_table_and_writes_json(hseval: Run, folder: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = hseval(
        "score", folder / "samples.h5", "--ref", folder / "real.h5", "--train", folder / "train.h5", "--json", report
    )
    assert done.status == 0, done.err
    for name in ("fid", "spectral-kl", "ms-ssim", "authenticity", "verdict", "excess"):
        assert name in done.out
    assert "\x1b[" not in done.out
    data = json.loads(report.read_text())
    assert (data["format"], data["version"]) == ("hseval-report", 2)
    assert {field.name for field in dataclasses.fields(Score)} == set(data["scores"][0])
    assert data["provenance"]["sets"]["samples"]["content"]
    assert data["provenance"]["command"][1] == "score"


def test_the_default_report_fits_a_terminal(folder: Path) -> None:
    command = [sys.executable, "-m", "hseval", "score", folder / "samples.h5", "--ref", folder / "real.h5"]
    done = run_on_terminal([*command, "--train", folder / "train.h5"])
    lines = strip_styles(done.out[done.out.index("These samples") :]).splitlines()
    assert done.status == 0
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 80


def test_what_is_behind_the_scores_is_printed_on_request(hseval: Run, folder: Path, tmp_path: Path) -> None:
    sets = ("score", folder / "samples.h5", "--ref", folder / "real.h5", "--metrics", "spectral-kl")
    report = tmp_path / "r.json"
    short, long = hseval(*sets, "--json", report), hseval(*sets, "--details")
    assert "95 % interval" not in short.out
    for text in ("95 % interval", "spectral-kl by structure", "smallest detectable difference"):
        assert text in long.out
    assert (hseval("show", report).out, hseval("show", report, "--details").out) == (short.out, long.out)


def test_quiet_prints_the_summary_alone(folder: Path) -> None:
    sets = ("score", folder / "samples.h5", "--ref", folder / "real.h5", "--metrics", "spectral-kl", "--no-cache")
    done = run_on_terminal([sys.executable, "-m", "hseval", *sets, "-q"])
    assert done.out == "These samples are not significantly different from real cubes in spectral-kl.\n"


def test_metrics_may_be_repeated_and_separated_by_commas(hseval: Run, folder: Path) -> None:
    sets = ("score", folder / "samples.h5", "--ref", folder / "real.h5", "--json", "-")
    done = hseval(*sets, "--metrics", "spectral-kl,spectral-angle", "--metrics", "band-covariance")
    names = [score["name"] for score in json.loads(done.out)["scores"]]
    assert names == ["spectral-kl", "spectral-angle", "band-covariance"]


def test_a_report_of_version_1_is_refused_in_one_line(hseval: Run, tmp_path: Path) -> None:
    old, other = tmp_path / "old.json", tmp_path / "other.json"
    for path in (old, other):
        path.write_text('{"format": "hseval-report", "version": 1, "scores": [], "notes": [], "provenance": {}}')
    for words in (("show", old), ("show", old, "--html", tmp_path / "old.html"), ("diff", old, other)):
        done = hseval(*words)
        assert (done.status, done.out) == (2, "")
        assert done.err.startswith(f"hseval: {old}: ")
        assert "version 1" in done.err
        assert "score again" in done.err
        assert len(done.err.splitlines()) == 1
    assert set(tmp_path.iterdir()) == {old, other}


def test_a_missing_input_by_default_is_status_0_and_by_name_1(hseval: Run, folder: Path) -> None:
    sets = ("score", folder / "samples.h5", "--ref", folder / "real.h5")
    by_default = hseval(*sets)
    assert by_default.status == 0
    assert "not computed: needs --train" in by_default.out
    assert hseval(*sets, "--metrics", "authenticity").status == 1


def test_too_few_cubes_is_status_1_by_name_and_the_report_is_still_saved(
    hseval: Run, folder: Path, tmp_path: Path
) -> None:
    one = save_set(tmp_path / "one.h5", make_texture_set(1, size=24))
    done = hseval("score", one, "--ref", folder / "real.h5", "--metrics", "fid", "--json", tmp_path / "r.json")
    assert done.status == 1
    assert json.loads((tmp_path / "r.json").read_text())["scores"][0]["value"] is None


def make_bad_inputs(folder: Path, tmp: Path) -> dict[str, tuple[list[Any], str]]:
    """Return name -> (arguments after ``score``, text that the error line has to contain)."""
    good, ref = folder / "samples.h5", ["--ref", folder / "real.h5"]
    cubes = make_texture_set(8, size=24)
    (tmp / "empty").mkdir()
    truncated = tmp / "truncated.h5"
    truncated.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    np.save(tmp / "flat.npy", np.zeros((24, 24), dtype=np.float32))
    np.save(tmp / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(tmp / "ambiguous.npy", np.zeros((24, 24, 24), dtype=np.float32))
    with h5py.File(tmp / "linked.h5", "w") as file:
        file["cubes"] = h5py.ExternalLink(str(good), "cubes")
    save_set(tmp / "nan.h5", cubes, cubes=np.full_like(cubes.cubes, np.nan))
    save_set(tmp / "bands.h5", cubes, cubes=cubes.cubes[:, :4], wavelengths=cubes.wavelengths[:4])
    save_set(tmp / "shifted.h5", cubes, wavelengths=cubes.wavelengths + 3)
    save_set(tmp / "counts.h5", cubes, cubes=cubes.cubes * 4096)
    with h5py.File(save_set(tmp / "mask.h5", cubes), "a") as file:
        del file["masks/bright"]
        file["masks/bright"] = np.zeros((8, 20, 20), dtype=np.uint8)
    return {
        "missing path": ([folder / "no.h5", *ref], "no.h5"),
        "missing reference": ([good, "--ref", folder / "no.h5"], "no.h5"),
        "empty folder": ([tmp / "empty", *ref], "empty"),
        "truncated": ([truncated, *ref], "truncated.h5"),
        "2D": ([tmp / "flat.npy", *ref], "flat.npy"),
        "pickled": ([tmp / "objects.npy", *ref], "objects.npy"),
        "ambiguous": ([tmp / "ambiguous.npy", *ref], "--layout"),
        "external link": ([tmp / "linked.h5", *ref], "linked.h5"),
        "all NaN": ([tmp / "nan.h5", *ref], "none of its 8 cubes has a valid pixel"),
        "other bands": ([tmp / "bands.h5", *ref], "4 bands"),
        "other wavelengths": ([tmp / "shifted.h5", *ref], "--resample"),
        "other scale": ([tmp / "counts.h5", *ref], "another unit or scale"),
        "mask shape": ([tmp / "mask.h5", *ref], "bright"),
        "metric": ([good, *ref, "--metrics", "fidd"], "did you mean 'fid'"),
        "extractor": ([good, *ref, "--extractor", "scatering"], "did you mean 'scattering'"),
        "option": ([good, *ref, "--set", "fid.extractr=x"], "did you mean 'extractor'"),
        "option value": ([good, *ref, "--set", "spectral-kl.bins=many"], "'many' is not of type int"),
        "option owner": ([good, *ref, "--set", "fidd.extractor=x"], "did you mean 'fid'"),
        "device": ([good, *ref, "--device", "tpu"], "--device tpu"),
        "output": ([good, *ref, "--json", tmp / "no" / "r.json"], "does not exist"),
        "config": ([good, *ref, "--config", tmp / "no.toml"], "no.toml"),
        "weights": ([good, *ref, "--extractor", "torchvision"], "weights"),
    }


NAMES = [
    "missing path", "missing reference", "empty folder", "truncated", "2D", "pickled", "ambiguous", "external link",
    "all NaN", "other bands", "other wavelengths", "other scale", "mask shape", "metric", "extractor", "option",
    "option value", "option owner", "device", "output", "config", "weights",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_bad_input_is_status_2_and_one_line_that_helps(hseval: Run, folder: Path, tmp_path: Path, name: str) -> None:
    arguments, message = make_bad_inputs(folder, tmp_path)[name]
    before = sorted(tmp_path.rglob("*"))
    done = hseval("score", *arguments)
    assert done.status == 2, done.out + done.err
    assert message in done.err
    assert done.err.strip().count("\n") == 0, done.err
    assert "Traceback" not in done.err
    assert done.out == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_ctrl_c_keeps_the_finished_features_and_leaves_no_partial_file(tmp_path: Path) -> None:
    samples = save_set(tmp_path / "samples.h5", make_texture_set(400, size=64, bands=8, seed=1))
    ref = save_set(tmp_path / "ref.h5", make_texture_set(16, size=64, bands=8, seed=2))
    command = [sys.executable, "-m", "hseval", "score", samples, "--ref", ref, "--metrics", "fid", "--workers", "0",
               "--json", tmp_path / "report.json"]  # fmt: skip
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy()
    )
    database = get_cache_path()
    deadline = time.monotonic() + 120
    while count_rows(database) < 24 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.strip() == "hseval: interrupted: no partial file was left behind"
    assert count_rows(database) >= 24
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ref.h5", "samples.h5"]


def count_rows(database: Path) -> int:
    import sqlite3

    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            return int(connection.execute("select count(*) from rows").fetchone()[0])
    except sqlite3.Error:
        return 0


def test_two_ranks_give_the_same_scores_as_one_process(folder: Path, tmp_path: Path) -> None:
    sets = ["score", folder / "samples.h5", "--ref", folder / "real.h5", "--train", folder / "train.h5", "--no-cache"]
    single = run_hseval_process(*sets, "--json", tmp_path / "one.json")
    assert single.returncode == 0, single.stderr
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "hseval", *map(str, sets), "--json", str(tmp_path / "two.json")]
    ranks = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ranks.returncode == 0, ranks.stderr
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    assert one["notes"] == two["notes"]
    for a, b in zip(one["scores"], two["scores"], strict=True):
        assert (a["value"], a["floor"]) == pytest.approx((b["value"], b["floor"]), rel=1e-5)
    assert ranks.stdout.count("verdict") == 1


def test_a_reader_that_closes_the_pipe_early_is_no_error(folder: Path) -> None:
    command = f"{sys.executable} -m hseval plugins | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_no_worker_outlives_a_score_that_is_ended(tmp_path: Path, number: signal.Signals) -> None:
    samples = save_set(tmp_path / "samples.h5", make_texture_set(600, size=64, bands=8, seed=1))
    command = [sys.executable, "-m", "hseval", "score", samples, "--ref", samples, "--workers", "2"]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(workers := list_children(process.pid)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(workers) >= 2
    process.send_signal(number)
    # Workers hold the pipe, too: its end means that all of them are gone.
    process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGTERM else -signal.SIGKILL)


def list_children(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []


@pytest.mark.parametrize("command", [("plugins",), ("cache", "info"), ("--version",)], ids=" ".join)
def test_a_full_disk_behind_stdout_is_one_line(command: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "hseval", *command], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
            check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "hseval: the output: No space left on device\n"


def test_usage_errors_are_one_line(hseval: Run) -> None:
    done = hseval("score", "samples.h5")
    assert done.status == 2
    assert done.err == "hseval: Missing option '--ref'. (see hseval score --help)\n"


def test_json_to_stdout_replaces_the_tables(hseval: Run, folder: Path) -> None:
    done = hseval("score", folder / "samples.h5", "--ref", folder / "real.h5", "--metrics", "fid", "--json", "-")
    assert json.loads(done.out)["format"] == "hseval-report"


def test_an_input_is_never_overwritten(hseval: Run, folder: Path) -> None:
    samples = folder / "samples.h5"
    before = samples.read_bytes()
    done = hseval("score", samples, "--ref", folder / "real.h5", "--json", samples)
    assert done.status == 2
    assert "is an input of this command" in done.err
    assert samples.read_bytes() == before


def test_a_closed_pipe_does_not_prevent_the_json_file(folder: Path, tmp_path: Path) -> None:
    command = (
        f"{sys.executable} -m hseval score {folder / 'samples.h5'} --ref {folder / 'real.h5'} --metrics fid "
        f"--json {tmp_path / 'r.json'} | true"
    )
    subprocess.run(command, shell=True, check=False, timeout=120)
    assert json.loads((tmp_path / "r.json").read_text())["format"] == "hseval-report"


def test_a_terminal_that_lacks_characters_still_gets_the_table(folder: Path) -> None:
    done = run_hseval_process(
        "score", folder / "samples.h5", "--ref", folder / "real.h5", "--metrics", "spectral-kl",
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "spectral-kl" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--metrics", "spectral-kl", "--set", "ms-ssim.pairz=3"), "did you mean 'pairs'"),
        (("--metrics", "spectral-kl", "--extractor", "scattering"), "none of the requested metrics uses"),
        (("--device", "nope"), "hseval: --device nope: not the name of a device; use cpu"),
        (("--device", "meta"), "hseval: --device meta: torch can't compute on it here; use cpu"),
        (("--device", "cuda:99"), "hseval: --device cuda:99: torch finds "),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    hseval: Run, folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = hseval("score", folder / "samples.h5", "--ref", folder / "real.h5", *arguments)
    assert done.status == 2
    assert message in done.err
