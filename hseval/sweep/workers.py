"""Workers: each takes a run from the queue, does it, and takes the next, in this process or in submitit's jobs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hseval.sweep.failures import DiskFullError, StepError
from hseval.sweep.fit import MessageCallback
from hseval.sweep.keys import RunKeys, compute_run_keys, hash_set_contents
from hseval.sweep.plan import RunConfig, SweepPlan
from hseval.sweep.queue import RunQueue
from hseval.sweep.run_steps import execute_run, get_run_folder, is_done
from hseval.sweep.store import FAILED_FILE, is_in_use
from hseval.utils.errors import HsevalError

RunsByKey = Mapping[str, tuple[RunConfig, RunKeys]]


def compute_runs_by_key(plan: SweepPlan) -> RunsByKey:
    """Return the plan's runs by the key of their samples, with the keys of their steps."""
    content = hash_set_contents(plan)
    found = ((run, compute_run_keys(run, plan, content)) for run in plan.runs)
    return {keys.samples.digest: (run, keys) for run, keys in found}


def enqueue_pending(queue: RunQueue, plan: SweepPlan, runs: RunsByKey, *, with_timing: bool) -> None:
    """Queue what is neither done nor known to fail, first one run of each shared fit or stage, then the others."""
    left = [
        key
        for key, (_, keys) in runs.items()
        if not is_done(plan, keys, with_timing=with_timing) and not (get_run_folder(plan, keys) / FAILED_FILE).exists()
    ]
    queue.put(_order_by_shared_fits(left, runs), is_in_use=lambda key: is_in_use(plan.out / "runs" / key))


def _order_by_shared_fits(pending: Sequence[str], runs: RunsByKey) -> list[str]:
    """Order runs such that workers who begin at once seldom wait for the same fit."""
    seen: dict[str, int] = {}
    turns = []
    for place, key in enumerate(pending):
        _, keys = runs[key]
        shared = [*(stage.digest for stage in keys.stages.values()), keys.fit.digest if keys.fit else key]
        turn = tuple(seen.get(each, 0) for each in shared)
        for each in shared:
            seen[each] = seen.get(each, 0) + 1
        turns.append((turn[-1], turn[-2] if len(turn) > 1 else 0, place, key))
    return [key for *_, key in sorted(turns)]


def run_worker(plan: SweepPlan, on_message: MessageCallback, *, with_timing: bool = True) -> None:
    """Do runs until none waits.

    Raises:
        DiskFull: there is no room; the run at hand is put back.
    """
    queue, runs = RunQueue(plan.out), compute_runs_by_key(plan)
    while (taken := queue.take()) is not None:
        trial, key = taken
        if key not in runs:  # of an earlier state of the TOML file
            queue.mark_failed(trial, "no run of the sweep any more")
            continue
        run, keys = runs[key]
        began = time.monotonic()
        try:
            execute_run(run, plan, keys, on_message, with_timing=with_timing)
        except StepError as error:
            on_message(f"{run.label}: {error.step} failed: {error}")
            queue.mark_failed(trial, str(error))
        else:
            queue.mark_done(trial, time.monotonic() - began)


def launch_workers(plan: SweepPlan, jobs: int, slurm: Mapping[str, Any] | None, on_message: MessageCallback) -> None:
    """Run ``jobs`` workers as jobs of submitit, on this machine or under Slurm, and wait until all have ended.

    A job that ends early is told of; the runs that it had not done wait for the next command.

    Raises:
        HsevalError: submitit is not installed, or a job can't be submitted.
        DiskFull: a job found no room.
    """
    executor = _build_executor(plan.out / "jobs", slurm)
    with executor.batch():
        submitted = [executor.submit(_run_job, plan, with_timing=slurm is not None) for _ in range(jobs)]
    on_message(f"{jobs} jobs ({', '.join(job.job_id for job in submitted)}); their output is in {plan.out / 'jobs'}")
    ended = [end for job in submitted if (end := _wait_for_job(job, on_message)) is not None]
    if ended:
        raise DiskFullError(ended[0])


def _wait_for_job(job: Any, on_message: MessageCallback) -> str | None:
    """Wait for a job; return why there is no room, if that ended it."""
    try:
        found = job.results()[0]
    except Exception as error:  # noqa: BLE001 - killed, out of time, or whatever its worker raised
        on_message(f"job {job.job_id} ended early: {_extract_error_line(error)}")
        return None
    return None if found is None else str(found)


def _extract_error_line(error: Exception) -> str:
    """Return the line of an error from a job, traceback and all, that says what it was."""
    lines = [line.strip("- \t") for line in str(error).splitlines() if line.strip("- \t")]
    said = [line for line in lines if "Error" in line or "Interrupt" in line]
    return (said or lines or [type(error).__name__])[-1]


def _run_job(plan: SweepPlan, *, with_timing: bool) -> str | None:
    """Work; return why there is no room, as an error would come back as a traceback."""
    try:
        run_worker(plan, lambda line: print(line, flush=True), with_timing=with_timing)
    except DiskFullError as error:
        return str(error)
    return None


def _build_executor(folder: Path, slurm: Mapping[str, Any] | None) -> Any:
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
