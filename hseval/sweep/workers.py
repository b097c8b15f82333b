"""Workers: each takes a run from the queue, does it, and takes the next, in this process or in submitit's jobs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hseval.sweep.failures import DiskFull, StepFailed
from hseval.sweep.fit import Told
from hseval.sweep.keys import Keys, contents, keys_of
from hseval.sweep.plan import Configuration, Plan
from hseval.sweep.queue import Queue
from hseval.sweep.run_steps import do, folder_of, is_done
from hseval.sweep.store import FAILED, in_use
from hseval.utils.errors import HsevalError

Runs = Mapping[str, tuple[Configuration, Keys]]


def keyed(plan: Plan) -> Runs:
    """Return the plan's runs by the key of their samples, with the keys of their steps."""
    content = contents(plan)
    found = ((run, keys_of(run, plan, content)) for run in plan.runs)
    return {keys.samples.key: (run, keys) for run, keys in found}


def fill(queue: Queue, plan: Plan, runs: Runs, *, timed: bool) -> None:
    """Queue what is neither done nor known to fail, first one run of each shared fit or stage, then the others."""
    left = [
        key
        for key, (_, keys) in runs.items()
        if not is_done(plan, keys, timed=timed) and not (folder_of(plan, keys) / FAILED).exists()
    ]
    queue.put(_dealt(left, runs), in_use=lambda key: in_use(plan.out / "runs" / key))


def _dealt(left: Sequence[str], runs: Runs) -> list[str]:
    """Order runs such that workers who begin at once seldom wait for the same fit."""
    seen: dict[str, int] = {}
    turns = []
    for place, key in enumerate(left):
        _, keys = runs[key]
        shared = [*(stage.key for stage in keys.stages.values()), keys.fit.key if keys.fit else key]
        turn = tuple(seen.get(each, 0) for each in shared)
        for each in shared:
            seen[each] = seen.get(each, 0) + 1
        turns.append((turn[-1], turn[-2] if len(turn) > 1 else 0, place, key))
    return [key for *_, key in sorted(turns)]


def work(plan: Plan, told: Told, *, timed: bool = True) -> None:
    """Do runs until none waits.

    Raises:
        DiskFull: there is no room; the run at hand is put back.
    """
    queue, runs = Queue(plan.out), keyed(plan)
    while (taken := queue.take()) is not None:
        trial, key = taken
        if key not in runs:  # of an earlier state of the TOML file
            queue.failed(trial, "no run of the sweep any more")
            continue
        run, keys = runs[key]
        began = time.monotonic()
        try:
            do(run, plan, keys, told, timed=timed)
        except StepFailed as error:
            told(f"{run.label}: {error.step} failed: {error}")
            queue.failed(trial, str(error))
        else:
            queue.done(trial, time.monotonic() - began)


def launch(plan: Plan, jobs: int, slurm: Mapping[str, Any] | None, told: Told) -> None:
    """Run ``jobs`` workers as jobs of submitit, on this machine or under Slurm, and wait until all have ended.

    A job that ends early is told of; the runs that it had not done wait for the next command.

    Raises:
        HsevalError: submitit is not installed, or a job can't be submitted.
        DiskFull: a job found no room.
    """
    executor = _executor(plan.out / "jobs", slurm)
    with executor.batch():
        submitted = [executor.submit(_job, plan, timed=slurm is not None) for _ in range(jobs)]
    told(f"{jobs} jobs ({', '.join(job.job_id for job in submitted)}); their output is in {plan.out / 'jobs'}")
    ended = [end for job in submitted if (end := _ended(job, told)) is not None]
    if ended:
        raise DiskFull(ended[0])


def _ended(job: Any, told: Told) -> str | None:
    """Wait for a job; return why there is no room, if that ended it."""
    try:
        found = job.results()[0]
    except Exception as error:  # noqa: BLE001 - killed, out of time, or whatever its worker raised
        told(f"job {job.job_id} ended early: {_last_line(error)}")
        return None
    return None if found is None else str(found)


def _last_line(error: Exception) -> str:
    """Return the line of an error from a job, traceback and all, that says what it was."""
    lines = [line.strip("- \t") for line in str(error).splitlines() if line.strip("- \t")]
    said = [line for line in lines if "Error" in line or "Interrupt" in line]
    return (said or lines or [type(error).__name__])[-1]


def _job(plan: Plan, *, timed: bool) -> str | None:
    """Work; return why there is no room, as an error would come back as a traceback."""
    try:
        work(plan, lambda line: print(line, flush=True), timed=timed)
    except DiskFull as error:
        return str(error)
    return None


def _executor(folder: Path, slurm: Mapping[str, Any] | None) -> Any:
    try:
        import submitit
    except ImportError as error:
        raise HsevalError("several jobs need submitit: pip install 'hseval[sweep]'") from error
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster="local" if slurm is None else "slurm")
        executor.update_parameters(name="hseval-sweep", **({"timeout_min": 60 * 24 * 30} if slurm is None else slurm))
    except (RuntimeError, NameError, TypeError, ValueError) as error:
        raise HsevalError(f"--slurm: {' '.join(str(error).split())}") from error
    return executor
