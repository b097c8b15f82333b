"""Workers: each executes runs from the queue one after the other, in this process or in a submitit job."""

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
from hseval.utils.plural import format_count

RunsByKey = Mapping[str, tuple[RunConfig, RunKeys]]


def compute_runs_by_key(plan: SweepPlan) -> RunsByKey:
    """Return the plan's runs by the key of their samples, with the keys of their steps."""
    content_hashes = hash_set_contents(plan)
    runs = ((run, compute_run_keys(run, plan, content_hashes)) for run in plan.runs)
    return {keys.samples.digest: (run, keys) for run, keys in runs}


def enqueue_pending(queue: RunQueue, plan: SweepPlan, runs: RunsByKey, *, with_timing: bool) -> None:
    """Queue the runs that are neither done nor failed: first one run of each shared fit or stage, then the others."""
    pending = [
        key
        for key, (_, keys) in runs.items()
        if not is_done(plan, keys, with_timing=with_timing) and not (get_run_folder(plan, keys) / FAILED_FILE).exists()
    ]
    queue.put(_order_by_shared_fits(pending, runs), is_in_use=lambda key: is_in_use(plan.out / "runs" / key))


def _order_by_shared_fits(pending: Sequence[str], runs: RunsByKey) -> list[str]:
    """Order runs so that workers that start at the same time seldom wait for the same fit."""
    use_counts: dict[str, int] = {}
    ordered = []
    for i, key in enumerate(pending):
        _, keys = runs[key]
        shared = [*(stage.digest for stage in keys.stages.values()), keys.fit.digest if keys.fit else key]
        rank = tuple(use_counts.get(digest, 0) for digest in shared)
        for digest in shared:
            use_counts[digest] = use_counts.get(digest, 0) + 1
        ordered.append((rank[-1], rank[-2] if len(rank) > 1 else 0, i, key))
    return [key for *_, key in sorted(ordered)]


def run_worker(plan: SweepPlan, on_message: MessageCallback, *, with_timing: bool = True) -> None:
    """Execute runs until none waits.

    Raises:
        DiskFullError: the disk is full; the current run is not recorded as failed.
    """
    queue, runs = RunQueue(plan.out), compute_runs_by_key(plan)
    while (item := queue.take()) is not None:
        trial, key = item
        if key not in runs:  # queued from an earlier version of the TOML file
            queue.mark_failed(trial, "this run is no longer part of the sweep")
            continue
        run, keys = runs[key]
        start = time.monotonic()
        try:
            execute_run(run, plan, keys, on_message, with_timing=with_timing)
        except StepError as error:
            on_message(f"{run.label}: {error.step} failed: {error}")
            queue.mark_failed(trial, str(error))
        else:
            queue.mark_done(trial, time.monotonic() - start)


def launch_workers(plan: SweepPlan, jobs: int, slurm: Mapping[str, Any] | None, on_message: MessageCallback) -> None:
    """Run ``jobs`` workers as submitit jobs, on this machine or under Slurm, and wait until all have ended.

    A job that ends early is reported; its remaining runs wait for the next command.

    Raises:
        HsevalError: submitit is not installed, or a job can't be submitted.
        DiskFullError: a job found the disk full.
    """
    executor = _build_executor(plan.out / "jobs", slurm)
    with executor.batch():
        submitted = [executor.submit(_run_job, plan, with_timing=slurm is not None) for _ in range(jobs)]
    job_ids = ", ".join(job.job_id for job in submitted)
    on_message(f"{format_count(jobs, 'job')} ({job_ids}); their output is in {plan.out / 'jobs'}")
    messages = [message for job in submitted if (message := _wait_for_job(job, on_message)) is not None]
    if messages:
        raise DiskFullError(messages[0])


def _wait_for_job(job: Any, on_message: MessageCallback) -> str | None:
    """Wait for a job; return the message of the full disk, if that ended it."""
    try:
        message = job.results()[0]
    except Exception as error:  # noqa: BLE001 - killed, out of time, or whatever its worker raised
        on_message(f"job {job.job_id} ended early: {_extract_error_line(error)}")
        return None
    return None if message is None else str(message)


def _extract_error_line(error: Exception) -> str:
    """Return the line that names the error, from a job's error message with its traceback."""
    lines = [line.strip("- \t") for line in str(error).splitlines() if line.strip("- \t")]
    error_lines = [line for line in lines if "Error" in line or "Interrupt" in line]
    return (error_lines or lines or [type(error).__name__])[-1]


def _run_job(plan: SweepPlan, *, with_timing: bool) -> str | None:
    """Run a worker; return the message of a full disk, as an exception would arrive as a traceback."""
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
