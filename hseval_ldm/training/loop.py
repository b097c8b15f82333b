"""The training loop of all stages: steps, metrics, checkpoints and exact resumption.

``step`` is the number of steps done. The tasks after a step (line, evaluation, preview) depend on the state after it
alone, so a run resumed from the checkpoint of step k first repeats the tasks due after step k: a kill in the middle of
an evaluation loses nothing and repeats no line.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hseval.utils.errors import HsevalError
from hseval_ldm.training.checkpointer import Checkpointer
from hseval_ldm.training.console import ProgressConsole, format_metrics
from hseval_ldm.training.interrupts import InterruptHandler, TrainingInterrupted
from hseval_ldm.training.meters import MeanMeter, ThroughputMeter, explain_out_of_memory, get_peak_memory_gib
from hseval_ldm.training.metrics_log import MetricsLog, to_json_value
from hseval_ldm.training.nan_guard import NanGuard
from hseval_ldm.training.stage import BestCriterion, Stage, StepIntervals
from hseval_ldm.utils.distributed import Ranks, run_on_main_rank


def train_stage(
    stage: Stage,
    folder: Path,
    *,
    ranks: Ranks,
    resume: bool,
    intervals: StepIntervals,
    best_by: BestCriterion,
    progress: ProgressConsole | None = None,
    time_limit: float | None = None,
    tensorboard: bool = False,
) -> None:
    """Train a stage to its last step.

    Leaves ``FOLDER/STAGE/{last,previous,best}.safetensors``, lines in ``FOLDER/metrics.jsonl`` and
    ``FOLDER/pictures/STAGE-STEP.png``. ``best`` equals ``last`` if no evaluation selected a best.

    Args:
        stage: to train.
        folder: the run's folder, which exists.
        ranks: all of them call this; the main rank writes.
        resume: resume from the stage's checkpoint, if it has one.
        intervals: steps between lines, checkpoints, previews and evaluations.
        best_by: the metric of :meth:`Stage.evaluate` that selects the best checkpoint, and its better direction.
        progress: console for the progress; entered by the caller.
        time_limit: seconds after which to stop at the next step.
        tensorboard: also write TensorBoard files.

    Raises:
        HsevalError: a loss that is not finite, a full disk, out of memory, a damaged checkpoint; or an existing one
            without ``resume``.
        TrainingInterrupted: a signal or the time limit stopped it; the checkpoint of that step is on disk.
    """
    checkpointer = Checkpointer(stage, folder, ranks, best_by)
    console = progress if progress is not None and ranks.is_main else ProgressConsole(is_visible=False)
    loop = _TrainingLoop(stage, folder, checkpointer, intervals, console)
    if loop.restore(resume=resume):
        with (
            contextlib.closing(stage),
            InterruptHandler(ranks, time_limit) as interrupt_handler,
            loop.open_log(tensorboard=tensorboard),
        ):
            loop.run_steps(interrupt_handler)


class _TrainingLoop:
    def __init__(
        self, stage: Stage, folder: Path, checkpointer: Checkpointer, intervals: StepIntervals, console: ProgressConsole
    ) -> None:
        self.stage, self.folder, self.checkpointer, self.intervals, self.console = (
            stage,
            folder,
            checkpointer,
            intervals,
            console,
        )
        self.ranks = checkpointer.ranks
        self.nan_guard, self.mean_meter, self.throughput = NanGuard(stage.name), MeanMeter(), ThroughputMeter()
        self.metrics_log: MetricsLog | None = None
        self.start_step, self.needs_replay = 0, False  # whether the tasks due after start_step are repeated
        self.epoch_metrics: dict[str, Any] = {}  # metrics of the epoch's start, until a line includes them

    def restore(self, *, resume: bool) -> bool:
        """Restore the checkpoint, if there is one; return whether there are steps left."""
        record, name, steps = self.checkpointer.read_resumable_record(resume=resume), self.stage.name, self.stage.steps
        if record is None:
            return True
        if record["step"] >= steps and (record["finished"] or record["step"] > steps):
            self.console.print_line(f"{name}: finished at step {record['step']}, skipped")
            return False
        record = self.checkpointer.restore()
        self.start_step, self.needs_replay, self.epoch_metrics = record["step"], not record["finished"], record["epoch"]
        self.mean_meter = MeanMeter(record["interval"], device=self.ranks.device)
        self.console.print_line(f"{name}: resuming from step {self.start_step} of {steps}")
        return True

    @contextlib.contextmanager
    def open_log(self, *, tensorboard: bool) -> Iterator[None]:
        """Open the main rank's metrics log, from the first step whose line will be written."""
        first = self.start_step if self.needs_replay else self.start_step + 1 if self.start_step else 0
        name = self.stage.name
        log = run_on_main_rank(self.ranks, lambda: MetricsLog(self.folder, name, step=first, tensorboard=tensorboard))
        with log or contextlib.nullcontext() as self.metrics_log:
            yield

    def run_steps(self, interrupt_handler: InterruptHandler) -> None:
        """Run the remaining steps."""
        stage, step = self.stage, self.start_step
        if self.needs_replay:
            self._run_due_tasks(step, interrupt_handler, is_resumed=True)
        self.throughput = ThroughputMeter()
        while step < stage.steps:
            with explain_out_of_memory(f"{stage.name}, step {step + 1}", stage.memory_option):
                self._run_step(step)
            step += 1
            self._run_due_tasks(step, interrupt_handler)
        self._save(step, is_finished=True, is_best=self.checkpointer.best is None)

    def _run_step(self, step: int) -> None:
        stage = self.stage
        if step % stage.epoch_steps == 0:
            self._start_epoch(step)
        terms = stage.step(step)
        self.nan_guard.watch(step + 1, terms)
        self.mean_meter.add(terms)
        self.throughput.count_step()
        self.console.update(stage.name, step + 1, stage.steps)

    def _start_epoch(self, step: int) -> None:
        try:
            metrics = self.stage.start_epoch(step // self.stage.epoch_steps)
        except HsevalError as error:
            hint = self.checkpointer.format_recovery_hint()
            self.nan_guard.check(self.ranks, hint=hint)  # an earlier loss may be the cause, and is more informative
            raise HsevalError(f"{self.stage.name}, after step {step}: {error}; {hint}") from error
        self.epoch_metrics = {name: to_json_value(value) for name, value in metrics.items()}

    def _run_due_tasks(self, step: int, interrupt_handler: InterruptHandler, *, is_resumed: bool = False) -> None:
        """Run the tasks due after a step; ``is_resumed``: the run resumes from it, and its checkpoint is on disk."""
        is_last = step == self.stage.steps
        due = self.intervals.find_due(step, is_last=is_last)
        is_stopping = not is_resumed and interrupt_handler.should_stop(step, force_sync=any(due.values()))
        if not is_stopping and not any(due.values()):
            return
        self.throughput.pause()
        self.nan_guard.check(self.ranks, hint=self.checkpointer.format_recovery_hint())
        is_slow = due["evaluate"] or due["preview"]
        if not is_resumed and (is_stopping or is_slow or (due["checkpoint"] and not is_last)):
            self._save(step)
        if is_stopping:
            raise self._build_stop_exception(step)
        scores = self._evaluate_and_preview(step, due, interrupt_handler) if is_slow else {}
        if scores and self.checkpointer.update_best(step, scores):
            self._save(step, is_best=True)
        if due["log"] or scores:
            self._log_metrics(step, scores, is_log_due=due["log"])
        self.throughput.resume()

    def _evaluate_and_preview(
        self, step: int, due: Mapping[str, bool], interrupt_handler: InterruptHandler
    ) -> dict[str, float]:
        """Evaluate and save a preview; the step's checkpoint is on disk, so a signal may interrupt both."""
        stage = self.stage
        scores: dict[str, float] = {}
        try:
            with (
                interrupt_handler.allow_immediate_interrupt(),
                explain_out_of_memory(f"{stage.name}, held-out cubes", stage.memory_option),
            ):
                if due["evaluate"]:
                    scores = dict(stage.evaluate(step))
                if due["preview"]:
                    run_on_main_rank(self.ranks, lambda: self._save_preview(step))
        except KeyboardInterrupt:
            raise self._build_stop_exception(step) from None
        return scores

    def _save_preview(self, step: int) -> None:
        previews = self.folder / "pictures"
        previews.mkdir(exist_ok=True)
        self.stage.save_preview(step, previews / f"{self.stage.name}-{step:07d}.png")

    def _log_metrics(self, step: int, scores: Mapping[str, float], *, is_log_due: bool) -> None:
        """Write the line of a step, and show it."""
        name, steps, best = self.stage.name, self.stage.steps, self.checkpointer.best
        metrics, self.epoch_metrics = self.epoch_metrics, {}
        rates: dict[str, float | None] = {}
        if is_log_due:
            metrics = {**self.mean_meter.compute_and_reset(self.ranks), **metrics}
            rates = self._compute_rates(step)
            self.console.report_metrics(name, step, steps, format_metrics(metrics, rates))
        if scores:
            suffix = "  best so far" if best is not None and best["step"] == step else ""
            self.console.print_line(f"{name} {step}/{steps}  held out: {format_metrics(scores, {})}{suffix}")
        run_on_main_rank(self.ranks, lambda: self._write_metrics(step, {**metrics, **scores, **rates}))

    def _write_metrics(self, step: int, line: Mapping[str, Any]) -> None:
        if self.metrics_log is not None:
            self.metrics_log.write(step, line)

    def _compute_rates(self, step: int) -> dict[str, float | None]:
        step_rate = self.throughput.compute_and_reset()
        return {
            "steps_per_s": step_rate,
            "cubes_per_s": None if step_rate is None else step_rate * self.stage.batch_size,
            "memory_gib": get_peak_memory_gib(self.ranks.device),
            "seconds_left": self.throughput.estimate_seconds_left(self.stage.steps - step),
        }

    def _save(self, step: int, *, is_finished: bool = False, is_best: bool = False) -> None:
        """Write the state of the stage after ``step`` steps, and that of the loop."""
        loop_state = {
            "finished": is_finished,
            "epoch": self.epoch_metrics,
            "interval": self.mean_meter.get_state(self.ranks),
        }
        self.checkpointer.save(step, loop_state, nan_guard=self.nan_guard, best=is_best)

    def _build_stop_exception(self, step: int) -> TrainingInterrupted:
        message = f"{self.stage.name}: stopped at step {step}; --resume continues from there"
        self.console.print_line(message)
        return TrainingInterrupted(message)
