"""Odd values: stderr has only hseval's own lines, and numbers are right, or absent with a reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hseval.core.cubes import ArraySet
from tests.helpers.commands import run_hseval_process
from tests.helpers.sets import make_texture_set, replace_parts, save_set


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a reference, and with samples of odd values."""
    folder = tmp_path_factory.mktemp("odd")
    sets = [make_texture_set(12, size=16, bands=4, seed=seed) for seed in range(2)]
    save_set(folder / "real.h5", sets[1])
    save_set(folder / "odd.h5", add_odd_values(sets[0]))
    save_set(folder / "zero.h5", replace_parts(sets[0], cubes=np.zeros_like(sets[0].cubes)))
    return folder


def add_odd_values(base: ArraySet) -> ArraySet:
    """Return a set whose first eight cubes are odd: not finite, constant, huge or tiny."""
    cubes = base.cubes.copy()
    cubes[0], cubes[1], cubes[2, 1] = np.nan, 0, np.nan
    cubes[3, :, 8, 8], cubes[4], cubes[5], cubes[6], cubes[7] = np.inf, np.inf, 1e30, 1e38, 1e-42
    return replace_parts(base, cubes=cubes)


@pytest.mark.parametrize("options", ["--metrics all --quick --workers 0", "--metrics spectral-kl --workers 1"])
def test_cubes_of_odd_values_raise_no_warnings(folder: Path, options: str) -> None:
    report = folder / "report.json"
    arguments = ["--segmenter", "none", "--json", report, "-q", *options.split()]
    done = run_hseval_process("score", folder / "odd.h5", "--ref", folder / "real.h5", *arguments)
    assert (done.returncode in (0, 1), done.stderr) == (True, "")  # 1: no value of a metric that was asked for
    scores = {score["name"]: score for score in json.loads(report.read_text())["scores"]}
    assert scores["spectral-kl"]["value"] > 0
    assert "fid" not in scores or "returns features that are not finite" in scores["fid"]["verdict"]
    for score in scores.values():
        assert score["value"] is not None or score["verdict"].startswith("not computed: ")


@pytest.mark.parametrize("name", ["odd", "zero"])
def test_info_and_preview_of_odd_values_print_no_warnings(folder: Path, name: str) -> None:
    for command in (["info"], ["preview", "--out", folder / "out.png"]):
        done = run_hseval_process(command[0], folder / f"{name}.h5", *command[1:], "-q")
        assert (done.returncode, done.stderr) == (0, "")


def test_odd_values_raise_no_warnings_in_qualify(folder: Path) -> None:
    save_set(folder / "twenty.h5", add_odd_values(make_texture_set(20, size=16, bands=4)))
    options = ["--metrics", "spectral-kl,band-covariance", "--degradations", "blur,gain", "--workers", 0, "-q"]
    done = run_hseval_process("qualify", folder / "twenty.h5", *options)
    assert (done.returncode, done.stderr) == (0, "")


def test_sets_of_zeros_are_scored_or_not_computed_with_a_reason(folder: Path) -> None:
    report = folder / "zeros.json"
    options = ["--metrics", "fid,spectral-kl,band-covariance", "--segmenter", "none", "--json", report, "-q"]
    done = run_hseval_process("score", folder / "zero.h5", "--ref", folder / "zero.h5", *options)
    assert done.stderr == ""
    scores = {score["name"]: score for score in json.loads(report.read_text())["scores"]}
    assert (scores["spectral-kl"]["value"], scores["band-covariance"]["value"]) == (0, 0)
    assert scores["fid"]["verdict"] == "not computed: the reference's features do not vary: are its cubes all the same?"
