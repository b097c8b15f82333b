"""What the training loop keeps of a stage: checkpoints with the loop's own memory, and which of them is the best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from hseval.utils.errors import HsevalError, nearest
from hseval_ldm.training import checkpoint
from hseval_ldm.training.nan_guard import Finite
from hseval_ldm.training.stage import Best, Stage
from hseval_ldm.utils.distributed import Ranks, by_chief, together


class Keeper:
    """Saves a stage and takes it up again; every method is called by all ranks, the chief writes.

    Attributes:
        saved: the step of the last checkpoint, None before the first.
        best: the chief's ``{"figure", "value", "step"}`` of the best evaluation so far, or None.
    """

    def __init__(self, stage: Stage, run: Path, ranks: Ranks, best_by: Best) -> None:
        self.stage, self.home, self.ranks = stage, run / stage.name, ranks
        self.figure, self.side = best_by
        self.saved: int | None = None
        self.best: dict[str, Any] | None = None

    def record(self, *, resume: bool) -> dict[str, Any] | None:
        """Return the record of the checkpoint to go on from, None where there is none; tensors are not read.

        Raises:
            HsevalError: there is one and ``resume`` was not asked for; or it is broken.
        """
        if not checkpoint.exists(self.home):
            return None
        if not resume:
            found = f"{checkpoint.file_of(self.home)}: is there already"
            raise HsevalError(f"{found}; --resume goes on from it, another folder starts anew")
        return together(self.ranks, lambda: checkpoint.read_record(self.home))

    def restore(self) -> dict[str, Any]:
        """Give the stage its state back and return the record, the loop's memory in it.

        Raises:
            HsevalError: the checkpoint is broken, or of a stage with other epochs.
        """
        return together(self.ranks, self._restore)

    def save(self, step: int, memory: Mapping[str, Any], *, finite: Finite, best: bool = False) -> None:
        """Write the state after ``step`` steps.

        Raises:
            HsevalError: the disk is full, or the state is not finite; the checkpoints before are kept.
        """
        state = self.stage.state()
        record = {"stage": self.stage.name, "step": step, "epoch_steps": self.stage.epoch_steps, "best": self.best}

        def write() -> None:
            if self.saved != step:
                finite.check_state(step, state, way_on=self.way_on())
            checkpoint.save(self.home, state, {**memory, **record}, best=best)

        by_chief(self.ranks, write)
        self.saved = step

    def better(self, step: int, scores: Mapping[str, float]) -> bool:
        """Tell, the same on all ranks, whether the chief's scores are the best so far, and remember them if so.

        Raises:
            HsevalError: the figure that tells is not among them.
        """
        better = torch.tensor([float(bool(by_chief(self.ranks, lambda: self._judged(step, scores))))])
        self.ranks.sum_(better)
        return bool(better.item())

    def way_on(self) -> str:
        """Return what to do about a loss that is not finite."""
        knob = self.stage.loss_knob
        if self.saved is None:
            return f"no checkpoint was written before; lower {knob} and start again"
        path = checkpoint.file_of(self.home)
        return f"the last good checkpoint is {path} (step {self.saved}); lower {knob}, then --resume"

    def _judged(self, step: int, scores: Mapping[str, float]) -> bool:
        if self.figure not in scores:
            found = f"{self.stage.name}: {self.figure!r}, which tells the best checkpoint, is not evaluated"
            raise HsevalError(f"{found}{nearest(self.figure, scores)}")
        value = float(scores[self.figure])
        if not math.isfinite(value):
            return False
        if self.best is not None:
            gain = value - self.best["value"]
            if (gain if self.side == "higher" else -gain) <= 0:
                return False
        self.best = {"figure": self.figure, "value": value, "step": step}
        return True

    def _restore(self) -> dict[str, Any]:
        tensors, record = checkpoint.load(self.home, self.ranks.device)
        path, epoch = checkpoint.file_of(self.home), record.get("epoch_steps")
        if record["stage"] != self.stage.name:
            raise HsevalError(f"{path}: is of the stage {record['stage']!r}, expected {self.stage.name!r}")
        if epoch != self.stage.epoch_steps:
            found = f"{path}: has epochs of {epoch} steps, this run's have {self.stage.epoch_steps}"
            raise HsevalError(f"{found}; --resume takes the same data and batch")
        self.stage.load_state(tensors)
        self.saved = record["step"]
        # Of another figure nothing is known that could be compared.
        self.best = record["best"] if record["best"] and record["best"]["figure"] == self.figure else None
        return record
