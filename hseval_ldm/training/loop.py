"""The training loop that every stage shares: steps, figures, checkpoints, and going on exactly where it stopped.

Steps are counted by how many are done. What follows a step (line, evaluation, picture) depends on the state after
it alone, so a run that goes on from the checkpoint of step k first does again what is due after step k: a kill in
the middle of an evaluation loses nothing and doubles nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hseval.utils.errors import HsevalError
from hseval_ldm.training.checkpointer import Keeper
from hseval_ldm.training.console import Console, in_words
from hseval_ldm.training.interrupts import Stop, Stopped
from hseval_ldm.training.meters import Means, Pace, out_of_memory_told, peak_gib
from hseval_ldm.training.metrics_log import Journal, as_json
from hseval_ldm.training.nan_guard import Finite
from hseval_ldm.training.stage import Best, Every, Stage
from hseval_ldm.utils.distributed import Ranks, by_chief


def run(
    stage: Stage,
    folder: Path,
    *,
    ranks: Ranks,
    resume: bool,
    every: Every,
    best_by: Best,
    progress: Console | None = None,
    time_limit: float | None = None,
    tensorboard: bool = False,
) -> None:
    """Train a stage to its last step.

    Leaves ``FOLDER/STAGE/{last,previous,best}.safetensors``, lines in ``FOLDER/metrics.jsonl`` and
    ``FOLDER/pictures/STAGE-STEP.png``. ``best`` is the last one where no evaluation named a best.

    Args:
        stage: what to train.
        folder: the run's folder, which exists.
        ranks: all of them call this; the chief writes.
        resume: go on from the stage's checkpoint, if it has one.
        every: steps between lines, checkpoints, pictures and evaluations.
        best_by: the figure of :meth:`Stage.evaluate` that names the best checkpoint, and its better side.
        progress: where to say how far it is; entered by the caller.
        time_limit: seconds after which to stop at the next step.
        tensorboard: write TensorBoard's files too.

    Raises:
        HsevalError: a loss that is not finite, a full disk, out of memory, a broken checkpoint; or one that is
            there without ``resume``.
        Stopped: a signal or the time limit ended it; the checkpoint of that step is on disk.
    """
    keeper = Keeper(stage, folder, ranks, best_by)
    console = progress if progress is not None and ranks.chief else Console(shown=False)
    loop = _Loop(stage, folder, keeper, every, console)
    if loop.begin(resume=resume):
        with contextlib.closing(stage), Stop(ranks, time_limit) as stop, loop.opened(tensorboard=tensorboard):
            loop.go(stop)


class _Loop:
    def __init__(self, stage: Stage, folder: Path, keeper: Keeper, every: Every, console: Console) -> None:
        self.stage, self.folder, self.keeper, self.every, self.console = stage, folder, keeper, every, console
        self.ranks = keeper.ranks
        self.finite, self.means, self.pace = Finite(stage.name), Means(), Pace()
        self.journal: Journal | None = None
        self.start, self.again = 0, False  # whether what is due after the first step is done again
        self.epoch: dict[str, Any] = {}  # figures of the epoch's start, until a line takes them

    def begin(self, *, resume: bool) -> bool:
        """Take up the checkpoint, if there is one; return whether anything is left to do."""
        record, name, steps = self.keeper.record(resume=resume), self.stage.name, self.stage.steps
        if record is None:
            return True
        if record["step"] >= steps and (record["finished"] or record["step"] > steps):
            self.console.say(f"{name}: finished at step {record['step']}, skipped")
            return False
        record = self.keeper.restore()
        self.start, self.again, self.epoch = record["step"], not record["finished"], record["epoch"]
        self.means = Means(record["interval"], device=self.ranks.device)
        self.console.say(f"{name}: going on from step {self.start} of {steps}")
        return True

    @contextlib.contextmanager
    def opened(self, *, tensorboard: bool) -> Iterator[None]:
        """Keep the chief's journal open, from the first step whose line is to be written."""
        first = self.start if self.again else self.start + 1 if self.start else 0
        name = self.stage.name
        journal = by_chief(self.ranks, lambda: Journal(self.folder, name, step=first, tensorboard=tensorboard))
        with journal or contextlib.nullcontext() as self.journal:
            yield

    def go(self, stop: Stop) -> None:
        """Do the steps that are left."""
        stage, step = self.stage, self.start
        if self.again:
            self._after(step, stop, again=True)
        self.pace = Pace()
        while step < stage.steps:
            with out_of_memory_told(f"{stage.name}, step {step + 1}", stage.memory_knob):
                self._step(step)
            step += 1
            self._after(step, stop)
        self._save(step, finished=True, best=self.keeper.best is None)

    def _step(self, step: int) -> None:
        stage = self.stage
        if step % stage.epoch_steps == 0:
            self._start_epoch(step)
        terms = stage.step(step)
        self.finite.watch(step + 1, terms)
        self.means.add(terms)
        self.pace.step()
        self.console.step(stage.name, step + 1, stage.steps)

    def _start_epoch(self, step: int) -> None:
        try:
            figures = self.stage.start_epoch(step // self.stage.epoch_steps)
        except HsevalError as error:
            way_on = self.keeper.way_on()
            self.finite.check(self.ranks, way_on=way_on)  # a loss of the steps before may be why, and says more
            raise HsevalError(f"{self.stage.name}, after step {step}: {error}; {way_on}") from error
        self.epoch = {name: as_json(value) for name, value in figures.items()}

    def _after(self, step: int, stop: Stop, *, again: bool = False) -> None:
        """Do what is due after a step; ``again``: the run goes on from it, its checkpoint is on disk."""
        last = step == self.stage.steps
        due = self.every.due(step, last=last)
        stopping = not again and stop.asked(step, busy=any(due.values()))
        if not stopping and not any(due.values()):
            return
        self.pace.pause()
        self.finite.check(self.ranks, way_on=self.keeper.way_on())
        slow = due["evaluate"] or due["picture"]
        if not again and (stopping or slow or (due["checkpoint"] and not last)):
            self._save(step)
        if stopping:
            raise self._stopped(step)
        scores = self._shown(step, due, stop) if slow else {}
        if scores and self.keeper.better(step, scores):
            self._save(step, best=True)
        if due["log"] or scores:
            self._tell(step, scores, log=due["log"])
        self.pace.go_on()

    def _shown(self, step: int, due: Mapping[str, bool], stop: Stop) -> dict[str, float]:
        """Evaluate and draw; the step's checkpoint is on disk, so a signal need not wait for either."""
        stage = self.stage
        scores: dict[str, float] = {}
        try:
            with stop.at_once(), out_of_memory_told(f"{stage.name}, held-out cubes", stage.memory_knob):
                if due["evaluate"]:
                    scores = dict(stage.evaluate(step))
                if due["picture"]:
                    by_chief(self.ranks, lambda: self._draw(step))
        except KeyboardInterrupt:
            raise self._stopped(step) from None
        return scores

    def _draw(self, step: int) -> None:
        pictures = self.folder / "pictures"
        pictures.mkdir(exist_ok=True)
        self.stage.picture(step, pictures / f"{self.stage.name}-{step:07d}.png")

    def _tell(self, step: int, scores: Mapping[str, float], *, log: bool) -> None:
        """Write the step's line, and show it."""
        name, steps, best = self.stage.name, self.stage.steps, self.keeper.best
        figures, self.epoch = self.epoch, {}
        rates: dict[str, float | None] = {}
        if log:
            figures = {**self.means.take(self.ranks), **figures}
            rates = self._rates(step)
            self.console.figures(name, step, steps, in_words(figures, rates))
        if scores:
            ending = "  best so far" if best is not None and best["step"] == step else ""
            self.console.say(f"{name} {step}/{steps}  held out: {in_words(scores, {})}{ending}")
        by_chief(self.ranks, lambda: self._write(step, {**figures, **scores, **rates}))

    def _write(self, step: int, line: Mapping[str, Any]) -> None:
        if self.journal is not None:
            self.journal.write(step, line)

    def _rates(self, step: int) -> dict[str, float | None]:
        pace = self.pace.take()
        return {
            "steps_per_s": pace,
            "cubes_per_s": None if pace is None else pace * self.stage.batch,
            "memory_gib": peak_gib(self.ranks.device),
            "seconds_left": self.pace.seconds_left(self.stage.steps - step),
        }

    def _save(self, step: int, *, finished: bool = False, best: bool = False) -> None:
        """Write the state after ``step`` steps, and all that the loop itself has to remember."""
        memory = {"finished": finished, "epoch": self.epoch, "interval": self.means.dump(self.ranks)}
        self.keeper.save(step, memory, finite=self.finite, best=best)

    def _stopped(self, step: int) -> Stopped:
        ending = f"{self.stage.name}: stopped at step {step}; --resume goes on from there"
        self.console.say(ending)
        return Stopped(ending)
