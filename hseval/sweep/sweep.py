"""Runs a whole sweep: queues and executes what is not done yet, and collects the results."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from hseval.sweep.failures import DiskFullError, StepError
from hseval.sweep.fit import MessageCallback
from hseval.sweep.plan import SweepPlan
from hseval.sweep.queue import RunQueue
from hseval.sweep.results import SweepResults, collect_results
from hseval.sweep.run_steps import execute_run, get_run_folder, is_timed
from hseval.sweep.store import FAILED_FILE, is_in_use
from hseval.sweep.workers import RunsByKey, compute_runs_by_key, enqueue_pending, launch_workers, run_worker
from hseval.utils.atomic_files import check_writable
from hseval.utils.errors import HsevalError, format_suggestion


def run_sweep(
    plan: SweepPlan,
    *,
    on_message: MessageCallback,
    jobs: int = 1,
    slurm: Mapping[str, Any] | None = None,
    retry: bool = False,
    only: tuple[str, ...] = (),
) -> SweepResults:
    """Execute the runs of a sweep that are not done yet, and return the results of all runs.

    Args:
        plan: the sweep.
        on_message: called with a line about each step that starts.
        jobs: workers; submitit jobs if there are several, or under Slurm.
        slurm: parameters of ``submitit.AutoExecutor`` for Slurm; None: this machine.
        retry: repeat runs that failed before.
        only: labels of the tables whose runs are executed; empty: all.

    Raises:
        HsevalError: sets are missing, the folder can't be written, or the disk is full. Finished steps are preserved.
    """
    selected = select_tables(plan, only)
    prepare_folder(plan)
    if retry:
        for failure in plan.out.glob(f"*/*/{FAILED_FILE}"):
            failure.unlink(missing_ok=True)
    runs = compute_runs_by_key(selected)
    in_process = jobs == 1 and slurm is None
    with_timing = in_process or slurm is not None
    try:
        enqueue_pending(RunQueue(plan.out), selected, runs, with_timing=with_timing)
        if in_process:
            run_worker(selected, on_message)
        else:
            launch_workers(selected, jobs, slurm, on_message)
        if not with_timing:
            _time_runs(selected, runs, on_message)
        _report_runs_in_use(selected, runs, on_message)
    except DiskFullError as error:
        raise HsevalError(f"{error}; free some space and run the same command again: it resumes") from error
    return collect_results(plan, compute_runs_by_key(plan))


def prepare_folder(plan: SweepPlan) -> None:
    """Create the sweep's folder.

    Raises:
        HsevalError: the folder can't be created or written, or a set is missing.
    """
    for path in plan.data.list_paths():
        if not path.exists():
            raise HsevalError(f"{path}: there is no such file or folder ([data] of the sweep names it)")
    if not plan.out.parent.is_dir():
        raise HsevalError(f"{plan.out}: its folder {str(plan.out.parent)!r} does not exist")
    if plan.out.exists() and not plan.out.is_dir():
        raise HsevalError(f"{plan.out}: is a file; expected the folder of the sweep")
    check_writable(plan.out / "data.json") if plan.out.exists() else check_writable(plan.out)
    for name in ("runs", "fits", "stages"):
        (plan.out / name).mkdir(parents=True, exist_ok=True)


def select_tables(plan: SweepPlan, table_labels: tuple[str, ...]) -> SweepPlan:
    """Return the plan with the runs of some of its tables, by label; without labels, of all.

    Raises:
        HsevalError: there is no such table.
    """
    known = {run.table_label for run in plan.runs}
    for label in table_labels:
        if label not in known:
            raise HsevalError(f"--only {label}: no [[generator]] table has that label{format_suggestion(label, known)}")
    return dataclasses.replace(
        plan, runs=tuple(run for run in plan.runs if not table_labels or run.table_label in table_labels)
    )


def _report_runs_in_use(plan: SweepPlan, runs: RunsByKey, on_message: MessageCallback) -> None:
    """Say which runs are left to another process, such as a second sweep in the same folder."""
    labels = [run.label for run, keys in runs.values() if is_in_use(get_run_folder(plan, keys))]
    if labels:
        hint = "run the same command again when it has ended"
        on_message(f"{plan.out}: another process still executes {', '.join(labels)}; {hint}")


def _time_runs(plan: SweepPlan, runs: RunsByKey, on_message: MessageCallback) -> None:
    """Time the runs of several workers, after the workers have ended and the machine is idle."""
    for run, keys in runs.values():
        if not is_timed(plan, keys) and not (get_run_folder(plan, keys) / FAILED_FILE).exists():
            on_message(f"{run.label}: timing")
            try:
                execute_run(run, plan, keys, on_message)
            except StepError as error:
                on_message(f"{run.label}: {error.step} failed: {error}")
