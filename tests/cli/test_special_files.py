"""Pipes, devices and sockets in place of files: refused in one line, never waited for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.commands import Outcome, assert_refused
from tests.helpers.sets import make_texture_set, save_set


@pytest.fixture(autouse=True)
def limited_time() -> Iterator[None]:
    """Fail a test that waits for a pipe."""

    def fail(*_: Any) -> None:
        raise TimeoutError("a command waits for a pipe")

    signal.signal(signal.SIGALRM, fail)
    signal.alarm(30)
    yield
    signal.alarm(0)


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of three cubes."""
    path = tmp_path / "set"
    path.mkdir()
    for name in "abc":
        np.save(path / f"{name}.npy", np.random.default_rng(1).random((3, 8, 6), dtype=np.float32))
    return path


@pytest.mark.parametrize("suffix", ["", ".h5", ".npy", ".npz", ".mat", ".hdr", ".tif"])
def test_a_pipe_as_a_set(hseval: Callable[..., Outcome], tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"pipe{suffix}"
    os.mkfifo(path)
    assert_refused(hseval("info", path), f"{path}: is a pipe; a regular file expected")


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/tty"])
def test_a_device_as_a_set(hseval: Callable[..., Outcome], device: str) -> None:
    assert_refused(hseval("score", device, "--ref", device), f"{device}: is a device; a regular file expected")


@pytest.mark.parametrize(
    "command",
    [
        "show {pipe}",
        "show /dev/zero",
        "diff {pipe} {pipe}",
        "qualify --load {pipe}",
        "pareto {pipe}",
        "sweep {pipe} --list",
        "info {set} --wavelengths {pipe}",
        "score {set} --ref {set} --config {pipe}",
        "score {set} --ref {set} --metrics fid --extractor encoder --set encoder.weights={pipe}",
        "sample pca --checkpoint {checkpoint} -n 1 --out {out}",
        "sample ldm --checkpoint {checkpoint} -n 1 --out {out}",
    ],
)
def test_a_pipe_as_any_other_file(
    hseval: Callable[..., Outcome], tmp_path: Path, pipe: Path, folder: Path, command: str
) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    for name in ("pca.safetensors", "config.json"):
        os.mkfifo(checkpoint / name)
    real = save_set(tmp_path / "real.h5", make_texture_set(4, size=8, bands=3))
    paths = {"pipe": pipe, "set": real, "out": tmp_path / "out.h5", "checkpoint": checkpoint}
    assert_refused(hseval(*command.format(**paths).split()))
    assert not paths["out"].exists()


@pytest.mark.parametrize("name", ["wavelengths.txt", "cubes.csv"])
def test_a_pipe_beside_the_cubes(hseval: Callable[..., Outcome], folder: Path, name: str) -> None:
    os.mkfifo(folder / name)
    assert_refused(hseval("info", folder), f"{folder / name}: is a pipe; a regular file expected")


def test_pipes_among_cubes_and_masks_are_left_out_with_a_note(hseval: Callable[..., Outcome], folder: Path) -> None:
    os.mkfifo(folder / "d.npy")
    (folder / "masks" / "artery").mkdir(parents=True)
    os.mkfifo(folder / "masks" / "artery" / "a.png")
    done = hseval("info", folder)
    assert done.status == 0 and done.err == ""
    assert "cubes        3" in done.out
    assert "note         1 cube left out: d.npy (a pipe)" in done.out
    assert "note         masks left out: masks/artery/a.png (a pipe)" in done.out


def test_a_process_substitution_is_refused_in_one_line() -> None:
    command = f"{sys.executable} -m hseval show <(echo '{{}}')"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert_refused(Outcome(done.returncode, done.stdout, done.stderr), "is a pipe; a regular file expected")
