"""What the training loop keeps of a stage: checkpoints with the loop's own memory, and which of them is the best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from hseval.utils.errors import HsevalError, format_suggestion
from hseval_ldm.training import checkpoint
from hseval_ldm.training.nan_guard import NanGuard
from hseval_ldm.training.stage import BestCriterion, Stage
from hseval_ldm.utils.distributed import Ranks, run_on_all_ranks, run_on_main_rank


class Checkpointer:
    """Saves a stage and takes it up again; every method is called by all ranks, the chief writes.

    Attributes:
        saved_step: the step of the last checkpoint, None before the first.
        best: the chief's ``{"figure", "value", "step"}`` of the best evaluation so far, or None.
    """

    def __init__(self, stage: Stage, run: Path, ranks: Ranks, best_by: BestCriterion) -> None:
        self.stage, self.folder, self.ranks = stage, run / stage.name, ranks
        self.metric, self.direction = best_by
        self.saved_step: int | None = None
        self.best: dict[str, Any] | None = None

    def read_resumable_record(self, *, resume: bool) -> dict[str, Any] | None:
        """Return the record of the checkpoint to go on from, None where there is none; tensors are not read.

        Raises:
            HsevalError: there is one and ``resume`` was not asked for; or it is broken.
        """
        if not checkpoint.has_checkpoint(self.folder):
            return None
        if not resume:
            found = f"{checkpoint.get_path(self.folder)}: is there already"
            raise HsevalError(f"{found}; --resume goes on from it, another folder starts anew")
        return run_on_all_ranks(self.ranks, lambda: checkpoint.read_record(self.folder))

    def restore(self) -> dict[str, Any]:
        """Give the stage its state back and return the record, the loop's memory in it.

        Raises:
            HsevalError: the checkpoint is broken, or of a stage with other epochs.
        """
        return run_on_all_ranks(self.ranks, self._restore)

    def save(self, step: int, loop_state: Mapping[str, Any], *, nan_guard: NanGuard, best: bool = False) -> None:
        """Write the state after ``step`` steps.

        Raises:
            HsevalError: the disk is full, or the state is not finite; the checkpoints before are kept.
        """
        state = self.stage.get_state()
        record = {"stage": self.stage.name, "step": step, "epoch_steps": self.stage.epoch_steps, "best": self.best}

        def write() -> None:
            if self.saved_step != step:
                nan_guard.check_state(step, state, hint=self.format_recovery_hint())
            checkpoint.save(self.folder, state, {**loop_state, **record}, best=best)

        run_on_main_rank(self.ranks, write)
        self.saved_step = step

    def update_best(self, step: int, scores: Mapping[str, float]) -> bool:
        """Tell, the same on all ranks, whether the chief's scores are the best so far, and remember them if so.

        Raises:
            HsevalError: the figure that tells is not among them.
        """
        better = torch.tensor([float(bool(run_on_main_rank(self.ranks, lambda: self._update_best(step, scores))))])
        self.ranks.sum_(better)
        return bool(better.item())

    def format_recovery_hint(self) -> str:
        """Return what to do about a loss that is not finite."""
        knob = self.stage.loss_option
        if self.saved_step is None:
            return f"no checkpoint was written before; lower {knob} and start again"
        path = checkpoint.get_path(self.folder)
        return f"the last good checkpoint is {path} (step {self.saved_step}); lower {knob}, then --resume"

    def _update_best(self, step: int, scores: Mapping[str, float]) -> bool:
        if self.metric not in scores:
            found = f"{self.stage.name}: {self.metric!r}, which tells the best checkpoint, is not evaluated"
            raise HsevalError(f"{found}{format_suggestion(self.metric, scores)}")
        value = float(scores[self.metric])
        if not math.isfinite(value):
            return False
        if self.best is not None:
            gain = value - self.best["value"]
            if (gain if self.direction == "higher" else -gain) <= 0:
                return False
        self.best = {"figure": self.metric, "value": value, "step": step}
        return True

    def _restore(self) -> dict[str, Any]:
        tensors, record = checkpoint.load(self.folder, self.ranks.device)
        path, epoch = checkpoint.get_path(self.folder), record.get("epoch_steps")
        if record["stage"] != self.stage.name:
            raise HsevalError(f"{path}: is of the stage {record['stage']!r}, expected {self.stage.name!r}")
        if epoch != self.stage.epoch_steps:
            found = f"{path}: has epochs of {epoch} steps, this run's have {self.stage.epoch_steps}"
            raise HsevalError(f"{found}; --resume takes the same data and batch")
        self.stage.load_state(tensors)
        self.saved_step = record["step"]
        # Of another figure nothing is known that could be compared.
        self.best = record["best"] if record["best"] and record["best"]["figure"] == self.metric else None
        return record
