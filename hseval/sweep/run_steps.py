"""One run from end to end: what is done already is not done again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from hseval.core.report import Score
from hseval.sweep.failures import StepError, guard_step
from hseval.sweep.fit import MessageCallback, ensure_fit
from hseval.sweep.keys import RunKeys
from hseval.sweep.plan import RunConfig, SweepPlan
from hseval.sweep.sample import RunSampler
from hseval.sweep.score import score_samples
from hseval.sweep.store import DONE_FILE, FAILED_FILE, read_record, wait_for_lock, write_record

SAMPLES_FILE, TIMING_FILE, REPORT_FILE = "samples.h5", "timing.json", "report.json"


def get_run_folder(plan: SweepPlan, keys: RunKeys) -> Path:
    """Return the folder of a run."""
    return plan.out / "runs" / keys.samples.digest


def is_done(plan: SweepPlan, keys: RunKeys, *, with_timing: bool = True) -> bool:
    """Say whether a run's scores are there (and its timing); its samples and its fit may be gone by then."""
    folder = get_run_folder(plan, keys)
    record = read_record(folder / DONE_FILE)
    is_scored = record is not None and record.get("scores_key") == keys.scores.digest
    return is_scored and (not with_timing or is_timed(plan, keys))


def is_timed(plan: SweepPlan, keys: RunKeys) -> bool:
    """Say whether a run was timed, as the plan asks for and on the device that it asks for."""
    record = read_record(get_run_folder(plan, keys) / TIMING_FILE)
    return record is not None and record.get("of") == _build_timing_request(plan)


def _build_timing_request(plan: SweepPlan) -> dict[str, Any]:
    return {"device": plan.device, **dataclasses.asdict(plan.timing)}


def execute_run(
    run: RunConfig, plan: SweepPlan, keys: RunKeys, on_message: MessageCallback, *, with_timing: bool = True
) -> None:
    """Fit, sample, time and score a run, each unless it is done.

    Args:
        run: the configuration.
        plan: the sweep.
        keys: the run's.
        on_message: gets a line about each thing that is begun.
        with_timing: the machine is this run's alone: measure seconds a sample, too, and score with all cores. Where several
            runs share one, timing waits until they are done.

    Raises:
        StepFailed: a step failed; it is on record, and what was done before it is kept.
        DiskFull: there is no room; nothing is on record.
    """
    folder = get_run_folder(plan, keys)
    with wait_for_lock(folder):
        if is_done(plan, keys, with_timing=with_timing):
            return
        (folder / FAILED_FILE).unlink(missing_ok=True)
        try:
            _execute_steps(run, plan, keys, on_message, with_timing=with_timing)
        except StepError as error:
            write_record(folder / FAILED_FILE, {"step": error.step, "error": str(error), "run": run.label})
            raise


def _execute_steps(
    run: RunConfig, plan: SweepPlan, keys: RunKeys, on_message: MessageCallback, *, with_timing: bool
) -> None:
    folder = get_run_folder(plan, keys)
    samples = folder / SAMPLES_FILE
    needs_samples = not is_done(plan, keys, with_timing=False)
    to_time = with_timing and not is_timed(plan, keys)
    if to_time or (needs_samples and not samples.exists()):
        drawer = RunSampler(run, plan, ensure_fit(run, plan, keys, on_message))
        if needs_samples and not samples.exists():
            on_message(f"{run.label}: sampling {plan.sample_count}")
            with guard_step("sampling", folder):
                drawer.draw_samples(samples)
        if to_time:
            with guard_step("timing", folder):
                write_record(folder / TIMING_FILE, {**drawer.measure_speed(), "of": _build_timing_request(plan)})
    if needs_samples:
        on_message(f"{run.label}: scoring")
        with guard_step("scoring", folder):
            report, scores = score_samples(
                samples, plan, workers=None if with_timing else 0
            )  # a machine of its own, or a share
            report.save(folder / REPORT_FILE)
            write_record(folder / DONE_FILE, _build_record(run, keys, scores))


def _build_record(run: RunConfig, keys: RunKeys, scores: dict[str, Score]) -> dict[str, Any]:
    """Return what a done run is remembered by; what intervals are computed from stays in the report."""
    return {
        "run": run.label,
        "scores_key": keys.scores.digest,
        "samples_of": keys.samples.inputs,
        "scores_of": keys.scores.inputs,
        "scores": {name: _summarize_score(found) for name, found in scores.items()},
    }


def _summarize_score(score: Score) -> dict[str, Any]:
    kept = ("spread", "floor_spread", "excess", "excess_interval", "p_value", "no_interval", "smallest_difference")
    details = {name: score.details[name] for name in kept if name in score.details}
    return {**dataclasses.asdict(dataclasses.replace(score, details={})), "details": details}
