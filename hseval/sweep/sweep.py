"""A whole sweep: what is left to do is queued and done, and the results are gathered."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from hseval.sweep.failures import DiskFull, StepFailed
from hseval.sweep.fit import Told
from hseval.sweep.plan import Plan
from hseval.sweep.queue import Queue
from hseval.sweep.results import Results, gathered
from hseval.sweep.run_steps import do, folder_of, is_timed
from hseval.sweep.store import FAILED
from hseval.sweep.workers import Runs, fill, keyed, launch, work
from hseval.utils.atomic_files import check_writable
from hseval.utils.errors import HsevalError, nearest


def run_sweep(
    plan: Plan,
    *,
    told: Told,
    jobs: int = 1,
    slurm: Mapping[str, Any] | None = None,
    retry: bool = False,
    only: tuple[str, ...] = (),
) -> Results:
    """Do what a sweep has not done yet, and return the results of all of it.

    Args:
        plan: the sweep.
        told: gets a line about each thing that is begun.
        jobs: workers; more than one, and all under Slurm, are jobs of submitit.
        slurm: parameters of ``submitit.AutoExecutor`` for Slurm; None: this machine.
        retry: do runs again that failed before.
        only: labels of the tables whose runs are done now; none: all.

    Raises:
        HsevalError: sets are missing, the folder can't be written, or the disk is full. What is done is kept.
    """
    chosen = only_parts(plan, only)
    prepare(plan)
    if retry:
        for failed in plan.out.glob(f"*/*/{FAILED}"):
            failed.unlink(missing_ok=True)
    runs = keyed(chosen)
    alone = jobs == 1 and slurm is None
    timed = alone or slurm is not None
    try:
        fill(Queue(plan.out), chosen, runs, timed=timed)
        if alone:
            work(chosen, told)
        else:
            launch(chosen, jobs, slurm, told)
        if not timed:
            _time(chosen, runs, told)
    except DiskFull as error:
        raise HsevalError(f"{error}; what is done is kept: make room, and the same command goes on") from error
    return gathered(plan, keyed(plan))


def prepare(plan: Plan) -> None:
    """Make the sweep's folder; HsevalError where that can't be, or a set is missing."""
    for path in plan.data.paths():
        if not path.exists():
            raise HsevalError(f"{path}: there is no such file or folder ([data] of the sweep names it)")
    if not plan.out.parent.is_dir():
        raise HsevalError(f"{plan.out}: its folder {str(plan.out.parent)!r} does not exist")
    if plan.out.exists() and not plan.out.is_dir():
        raise HsevalError(f"{plan.out}: is a file; expected the folder of the sweep")
    check_writable(plan.out / "data.json") if plan.out.exists() else check_writable(plan.out)
    for name in ("runs", "fits", "stages"):
        (plan.out / name).mkdir(parents=True, exist_ok=True)


def only_parts(plan: Plan, parts: tuple[str, ...]) -> Plan:
    """Return the plan with the runs of some of its tables, by label.

    Raises:
        HsevalError: there is no such table.
    """
    known = {run.part for run in plan.runs}
    for part in parts:
        if part not in known:
            raise HsevalError(f"--only {part}: no [[generator]] table has that label{nearest(part, known)}")
    return dataclasses.replace(plan, runs=tuple(run for run in plan.runs if not parts or run.part in parts))


def _time(plan: Plan, runs: Runs, told: Told) -> None:
    """Time what several workers drew, now that they have ended and nothing else runs here."""
    for run, keys in runs.values():
        if not is_timed(plan, keys) and not (folder_of(plan, keys) / FAILED).exists():
            told(f"{run.label}: timing")
            try:
                do(run, plan, keys, told)
            except StepFailed as error:
                told(f"{run.label}: {error.step} failed: {error}")
