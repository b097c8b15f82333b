"""Checkpoints of a stage with the state of the training loop, and the selection of the best one."""

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
    """Saves and restores a stage; all ranks call every method, the main rank writes.

    Attributes:
        saved_step: the step of the last checkpoint, None before the first.
        best: on the main rank, ``{"figure", "value", "step"}`` of the best evaluation so far, or None.
    """

    def __init__(self, stage: Stage, run: Path, ranks: Ranks, best_by: BestCriterion) -> None:
        self.stage, self.folder, self.ranks = stage, run / stage.name, ranks
        self.metric, self.direction = best_by
        self.saved_step: int | None = None
        self.best: dict[str, Any] | None = None

    def read_resumable_record(self, *, resume: bool) -> dict[str, Any] | None:
        """Return the record of the checkpoint to resume from, or None if there is none; tensors are not read.

        Raises:
            HsevalError: there is one but ``resume`` is false; or it is damaged.
        """
        if not checkpoint.has_checkpoint(self.folder):
            return None
        if not resume:
            path = checkpoint.get_path(self.folder)
            raise HsevalError(f"{path}: already exists; use --resume to continue from it, or another folder")
        return run_on_all_ranks(self.ranks, lambda: checkpoint.read_record(self.folder))

    def restore(self) -> dict[str, Any]:
        """Restore the state of the stage and return the record, which contains the state of the loop.

        Raises:
            HsevalError: the checkpoint is damaged, or of a stage with another epoch length.
        """
        return run_on_all_ranks(self.ranks, self._restore)

    def save(self, step: int, loop_state: Mapping[str, Any], *, nan_guard: NanGuard, best: bool = False) -> None:
        """Write the state after ``step`` steps.

        Raises:
            HsevalError: the disk is full, or the state is not finite; earlier checkpoints are preserved.
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
        """Return, the same on all ranks, whether the main rank's scores are the best so far; store them if they are.

        Raises:
            HsevalError: the metric that selects the best checkpoint is not among them.
        """
        is_best = torch.tensor([float(bool(run_on_main_rank(self.ranks, lambda: self._update_best(step, scores))))])
        self.ranks.sum_(is_best)
        return bool(is_best.item())

    def format_recovery_hint(self) -> str:
        """Return the advice for a loss that is not finite."""
        option = self.stage.loss_option
        if self.saved_step is None:
            return f"there is no earlier checkpoint; lower {option} and start again"
        path = checkpoint.get_path(self.folder)
        return f"the last good checkpoint is {path} (step {self.saved_step}); lower {option}, then --resume"

    def _update_best(self, step: int, scores: Mapping[str, float]) -> bool:
        if self.metric not in scores:
            reason = f"{self.stage.name}: {self.metric!r}, which selects the best checkpoint, is not evaluated"
            raise HsevalError(f"{reason}{format_suggestion(self.metric, scores)}")
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
        path, epoch_steps = checkpoint.get_path(self.folder), record.get("epoch_steps")
        if record["stage"] != self.stage.name:
            raise HsevalError(f"{path}: belongs to the stage {record['stage']!r}, expected {self.stage.name!r}")
        if epoch_steps != self.stage.epoch_steps:
            mismatch = f"{path}: has epochs of {epoch_steps} steps, this run's have {self.stage.epoch_steps}"
            raise HsevalError(f"{mismatch}; --resume requires the same data and batch size")
        self.stage.load_state(tensors)
        self.saved_step = record["step"]
        # A best value of another metric is not comparable.
        self.best = record["best"] if record["best"] and record["best"]["figure"] == self.metric else None
        return record
