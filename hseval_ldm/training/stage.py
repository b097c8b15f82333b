"""The interface of a stage to the training loop, and the intervals of the loop's tasks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

from torch import Tensor

BestCriterion = tuple[str, Literal["lower", "higher"]]


class Stage(Protocol):
    """A stage of the training; all ranks call all methods except :meth:`save_preview`, which only the main rank calls.

    Attributes:
        name: of its folder, log lines and previews.
        steps: total optimizer steps.
        epoch_steps: optimizer steps per epoch.
        batch_size: cubes per step, over all ranks.
        memory_option: the option to lower when memory runs out.
        loss_option: the option or options to lower when a loss is not finite.
    """

    name: str
    steps: int
    epoch_steps: int
    batch_size: int
    memory_option: str
    loss_option: str

    def start_epoch(self, epoch: int) -> Mapping[str, float]:
        """Do the work at the start of an epoch; return metrics for the next line."""

    def step(self, step: int) -> Mapping[str, Tensor]:
        """Do optimizer step ``step``, counted from 0; its random draws depend on that number alone.

        Returns:
            Loss terms and other metrics of this rank, 0-d tensors on its device.
        """

    def evaluate(self, step: int) -> Mapping[str, float]:
        """Return metrics of held-out cubes; must not affect the training."""

    def save_preview(self, step: int, out: Path) -> None:
        """Write a PNG; must not affect the training."""

    def close(self) -> None:
        """Stop background threads; called when the loop ends, also after an error."""

    def get_state(self) -> Mapping[str, Tensor]:
        """Return the complete state of the training, finite numbers only, not copied."""

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore a result of :meth:`get_state`, bit for bit."""


@dataclasses.dataclass(frozen=True)
class StepIntervals:
    """Steps between two tasks of a kind; 0: never. At the last step, all tasks are due that are not 0."""

    log: int = 50
    checkpoint: int = 500
    preview: int = 1000
    evaluate: int = 1000

    def find_due(self, step: int, *, is_last: bool) -> dict[str, bool]:
        """Return which tasks are due after ``step`` steps."""
        intervals = dataclasses.asdict(self)
        return {task: bool(every) and (is_last or step % every == 0) for task, every in intervals.items()}
