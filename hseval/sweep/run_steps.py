"""Executes one run from end to end; steps that are done are not repeated."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from hseval.core.report import Score
from hseval.sweep.failures import StepError, guard_step
from hseval.sweep.fit import MessageCallback, ensure_fit
from hseval.sweep.keys import RunKeys, check_sets_unchanged
from hseval.sweep.plan import RunConfig, SweepPlan
from hseval.sweep.sample import RunSampler
from hseval.sweep.score import score_samples
from hseval.sweep.store import DONE_FILE, FAILED_FILE, read_record, wait_for_lock, write_record

SAMPLES_FILE, TIMING_FILE, REPORT_FILE = "samples.h5", "timing.json", "report.json"


class RunRecord(TypedDict):
    """A run that is done."""

    scores_key: str
    scores: dict[str, Score]


@dataclasses.dataclass(frozen=True)
class Timing:
    """The speed of a run's sampling.

    Attributes:
        seconds: per cube, the median of repeats.
        fastest: their minimum.
        slowest: their maximum.
        device: the processor.
        of: the settings it was measured with.
    """

    seconds: float
    fastest: float
    slowest: float
    device: str
    of: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse times that no clock shows."""
        if not 0 < self.fastest <= self.seconds <= self.slowest:
            raise ValueError("expected 0 < fastest <= seconds <= slowest")


def get_run_folder(plan: SweepPlan, keys: RunKeys) -> Path:
    """Return the folder of a run."""
    return plan.out / "runs" / keys.samples.digest


def is_done(plan: SweepPlan, keys: RunKeys, *, with_timing: bool = True) -> bool:
    """Return whether a run has its scores (and its timing); its samples and its fit may have been removed."""
    folder = get_run_folder(plan, keys)
    record = read_record(folder / DONE_FILE, RunRecord)
    is_scored = record is not None and record["scores_key"] == keys.scores.digest
    return is_scored and (not with_timing or is_timed(plan, keys))


def is_timed(plan: SweepPlan, keys: RunKeys) -> bool:
    """Return whether a run was timed with the plan's settings and on the plan's device."""
    timing = read_record(get_run_folder(plan, keys) / TIMING_FILE, Timing)
    return timing is not None and timing.of == _build_timing_request(plan)


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
        on_message: called with a line about each step that starts.
        with_timing: this run has the machine for itself: time it, too, and score with all cores. Where several runs
            share a machine, they are timed when all are done.

    Raises:
        StepError: a step failed; the failure is recorded, and the results of the steps before it are preserved.
        DiskFullError: the disk is full; no failure is recorded.
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
    needs_timing = with_timing and not is_timed(plan, keys)
    if needs_timing or (needs_samples and not samples.exists()):
        sampler = RunSampler(run, plan, ensure_fit(run, plan, keys, on_message))
        if needs_samples and not samples.exists():
            on_message(f"{run.label}: sampling {plan.sample_count}")
            with guard_step("sampling", folder):
                sampler.draw_samples(samples)
        if needs_timing:
            with guard_step("timing", folder):
                write_record(folder / TIMING_FILE, {**sampler.measure_speed(), "of": _build_timing_request(plan)})
    if needs_samples:
        on_message(f"{run.label}: scoring")
        with guard_step("scoring", folder):
            report, scores = score_samples(samples, plan, workers=None if with_timing else 0)
            check_sets_unchanged(plan, keys.scores.inputs["sets"])
            report.save(folder / REPORT_FILE)
            write_record(folder / DONE_FILE, _build_record(run, keys, scores))


def _build_record(run: RunConfig, keys: RunKeys, scores: dict[str, Score]) -> dict[str, Any]:
    """Return the record of a done run; the data behind the intervals is in its report."""
    return {
        "run": run.label,
        "scores_key": keys.scores.digest,
        "samples_of": keys.samples.inputs,
        "scores_of": keys.scores.inputs,
        "scores": {name: _summarize_score(score) for name, score in scores.items()},
    }


def _summarize_score(score: Score) -> dict[str, Any]:
    statistics = score.statistics
    if statistics is not None:
        statistics = dataclasses.replace(statistics, value_details={}, floor_details={}, resamples=None)
    return dataclasses.asdict(dataclasses.replace(score, details={}, statistics=statistics))
