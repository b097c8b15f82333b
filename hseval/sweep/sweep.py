"""A whole sweep: what is left to do is queued and done, and the results are gathered."""

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
from hseval.sweep.store import FAILED_FILE
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
    """Do what a sweep has not done yet, and return the results of all of it.

    Args:
        plan: the sweep.
        on_message: gets a line about each thing that is begun.
        jobs: workers; more than one, and all under Slurm, are jobs of submitit.
        slurm: parameters of ``submitit.AutoExecutor`` for Slurm; None: this machine.
        retry: do runs again that failed before.
        only: labels of the tables whose runs are done now; none: all.

    Raises:
        HsevalError: sets are missing, the folder can't be written, or the disk is full. What is done is kept.
    """
    chosen = select_tables(plan, only)
    prepare_folder(plan)
    if retry:
        for failed in plan.out.glob(f"*/*/{FAILED_FILE}"):
            failed.unlink(missing_ok=True)
    runs = compute_runs_by_key(chosen)
    alone = jobs == 1 and slurm is None
    timed = alone or slurm is not None
    try:
        enqueue_pending(RunQueue(plan.out), chosen, runs, with_timing=timed)
        if alone:
            run_worker(chosen, on_message)
        else:
            launch_workers(chosen, jobs, slurm, on_message)
        if not timed:
            _time_runs(chosen, runs, on_message)
    except DiskFullError as error:
        raise HsevalError(f"{error}; what is done is kept: make room, and the same command goes on") from error
    return collect_results(plan, compute_runs_by_key(plan))


def prepare_folder(plan: SweepPlan) -> None:
    """Make the sweep's folder; HsevalError where that can't be, or a set is missing."""
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
    """Return the plan with the runs of some of its tables, by label.

    Raises:
        HsevalError: there is no such table.
    """
    known = {run.table_label for run in plan.runs}
    for part in table_labels:
        if part not in known:
            raise HsevalError(f"--only {part}: no [[generator]] table has that label{format_suggestion(part, known)}")
    return dataclasses.replace(
        plan, runs=tuple(run for run in plan.runs if not table_labels or run.table_label in table_labels)
    )


def _time_runs(plan: SweepPlan, runs: RunsByKey, on_message: MessageCallback) -> None:
    """Time what several workers drew, now that they have ended and nothing else runs here."""
    for run, keys in runs.values():
        if not is_timed(plan, keys) and not (get_run_folder(plan, keys) / FAILED_FILE).exists():
            on_message(f"{run.label}: timing")
            try:
                execute_run(run, plan, keys, on_message)
            except StepError as error:
                on_message(f"{run.label}: {error.step} failed: {error}")
