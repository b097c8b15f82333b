"""Sweeps with a killed process, a full disk or a damaged journal; and several workers in one folder."""

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
from tests.helpers.commands import Command, run_hseval_process
from tests.helpers.sets import make_texture_set, save_set
from tests.helpers.sweeps import StagedGenerator, format_grid, write_plan

FOUR = format_grid("pca", variance=[0.5, 0.7, 0.9, 0.99])


def load_scores(out: Path) -> dict[str, Any]:
    """Return the scores and errors of a sweep, without timings."""
    results = json.loads((out / "results.json").read_text())
    return {row["label"]: (row["scores"], row["error"]) for row in results["rows"]}


def read_mtimes(out: Path) -> dict[str, int]:
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in out.glob("*/*/done.json")}


def kill_sweep_when(file: Path, out: Path, condition: Callable[[], bool]) -> None:
    """Start a sweep in a process of its own and end it by SIGKILL as soon as a condition holds."""
    command = [sys.executable, "-m", "hseval", "sweep", str(file), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, "the sweep ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_killed_sweep_resumes_and_gives_the_same_scores(folder: Path, hseval: Command) -> None:
    file, out = write_plan(folder, FOUR), folder / "out"
    kill_sweep_when(
        file, out, lambda: any(out.glob("runs/*/.samples.h5.parts/*")) or any(out.glob("runs/*/samples.h5"))
    )
    kill_sweep_when(file, out, lambda: len(list(out.glob("runs/*/done.json"))) >= 2)
    mtimes = read_mtimes(out)
    assert 2 <= sum(name.startswith("runs") for name in mtimes) < 4
    result = hseval("sweep", file, "--out", out)
    assert result.status == 0 and "4 of 4 runs done" in result.out
    assert read_mtimes(out).items() >= mtimes.items()  # no step was repeated
    assert hseval("sweep", file, "--out", folder / "whole").status == 0
    assert load_scores(out) == load_scores(folder / "whole")


def test_a_sweep_resumes_with_a_partial_line_in_its_journal(folder: Path, hseval: Command) -> None:
    file, out = write_plan(folder, format_grid(c=[0.0, 0.1])), folder / "s.sweep"
    assert hseval("sweep", file).status == 0
    journal = out / "journal.log"
    journal.write_bytes(journal.read_bytes() + b'{"op_code": 4, "wor')
    assert hseval("sweep", write_plan(folder, format_grid(c=[0.0, 0.1, 0.2]))).status == 0
    assert len(load_scores(out)) == 3
    journal.write_text("no journal\nat all\n")
    broken = hseval("sweep", file)
    assert broken.status == 2 and "journal.log: can't be read as Optuna's journal" in broken.err
    journal.unlink()
    StagedGenerator.calls.clear()
    assert hseval("sweep", file).status == 0 and StagedGenerator.calls == []


@pytest.mark.parametrize("text", ["", "[]", '{"scores_key": 3, "seconds": -1}', "[" * 100_000, "\xff"])
def test_damaged_records_are_listed_as_waiting_and_made_again(folder: Path, hseval: Command, text: str) -> None:
    file, out = write_plan(folder, format_grid(c=[0.1])), folder / "s.sweep"
    assert hseval("sweep", file).status == 0
    for name in ("done.json", "timing.json"):
        (record,) = out.glob(f"runs/*/{name}")
        record.write_text(text, encoding="latin-1")
    (out / "data.json").write_text(text, encoding="latin-1")
    listed = hseval("sweep", file, "--list")
    assert listed.status == 0 and "0 of 1 runs done, 0 failed, 1 waiting" in listed.out
    StagedGenerator.calls.clear()
    assert "1 of 1 runs done" in hseval("sweep", file).out
    assert [call[0] for call in StagedGenerator.calls] == ["sample"] * len(StagedGenerator.calls)


def test_a_full_disk_ends_the_sweep_and_is_not_recorded_as_a_failure(folder: Path, hseval: Command) -> None:
    StagedGenerator.fails["fit", 0.1] = OSError(errno.ENOSPC, "No space left on device")
    file = write_plan(folder, format_grid(c=[0.0, 0.1, 0.2]))
    full = hseval("sweep", file)
    assert full.status == 2 and "the disk is full" in full.err and "run the same command again" in full.err
    mtimes = read_mtimes(folder / "s.sweep")
    assert sum(name.startswith("runs") for name in mtimes) == 1
    StagedGenerator.fails.clear()
    assert hseval("sweep", file).status == 0
    assert read_mtimes(folder / "s.sweep").items() >= mtimes.items()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Return a function that mounts a file system of a given size, or resizes the mounted one."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(size: str) -> Path:
        options = ["-o", f"remount,size={size}"] if os.path.ismount(disk) else ["-t", "tmpfs", "-o", f"size={size}"]
        source = [] if os.path.ismount(disk) else ["tmpfs"]
        process = subprocess.run(["mount", *options, *source, str(disk)], check=False, capture_output=True)
        if process.returncode:
            pytest.skip("no file system can be mounted here")
        return disk

    with contextlib.suppress(FileNotFoundError):
        yield mount
    if os.path.ismount(disk):
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_sweep_on_a_full_disk_resumes_after_space_is_freed(
    folder: Path, hseval: Command, small_disk: Callable[[str], Path]
) -> None:
    out = small_disk("1500k") / "out"  # space for two or three runs, but not for four
    save_set(folder / "ref.h5", make_texture_set(24, size=16, bands=3, seed=2))
    file = write_plan(folder, format_grid(c=[0.0, 0.1, 0.2, 0.3]))
    full = hseval("sweep", file, "--out", out)
    assert full.status == 2 and len(full.err.strip().splitlines()[-1]) > 0
    assert "No space left" in full.err or "disk is full" in full.err
    mtimes = read_mtimes(out)
    assert 1 <= sum(name.startswith("runs") for name in mtimes) < 4
    small_disk("8m")
    resumed = hseval("sweep", file, "--out", out)
    assert resumed.status == 0, resumed.err
    assert read_mtimes(out).items() >= mtimes.items()
    assert hseval("sweep", file, "--out", folder / "elsewhere").status == 0
    assert load_scores(out) == load_scores(folder / "elsewhere")


def test_a_run_in_use_by_another_process_is_not_queued(folder: Path) -> None:
    in_use = {"b"}
    queue = RunQueue(folder)
    queue.put(["a", "b"], is_in_use=in_use.__contains__)
    assert [queue.take()[1] for _ in range(2)] == ["a", "b"]  # type: ignore[index]
    assert queue.take() is None
    queue._study.ask()  # as by a worker that finds no waiting run and is killed at that moment
    reopened = RunQueue(folder)  # the process that took "a" is dead by now
    reopened.put(["a", "b"], is_in_use=in_use.__contains__)
    assert reopened.take()[1] == "a"  # type: ignore[index]
    assert reopened.take() is None


@pytest.mark.parametrize("method", ["fit", "sample"])
def test_a_set_that_is_replaced_during_a_sweep_gives_no_result_of_the_old_one(
    folder: Path, hseval: Command, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    call = getattr(StagedGenerator, method)

    def replace_set(self: StagedGenerator, *arguments: Any, **options: Any) -> Any:
        save_set(folder / "train.h5", make_texture_set(24, size=16, bands=3, seed=7))
        return call(self, *arguments, **options)

    monkeypatch.setattr(StagedGenerator, method, replace_set)
    file = write_plan(folder, format_grid(c=[0.1]))
    changed = hseval("sweep", file)
    assert changed.status == 1 and "train.h5: has changed since the sweep started" in changed.err
    assert not list(folder.glob("s.sweep/runs/*/done.json"))


def test_a_run_that_another_sweep_gave_up_can_still_end(folder: Path) -> None:
    queue = RunQueue(folder)
    queue.put(["a", "b"], is_in_use=lambda key: False)
    taken = [queue.take()[0] for _ in range(2)]  # type: ignore[index]
    RunQueue(folder).put([], is_in_use=lambda key: False)  # before the runs' locks are held
    queue.mark_done(taken[0], 1.0)
    queue.mark_failed(taken[1], "no reason")
    assert queue.take() is None


def test_a_second_sweep_leaves_a_run_to_the_first_until_that_is_killed(folder: Path, hseval: Command) -> None:
    file, out = write_plan(folder, FOUR), folder / "out"
    command = [sys.executable, "-m", "hseval", "sweep", str(file), "--out", str(out)]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert first.stderr is not None
    label = next(line for line in first.stderr if ": scoring" in line).partition(":")[0]
    first.send_signal(signal.SIGSTOP)
    second = hseval("sweep", file, "--out", out)
    assert f"{out}: another process still executes {label}; run the same command again" in second.err
    assert second.status == 1 and "3 of 4 runs done" in second.out
    first.kill()
    first.communicate()
    third = hseval("sweep", file, "--out", out)
    assert third.status == 0 and "4 of 4 runs done" in third.out and "another process" not in third.err
    assert hseval("sweep", file, "--out", folder / "whole").status == 0
    assert load_scores(out) == load_scores(folder / "whole")


def test_two_sweeps_at_once_give_the_same_scores_as_one(folder: Path, hseval: Command) -> None:
    file, out = write_plan(folder, FOUR), folder / "out"
    command = [sys.executable, "-m", "hseval", "sweep", str(file), "--out", str(out)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    output = [process.communicate(timeout=120)[0] for process in both]
    assert all("Traceback" not in text for text in output), output
    assert hseval("sweep", file, "--out", out).status == 0
    assert hseval("sweep", file, "--out", folder / "whole").status == 0
    assert load_scores(out) == load_scores(folder / "whole")


def test_the_error_without_optuna_names_the_extra(folder: Path) -> None:
    blocked = folder / "blocked" / "optuna"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise ImportError('no optuna')")
    environment = {**os.environ, "PYTHONPATH": str(blocked.parent)}
    result = run_hseval_process("sweep", write_plan(folder, FOUR), env=environment)
    assert (
        result.returncode == 2 and result.stderr == "hseval: hseval sweep needs optuna: pip install 'hseval[sweep]'\n"
    )


@pytest.mark.parametrize(("slurm", "message"), [("partition", "expected key=value"), ("slurm_partition=gpu", "srun")])
def test_invalid_parameters_of_slurm_are_refused(folder: Path, hseval: Command, slurm: str, message: str) -> None:
    result = hseval("sweep", write_plan(folder, FOUR), "--slurm", slurm)
    assert result.status == 2 and message in result.err and "--slurm" in result.err


def list_scoring_messages(logs: Iterable[Path]) -> list[str]:
    """Return the lines in which jobs report that they score a run, sorted."""
    texts = [path.read_text() for path in logs]
    return sorted(line for text in texts for line in text.splitlines() if line.endswith(": scoring"))


def kill_a_worker(out: Path) -> None:
    """Kill the first worker that scores a run: a child of the process whose pid is submitit's name of the job."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for log in out.glob("jobs/*_0_log.out"):
            if ": scoring" in log.read_text():
                job = log.name.split("_")[0]
                for worker in Path(f"/proc/{job}/task/{job}/children").read_text().split():
                    os.kill(int(worker), signal.SIGKILL)
                return
        time.sleep(0.002)


def test_the_run_of_a_killed_job_is_repeated(folder: Path) -> None:
    plan, messages = read_plan(write_plan(folder, FOUR)), list[str]()
    killer = threading.Thread(target=kill_a_worker, args=(plan.out,))
    killer.start()
    results = run_sweep(plan, on_message=messages.append, jobs=2)
    killer.join()
    expected = sorted(f"{row.label}: scoring" for row in results.rows)
    assert any("ended early" in line for line in messages)
    assert list_scoring_messages((plan.out / "jobs").glob("*_log.out")) == expected  # the jobs started each run once
    assert len([line for line in messages if line in expected]) == 1  # the killed job's run was repeated at the end
    assert all(row.scores and row.timing for row in results.rows)


SBATCH = """#!/bin/bash
# Runs all tasks of an array at once, and prints what sbatch prints.
script="${@: -1}"
cp "$script" "$STUBS/submitted.sh"
for task in 0 1; do
  SLURM_JOB_ID=77$task SLURM_ARRAY_JOB_ID=77 SLURM_ARRAY_TASK_ID=$task SLURM_NTASKS=1 SLURM_LOCALID=0 SLURM_NODEID=0 \\
  SLURM_PROCID=0 SLURM_JOB_NUM_NODES=1 SLURM_JOB_NODELIST=node bash "$STUBS/submitted.sh" > "$STUBS/$task.log" 2>&1 &
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
    stub_folder = folder / "bin"
    stub_folder.mkdir()
    stubs = {"sbatch": SBATCH, "srun": SRUN, "sacct": "#!/bin/bash\necho 'JobID|State|NodeList'\n"}
    for name, text in stubs.items():
        (stub_folder / name).write_text(text)
        (stub_folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{stub_folder}:{os.environ['PATH']}")
    monkeypatch.setenv("STUBS", str(stub_folder))
    parameters = "slurm_partition=gpu,gpus_per_node=1,timeout_min=90"
    result = hseval("sweep", write_plan(folder, FOUR), "--jobs", 2, "--slurm", parameters)
    assert result.status == 0, result.err + "".join(log.read_text() for log in stub_folder.glob("*.log"))
    script = (stub_folder / "submitted.sh").read_text()
    assert {"#SBATCH --partition=gpu", "#SBATCH --gpus-per-node=1", "#SBATCH --time=90"} <= set(script.splitlines())
    assert "4 of 4 runs done" in result.out
    scored = list_scoring_messages(stub_folder.glob("*.log"))
    assert len(scored) == len(set(scored)) == 4
    assert all(row["timing"] for row in json.loads((folder / "s.sweep" / "results.json").read_text())["rows"])
