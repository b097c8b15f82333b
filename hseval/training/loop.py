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

from hseval.training.checkpointer import Checkpointer
from hseval.training.checkpoints import StageCheckpoints
from hseval.training.interrupts import InterruptHandler, TrainingInterrupted
from hseval.training.meters import MeanMeter, ThroughputMeter, explain_out_of_memory, get_peak_memory_gib
from hseval.training.metrics_log import MetricsLog, to_json_value
from hseval.training.nan_guard import NanGuard
from hseval.training.stage import BestCriterion, Stage, StepIntervals
from hseval.utils.distributed import Ranks, run_on_main_rank
from hseval.utils.errors import HsevalError
from hseval.utils.progress import ProgressReporter, format_metrics

UNSAVED = StepIntervals(checkpoint=0, preview=0, evaluate=0)  # of a training that leaves no files


def train_stage(
    stage: Stage,
    folder: Path | None,
    *,
    ranks: Ranks | None = None,
    resume: bool = False,
    intervals: StepIntervals = UNSAVED,
    best_by: BestCriterion | None = None,
    checkpoints: StageCheckpoints | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: ProgressReporter | None = None,
    tensorboard: bool = False,
) -> None:
    """Train a stage to its last step; a finished one is restored.

    Leaves ``FOLDER/STAGE/{last,previous,best}.safetensors``, lines in ``FOLDER/metrics.jsonl`` and
    ``FOLDER/pictures/STAGE-STEP.png``. ``best`` equals ``last`` if no evaluation selected a best.

    Args:
        stage: to train.
        folder: the run's folder, which exists; None: leave no files, and let signals interrupt at once.
        ranks: all of them call this; the main rank writes. None: one rank on the CPU.
        resume: resume from the stage's checkpoint, if it has one.
        intervals: steps between lines, checkpoints, previews and evaluations.
        best_by: the metric of :meth:`Stage.evaluate` that selects the best checkpoint, and its better direction.
        checkpoints: of the stage, in ``FOLDER/STAGE``; None: of the default format.
        settings: values that JSON can store and that must be equal for a training to resume.
        progress: shows the progress; entered by the caller.
        tensorboard: also write TensorBoard files.

    Raises:
        HsevalError: a loss that is not finite, a full disk, out of memory, a damaged checkpoint or one of other
            settings; or an existing one without ``resume``.
        TrainingInterrupted: a signal stopped it; the checkpoint of that step is on disk.
    """
    ranks = ranks or Ranks()
    if folder is not None:
        checkpoints = checkpoints or StageCheckpoints(folder / stage.name)
    checkpointer = Checkpointer(stage, checkpoints, ranks, best_by=best_by, settings=settings or {})
    console = progress if progress is not None and ranks.is_main else ProgressReporter(enabled=False)
    loop = _TrainingLoop(stage, folder, checkpointer, intervals, console)
    if loop.restore(resume=resume):
        interrupt_handler = InterruptHandler(ranks)
        with (
            contextlib.closing(stage),
            contextlib.nullcontext() if folder is None else interrupt_handler,
            loop.open_log(tensorboard=tensorboard),
        ):
            loop.run_steps(interrupt_handler)


class _TrainingLoop:
    def __init__(
        self,
        stage: Stage,
        folder: Path | None,
        checkpointer: Checkpointer,
        intervals: StepIntervals,
        console: ProgressReporter,
    ) -> None:
        self.stage, self.folder, self.checkpointer = stage, folder, checkpointer
        self.intervals, self.console = intervals, console
        self.ranks = checkpointer.ranks
        self.nan_guard, self.mean_meter, self.throughput = NanGuard(stage.name), MeanMeter(), ThroughputMeter()
        self.metrics_log: MetricsLog | None = None
        self.start_step, self.needs_replay = 0, False  # whether the tasks due after start_step are repeated
        self.epoch_metrics: dict[str, Any] = {}  # metrics of the epoch's start, until a line includes them

    def restore(self, *, resume: bool) -> bool:
        """Restore the checkpoint, if there is one; return whether there are steps left."""
        record, name, steps = self.checkpointer.restore(resume=resume), self.stage.name, self.stage.steps
        if record is None:
            return True
        if record["step"] >= steps and (record["finished"] or record["step"] > steps):
            self.console.print_line(f"{name}: finished at step {record['step']}, skipped")
            return False
        self.start_step, self.needs_replay, self.epoch_metrics = record["step"], not record["finished"], record["epoch"]
        self.mean_meter = MeanMeter(record["interval"], device=self.ranks.device)
        self.console.print_line(f"{name}: resuming from step {self.start_step} of {steps}")
        return True

    @contextlib.contextmanager
    def open_log(self, *, tensorboard: bool) -> Iterator[None]:
        """Open the main rank's metrics log, from the first step whose line will be written."""
        if (folder := self.folder) is None:
            yield
            return
        first = self.start_step if self.needs_replay else self.start_step + 1 if self.start_step else 0
        name = self.stage.name
        log = run_on_main_rank(self.ranks, lambda: MetricsLog(folder, name, step=first, tensorboard=tensorboard))
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
        if self.folder is not None:
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
            self.console.update(name, step, steps, format_metrics(metrics, rates))
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
        assert self.checkpointer.checkpoints is not None  # without files, signals are not caught
        option = self.checkpointer.checkpoints.resume_option
        message = f"{self.stage.name}: stopped at step {step}; {option} continues from there"
        self.console.print_line(message)
        return TrainingInterrupted(message)
