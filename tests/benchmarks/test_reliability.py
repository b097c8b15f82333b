"""The drivers of benchmarks/reliability see faults of every kind, and find none in a short run."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.reliability import page
from benchmarks.reliability.attempts import Attempt
from benchmarks.reliability.disturbances import Disturbance, Left, Scene, kill, run_limited
from benchmarks.reliability.faults import FaultResult, find_right_results, try_fault
from benchmarks.reliability.inputs import KindResult, make_valid_inputs, run_kind
from benchmarks.reliability.jobs import JOBS
from benchmarks.reliability.kinds import KINDS, InputKind
from benchmarks.reliability.processes import refuse_locks
from tests.helpers.commands import Outcome

SEED = 13
# The other kinds have tests of their own: tests/cli, tests/readers.
COUNTS = {"cache": 8, "outcomes": 4, "parts": 20, "wavelengths": 40, "sweep": 4}


@pytest.mark.parametrize("name", COUNTS)
def test_damaged_inputs_are_refused_or_read_rightly(name: str) -> None:
    with make_valid_inputs([name]) as valid:
        result = run_kind(name, valid[name], seed=SEED, numbers=range(COUNTS[name]))
    assert result.to_record()["faults"] == []
    assert len(result.attempts) == COUNTS[name]


def _run_planted(monkeypatch: pytest.MonkeyPatch, attempt: Callable[..., Attempt]) -> KindResult:
    monkeypatch.setitem(KINDS, "planted", InputKind("planted", lambda _: None, attempt))  # type: ignore[arg-type]
    return run_kind("planted", None, seed=SEED, numbers=range(3), timeout_s=5)


def _fail() -> None:
    raise ValueError("planted")


FAULTS: dict[str, Callable[[], Any]] = {
    "traceback": _fail,
    "hang": lambda: time.sleep(60),
    "crash": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "memory": lambda: np.ones(3 << 30, dtype=np.uint8),
}


@pytest.mark.parametrize("result", FAULTS)
def test_a_fault_is_seen_and_the_next_input_is_tried(result: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def attempt(_: None, folder: Path, rng: np.random.Generator) -> Attempt:
        if folder.name == "1":
            FAULTS[result]()
        return Attempt("", "read")

    assert [one.result for one in _run_planted(monkeypatch, attempt).attempts] == ["read", result, "read"]


def test_memory_is_measured_above_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    def attempt(_: None, folder: Path, rng: np.random.Generator) -> Attempt:
        return Attempt("", "read", str(np.ones(200 << 20, dtype=np.uint8)[-1]))

    assert 200 << 20 <= _run_planted(monkeypatch, attempt).peak_bytes < 300 << 20


def _try(name: str, right: tuple[Any, float], disturb: Callable[[Scene], Left]) -> FaultResult:
    return try_fault(Disturbance("planted", disturb), name, right, np.random.default_rng(SEED))


def test_samples_are_the_same_after_a_kill_and_without_file_locks() -> None:
    right = find_right_results(["sample"])["sample"]
    killed = _try("sample", right, partial(kill, number=signal.SIGKILL))
    assert (killed.problem, killed.hit, killed.status) == ("", True, -signal.SIGKILL)
    assert _try("sample", right, partial(run_limited, prepare=refuse_locks, statuses=(0,))).problem == ""


def test_faults_of_a_disturbed_command_are_seen() -> None:
    def disturb(scene: Scene) -> Left:
        scene.place.run(("train", "pca", "other.h5", "--out", "pca", "-q"))
        (scene.place.folder / "pca" / ".x.part").write_text("")
        return Left(Outcome(0, "", "warning: leaked"))

    problem = _try("train pca", find_right_results(["train pca"])["train pca"], disturb).problem
    for expected in ("untidy: 'warning: leaked'", "wrong number", "left behind: pca/.x.part"):
        assert expected in problem


def test_every_kind_and_job_is_on_the_page() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    for kind in KINDS.values():
        assert f"| {kind.title} |" in text
    for job in JOBS:
        assert f"`{job}`" in text


def test_the_page_has_the_numbers_of_the_records() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.fill_tables(text) == text
    for name in page.FORMATS:
        record = json.loads((page.RESULTS / "reliability" / f"{name}.json").read_text(encoding="utf-8"))
        assert record["machine"]["versions"]["hseval"]
        assert f"seed {record['seed']}" in text


def test_the_recorded_runs_found_no_fault() -> None:
    inputs, faults = (
        json.loads((page.RESULTS / "reliability" / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("inputs", "faults")
    )
    assert all(kind["inputs"] >= 500 and not kind["faults"] for kind in inputs["kinds"].values())
    assert len(faults["faults"]) >= 60
    assert not any(fault["problem"] for fault in faults["faults"])
