"""Checkpoints of a stage with the state of the training loop, and the selection of the best one."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from hseval.training.checkpoints import StageCheckpoints
from hseval.training.nan_guard import NanGuard
from hseval.training.stage import BestCriterion, Stage
from hseval.utils.distributed import Ranks, run_on_all_ranks, run_on_main_rank
from hseval.utils.errors import HsevalError, format_suggestion
from hseval.utils.structured_files import convert_record


@dataclasses.dataclass(frozen=True)
class _Best:
    figure: str
    value: float
    step: int


@dataclasses.dataclass(frozen=True)
class _LoopRecord:
    """What the record of a checkpoint holds besides stage and step."""

    best: _Best | None
    finished: bool
    epoch: dict[str, float | int | bool | str | None]
    interval: list[tuple[list[str], list[float], int]]
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)


class Checkpointer:
    """Saves and restores a stage; all ranks call every method, the main rank writes.

    Arguments as for :func:`~hseval.training.loop.train_stage`; ``checkpoints`` None: nothing is saved.

    Attributes:
        saved_step: the step of the last checkpoint, None before the first.
        best: on the main rank, ``{"figure", "value", "step"}`` of the best evaluation so far, or None.
    """

    def __init__(
        self,
        stage: Stage,
        checkpoints: StageCheckpoints | None,
        ranks: Ranks,
        *,
        best_by: BestCriterion | None,
        settings: Mapping[str, Any],
    ) -> None:
        self.stage, self.checkpoints, self.ranks = stage, checkpoints, ranks
        self.best_by = best_by
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))  # as they come back from a file
        self.saved_step: int | None = None
        self.best: dict[str, Any] | None = None

    def restore(self, *, resume: bool) -> dict[str, Any] | None:
        """Restore the stage from its last checkpoint; return the record, which contains the state of the loop.

        Returns:
            None if there is no checkpoint.

        Raises:
            HsevalError: there is one but ``resume`` is false; or it is damaged, or of a stage with another epoch length
                or other settings.
        """
        checkpoints = self.checkpoints
        if checkpoints is None or not checkpoints.exist():
            return None
        if not resume:
            hint = f"use {checkpoints.resume_option} to continue from it, or another folder"
            raise HsevalError(f"{checkpoints.get_path()}: already exists; {hint}")
        return run_on_all_ranks(self.ranks, lambda: self._restore(checkpoints))

    def save(self, step: int, loop_state: Mapping[str, Any], *, nan_guard: NanGuard, best: bool = False) -> None:
        """Write the state after ``step`` steps.

        Raises:
            HsevalError: the disk is full, or the state is not finite; earlier checkpoints are preserved.
        """
        checkpoints = self.checkpoints
        if checkpoints is None:
            return
        state = self.stage.get_state()
        record = {"stage": self.stage.name, "step": step, "epoch_steps": self.stage.epoch_steps, "best": self.best}

        def write() -> None:
            if self.saved_step != step:
                nan_guard.check_state(step, state, hint=self.format_recovery_hint())
            checkpoints.save(state, {**loop_state, **record, "settings": self.settings}, best=best)

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
        if self.checkpoints is None:
            return f"lower {option}"
        if self.saved_step is None:
            return f"there is no earlier checkpoint; lower {option} and start again"
        good = f"the last good checkpoint is {self.checkpoints.get_path()} (step {self.saved_step})"
        return f"{good}; lower {option}, then {self.checkpoints.resume_option}"

    def _update_best(self, step: int, scores: Mapping[str, float]) -> bool:
        if self.best_by is None:
            return False
        metric, direction = self.best_by
        if metric not in scores:
            reason = f"{self.stage.name}: {metric!r}, which selects the best checkpoint, is not evaluated"
            raise HsevalError(f"{reason}{format_suggestion(metric, scores)}")
        value = float(scores[metric])
        if not math.isfinite(value):
            return False
        if self.best is not None:
            gain = value - self.best["value"]
            if (gain if direction == "higher" else -gain) <= 0:
                return False
        self.best = {"figure": metric, "value": value, "step": step}
        return True

    def _restore(self, checkpoints: StageCheckpoints) -> dict[str, Any]:
        tensors, record = checkpoints.load(self.ranks.device)
        path, epoch_steps = checkpoints.get_path(), record.get("epoch_steps")
        loop_record = convert_record(record, _LoopRecord, path)
        if any(len(names) != len(sums) for names, sums, _ in loop_record.interval):
            raise HsevalError(f"{path}: its record is damaged (sums of losses without names)")
        if record["stage"] != self.stage.name:
            raise HsevalError(f"{path}: belongs to the stage {record['stage']!r}, expected {self.stage.name!r}")
        if epoch_steps != self.stage.epoch_steps:
            mismatch = f"{path}: has epochs of {epoch_steps} steps, this run's have {self.stage.epoch_steps}"
            raise HsevalError(f"{mismatch}; {checkpoints.resume_option} requires the same data and batch size")
        for key, value in record.get("settings", {}).items():
            if self.settings.get(key) != value:
                mismatch = f"was started with {key}={_truncate(value)}, not {_truncate(self.settings.get(key))}"
                raise HsevalError(f"{path}: {mismatch}; resume with the same value, or train into another folder")
        self._check_tensors(path, tensors)
        try:
            self.stage.load_state(tensors)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            detail = " ".join(str(error).split())[:200]
            raise HsevalError(f"{path}: does not fit the networks of {self.stage.name} ({detail})") from error
        self.saved_step = record["step"]
        # A best value of another metric is not comparable.
        best = record["best"]
        self.best = best if best and self.best_by and best["figure"] == self.best_by[0] else None
        return record

    def _check_tensors(self, path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
        """Refuse tensors that a stage could load only by rounding them, or that no checkpoint is written with."""
        for name, expected in self.stage.get_state().items():  # of an optimizer only once it has done a step
            found = tensors.get(name)
            if found is None or (found.shape, found.dtype) != (expected.shape, expected.dtype):
                held = "missing" if found is None else f"{found.dtype} {tuple(found.shape)}"
                raise HsevalError(f"{path}: {name!r} is {held}, expected {expected.dtype} {tuple(expected.shape)}")
        nonfinite = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
        if nonfinite:
            raise HsevalError(f"{path}: {nonfinite[0]!r} has values that are not finite")


def _truncate(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
