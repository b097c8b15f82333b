"""Sweeps whose process is killed, whose disk is full, whose journal is damaged; and several workers at one folder."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hseval.sweep.config import read_plan
from hseval.sweep.queue import RunQueue
from hseval.sweep.sweep import run_sweep
from tests.helpers.commands import Outcome, hseval_process
from tests.helpers.sets import saved, texture_set
from tests.helpers.sweeps import Staged, grid, installed, plan, sets

Command = Callable[..., Outcome]
FOUR = grid("pca", variance=[0.5, 0.7, 0.9, 0.99])


@pytest.fixture(autouse=True)
def staged(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install the third party's generator in this process; others have ``pca``."""
    with installed(monkeypatch):
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    sets(tmp_path)
    return tmp_path


def scores(out: Path) -> dict[str, Any]:
    """Return all that a sweep found but how long it took."""
    found = json.loads((out / "results.json").read_text())
    return {row["label"]: (row["scores"], row["error"]) for row in found["rows"]}


def marks(out: Path) -> dict[str, int]:
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in out.glob("*/*/done.json")}


def killed(file: Path, out: Path, when: Callable[[], bool]) -> None:
    """Start a sweep in a process of its own and end it by SIGKILL as soon as it has come that far."""
    typed = [sys.executable, "-m", "hseval", "sweep", str(file), "--out", str(out)]
    process = subprocess.Popen(typed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not when():
        assert process.poll() is None, "the sweep ended before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_killed_at_any_time_it_goes_on_and_ends_with_the_same_scores(folder: Path, hseval: Command) -> None:
    file, out = plan(folder, FOUR), folder / "out"
    killed(file, out, lambda: any(out.glob("runs/*/.samples.h5.parts/*")) or any(out.glob("runs/*/samples.h5")))
    killed(file, out, lambda: len(list(out.glob("runs/*/done.json"))) >= 2)
    before = marks(out)
    assert 2 <= sum(name.startswith("runs") for name in before) < 4
    done = hseval("sweep", file, "--out", out)
    assert done.status == 0 and "4 of 4 runs done" in done.out
    assert {name: stamp for name, stamp in marks(out).items() if name in before} == before  # nothing was done again
    assert hseval("sweep", file, "--out", folder / "whole").status == 0
    assert scores(out) == scores(folder / "whole")


def test_a_journal_cut_off_in_a_line_is_gone_on_with(folder: Path, hseval: Command) -> None:
    file, out = plan(folder, grid(c=[0.0, 0.1])), folder / "s.sweep"
    assert hseval("sweep", file).status == 0
    journal = out / "journal.log"
    journal.write_bytes(journal.read_bytes() + b'{"op_code": 4, "wor')
    assert hseval("sweep", plan(folder, grid(c=[0.0, 0.1, 0.2]))).status == 0
    assert len(scores(out)) == 3
    journal.write_text("no journal\nat all\n")
    broken = hseval("sweep", file)
    assert broken.status == 2 and "journal.log: can't be read as Optuna's journal" in broken.err
    journal.unlink()
    Staged.calls.clear()
    assert hseval("sweep", file).status == 0 and Staged.calls == []


def test_a_full_disk_ends_the_sweep_and_counts_for_no_failure(folder: Path, hseval: Command) -> None:
    Staged.fails["fit", 0.1] = OSError(errno.ENOSPC, "No space left on device")
    file = plan(folder, grid(c=[0.0, 0.1, 0.2]))
    full = hseval("sweep", file)
    assert full.status == 2 and "the disk is full" in full.err and "the same command goes on" in full.err
    done = marks(folder / "s.sweep")
    assert sum(name.startswith("runs") for name in done) == 1
    Staged.fails.clear()
    assert hseval("sweep", file).status == 0
    assert marks(folder / "s.sweep").items() >= done.items()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Return what mounts a file system of a given size, or gives the mounted one another size."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def sized(size: str) -> Path:
        again = ["-o", f"remount,size={size}"] if os.path.ismount(disk) else ["-t", "tmpfs", "-o", f"size={size}"]
        source = [] if os.path.ismount(disk) else ["tmpfs"]
        made = subprocess.run(["mount", *again, *source, str(disk)], check=False, capture_output=True)
        if made.returncode:
            pytest.skip("no file system can be mounted here")
        return disk

    with contextlib.suppress(FileNotFoundError):
        yield sized
    if os.path.ismount(disk):
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_disk_that_is_really_full(folder: Path, hseval: Command, small_disk: Callable[[str], Path]) -> None:
    out = small_disk("1500k") / "out"  # room for two runs or three, and for no fourth
    saved(folder / "ref.h5", texture_set(24, size=16, bands=3, seed=2))
    file = plan(folder, grid(c=[0.0, 0.1, 0.2, 0.3]))
    full = hseval("sweep", file, "--out", out)
    assert full.status == 2 and len(full.err.strip().splitlines()[-1]) > 0
    assert "No space left" in full.err or "disk is full" in full.err
    done = marks(out)
    assert 1 <= sum(name.startswith("runs") for name in done) < 4
    small_disk("8m")
    whole = hseval("sweep", file, "--out", out)
    assert whole.status == 0, whole.err
    assert marks(out).items() >= done.items()
    assert hseval("sweep", file, "--out", folder / "elsewhere").status == 0
    assert scores(out) == scores(folder / "elsewhere")


def test_a_run_that_another_process_is_at_is_left_to_it(folder: Path) -> None:
    busy = {"b"}
    queue = RunQueue(folder)
    queue.put(["a", "b"], is_in_use=busy.__contains__)
    assert [queue.take()[1] for _ in range(2)] == ["a", "b"]  # type: ignore[index]
    assert queue.take() is None
    queue._study.ask()  # what a worker does that finds the last run taken, and it is killed at that moment
    again = RunQueue(folder)  # "a" was taken by a process that is dead by now
    again.put(["a", "b"], is_in_use=busy.__contains__)
    assert again.take()[1] == "a"  # type: ignore[index]
    assert again.take() is None


def test_without_optuna_the_extra_is_named(folder: Path) -> None:
    blocked = folder / "blocked" / "optuna"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise ImportError('no optuna')")
    environment = {**os.environ, "PYTHONPATH": str(blocked.parent)}
    done = hseval_process("sweep", plan(folder, FOUR), env=environment)
    assert done.returncode == 2 and done.stderr == "hseval: hseval sweep needs optuna: pip install 'hseval[sweep]'\n"


@pytest.mark.parametrize(("slurm", "told"), [("partition", "expected key=value"), ("slurm_partition=gpu", "srun")])
def test_parameters_of_slurm_that_can_not_be_are_refused(folder: Path, hseval: Command, slurm: str, told: str) -> None:
    done = hseval("sweep", plan(folder, FOUR), "--slurm", slurm)
    assert done.status == 2 and told in done.err and "--slurm" in done.err


def begun(logs: Iterable[Path]) -> list[str]:
    """Return the runs that jobs have scored or are about to score, one line for each time."""
    texts = [path.read_text() for path in logs]
    return sorted(line for text in texts for line in text.splitlines() if line.endswith(": scoring"))


def kill_a_worker(out: Path) -> None:
    """Kill the first worker that has begun to score: a child of the process by whose number submitit names the job."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for log in out.glob("jobs/*_0_log.out"):
            if ": scoring" in log.read_text():
                job = log.name.split("_")[0]
                for worker in Path(f"/proc/{job}/task/{job}/children").read_text().split():
                    os.kill(int(worker), signal.SIGKILL)
                return
        time.sleep(0.002)


def test_a_job_that_is_killed_costs_its_run_alone(folder: Path) -> None:
    swept, told = read_plan(plan(folder, FOUR)), list[str]()
    killer = threading.Thread(target=kill_a_worker, args=(swept.out,))
    killer.start()
    results = run_sweep(swept, on_message=told.append, jobs=2)
    killer.join()
    runs = sorted(f"{row.label}: scoring" for row in results.rows)
    assert any("ended early" in line for line in told)
    assert begun((swept.out / "jobs").glob("*_log.out")) == runs  # the jobs began each run once
    assert len([line for line in told if line in runs]) == 1  # and what the killed one had at hand was done at the end
    assert all(row.scores and row.timing for row in results.rows)


SBATCH = """#!/bin/bash
# Runs the tasks of an array at once, as a cluster would, and answers as sbatch does.
script="${@: -1}"
cp "$script" "$PLAYED/submitted.sh"
for task in 0 1; do
  SLURM_JOB_ID=77$task SLURM_ARRAY_JOB_ID=77 SLURM_ARRAY_TASK_ID=$task SLURM_NTASKS=1 SLURM_LOCALID=0 SLURM_NODEID=0 \\
  SLURM_PROCID=0 SLURM_JOB_NUM_NODES=1 SLURM_JOB_NODELIST=node bash "$script" > "$PLAYED/$task.log" 2>&1 &
done
echo "Submitted batch job 77"
"""
SRUN = """#!/bin/bash
while [[ "$1" == -* ]]; do case "$1" in --output|--error) shift 2;; *) shift;; esac; done
exec "$@"
"""


def test_under_slurm_jobs_are_submitted_with_their_parameters(
    folder: Path, hseval: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = folder / "bin"
    played.mkdir()
    answers = {"sbatch": SBATCH, "srun": SRUN, "sacct": "#!/bin/bash\necho 'JobID|State|NodeList'\n"}
    for name, text in answers.items():
        (played / name).write_text(text)
        (played / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{played}:{os.environ['PATH']}")
    monkeypatch.setenv("PLAYED", str(played))
    parameters = "slurm_partition=gpu,gpus_per_node=1,timeout_min=90"
    done = hseval("sweep", plan(folder, FOUR), "--jobs", 2, "--slurm", parameters)
    assert done.status == 0, done.err + "".join(log.read_text() for log in played.glob("*.log"))
    asked = (played / "submitted.sh").read_text()
    assert {"#SBATCH --partition=gpu", "#SBATCH --gpus-per-node=1", "#SBATCH --time=90"} <= set(asked.splitlines())
    assert "4 of 4 runs done" in done.out
    assert len(begun(played.glob("*.log"))) == len(set(begun(played.glob("*.log")))) == 4
    assert all(row["timing"] for row in json.loads((folder / "s.sweep" / "results.json").read_text())["rows"])
