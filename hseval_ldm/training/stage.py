"""What the training loop asks of a stage, and how often it does what."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

from torch import Tensor

BestCriterion = tuple[str, Literal["lower", "higher"]]


class Stage(Protocol):
    """What a stage of training brings; all of it is called by all ranks, :meth:`save_preview` by the chief alone.

    Attributes:
        name: names its folder, its lines and its pictures.
        steps: optimiser steps in all.
        epoch_steps: optimiser steps an epoch.
        batch_size: cubes a step, over all ranks.
        memory_option: the option to lower when memory runs out.
        loss_option: the option or options to lower when a loss is not finite any more.
    """

    name: str
    steps: int
    epoch_steps: int
    batch_size: int
    memory_option: str
    loss_option: str

    def start_epoch(self, epoch: int) -> Mapping[str, float]:
        """Do what an epoch starts with; return figures for the next line."""

    def step(self, step: int) -> Mapping[str, Tensor]:
        """Do optimiser step ``step``, counted from 0, whose draws depend on that number alone.

        Returns:
            Loss terms and other figures of this rank, 0-d tensors on its device.
        """

    def evaluate(self, step: int) -> Mapping[str, float]:
        """Return figures of held-out cubes; changes nothing that training depends on."""

    def save_preview(self, step: int, out: Path) -> None:
        """Write a PNG; changes nothing that training depends on."""

    def close(self) -> None:
        """End what runs beside the steps; called when the loop ends, however it does."""

    def get_state(self) -> Mapping[str, Tensor]:
        """Return all that decides the future, finite numbers only; not copied."""

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`get_state` returned, bit for bit."""


@dataclasses.dataclass(frozen=True)
class StepIntervals:
    """Steps between two of each; 0 is never, and the last step has all that is not never."""

    log: int = 50
    checkpoint: int = 500
    preview: int = 1000
    evaluate: int = 1000

    def find_due(self, step: int, *, is_last: bool) -> dict[str, bool]:
        """Return what is due after ``step`` steps."""
        given = dataclasses.asdict(self)
        return {what: bool(every) and (is_last or step % every == 0) for what, every in given.items()}
