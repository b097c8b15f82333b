"""One run from end to end: what is done already is not done again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from hseval.core.report import Score
from hseval.sweep.failures import StepFailed, step
from hseval.sweep.fit import Told, fitted
from hseval.sweep.keys import Keys
from hseval.sweep.plan import Configuration, Plan
from hseval.sweep.sample import Drawer
from hseval.sweep.score import scored
from hseval.sweep.store import DONE, FAILED, read_record, waited, write_record

SAMPLES, TIMING, REPORT = "samples.h5", "timing.json", "report.json"


def folder_of(plan: Plan, keys: Keys) -> Path:
    """Return the folder of a run."""
    return plan.out / "runs" / keys.samples.key


def is_done(plan: Plan, keys: Keys, *, timed: bool = True) -> bool:
    """Say whether a run's scores are there (and its timing); its samples and its fit may be gone by then."""
    folder = folder_of(plan, keys)
    record = read_record(folder / DONE)
    is_scored = record is not None and record.get("scores_key") == keys.scores.key
    return is_scored and (not timed or is_timed(plan, keys))


def is_timed(plan: Plan, keys: Keys) -> bool:
    """Say whether a run was timed, as the plan asks for and on the device that it asks for."""
    record = read_record(folder_of(plan, keys) / TIMING)
    return record is not None and record.get("of") == _asked(plan)


def _asked(plan: Plan) -> dict[str, Any]:
    return {"device": plan.device, **dataclasses.asdict(plan.timing)}


def do(run: Configuration, plan: Plan, keys: Keys, told: Told, *, timed: bool = True) -> None:
    """Fit, sample, time and score a run, each unless it is done.

    Args:
        run: the configuration.
        plan: the sweep.
        keys: the run's.
        told: gets a line about each thing that is begun.
        timed: the machine is this run's alone: measure seconds a sample, too, and score with all cores. Where several
            runs share one, timing waits until they are done.

    Raises:
        StepFailed: a step failed; it is on record, and what was done before it is kept.
        DiskFull: there is no room; nothing is on record.
    """
    folder = folder_of(plan, keys)
    with waited(folder):
        if is_done(plan, keys, timed=timed):
            return
        (folder / FAILED).unlink(missing_ok=True)
        try:
            _do(run, plan, keys, told, timed=timed)
        except StepFailed as error:
            write_record(folder / FAILED, {"step": error.step, "error": str(error), "run": run.label})
            raise


def _do(run: Configuration, plan: Plan, keys: Keys, told: Told, *, timed: bool) -> None:
    folder = folder_of(plan, keys)
    samples = folder / SAMPLES
    needs_samples = not is_done(plan, keys, timed=False)
    to_time = timed and not is_timed(plan, keys)
    if to_time or (needs_samples and not samples.exists()):
        drawer = Drawer(run, plan, fitted(run, plan, keys, told))
        if needs_samples and not samples.exists():
            told(f"{run.label}: sampling {plan.samples}")
            with step("sampling", folder):
                drawer.draw(samples)
        if to_time:
            with step("timing", folder):
                write_record(folder / TIMING, {**drawer.time(), "of": _asked(plan)})
    if needs_samples:
        told(f"{run.label}: scoring")
        with step("scoring", folder):
            report, scores = scored(samples, plan, workers=None if timed else 0)  # a machine of its own, or a share
            report.save(folder / REPORT)
            write_record(folder / DONE, _record(run, keys, scores))


def _record(run: Configuration, keys: Keys, scores: dict[str, Score]) -> dict[str, Any]:
    """Return what a done run is remembered by; what intervals are computed from stays in the report."""
    return {
        "run": run.label,
        "scores_key": keys.scores.key,
        "samples_of": keys.samples.of,
        "scores_of": keys.scores.of,
        "scores": {name: _summary(found) for name, found in scores.items()},
    }


def _summary(found: Score) -> dict[str, Any]:
    kept = ("spread", "floor_spread", "excess", "excess_interval", "p_value", "no_interval", "smallest_difference")
    details = {name: found.details[name] for name in kept if name in found.details}
    return {**dataclasses.asdict(dataclasses.replace(found, details={})), "details": details}
