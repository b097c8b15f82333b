"""The interface of a stage to the training loop, the intervals of the loop's tasks, and the stage of one network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from hseval.training.checkpoints import get_optimizer_state, load_optimizer_state, pack_state, unpack_state
from hseval.training.ema import Ema

BestCriterion = tuple[str, Literal["lower", "higher"]]
MAX_GRADIENT_NORM = 1.0  # to which gradients are clipped


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


class NetworkStage:
    """A :class:`Stage` of one network, one optimizer and one loss; stages that do more override its methods.

    ``model`` is on its device, its parameters and buffers finite; the state of ``optimizer`` is tensors by parameter,
    as Adam's. ``compute_loss`` returns the scalar loss of a step, counted from 0; its draws depend on that number
    alone. ``learning_rate`` returns the rate of a step (None: the optimizer's), ``max_gradient_norm`` is that to which
    gradients are clipped (None: they are not), and ``ema`` is an average of the weights that the steps update.
    ``loss_name`` is that of messages and log lines. The others are the attributes of :class:`Stage`.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        optimizer: Optimizer,
        compute_loss: Callable[[int], Tensor],
        *,
        steps: int,
        batch_size: int,
        epoch_steps: int = 1,
        learning_rate: Callable[[int], float] | None = None,
        max_gradient_norm: float | None = MAX_GRADIENT_NORM,
        ema: Ema | None = None,
        loss_name: str = "loss",
        loss_option: str = "the learning rate",
        memory_option: str = "the batch size",
    ) -> None:
        self.name, self.model, self.optimizer, self.compute_loss = name, model, optimizer, compute_loss
        self.steps, self.batch_size, self.epoch_steps = steps, batch_size, epoch_steps
        self.learning_rate, self.max_gradient_norm = learning_rate, max_gradient_norm
        self.ema = ema
        self.loss_name, self.loss_option, self.memory_option = loss_name, loss_option, memory_option

    def start_epoch(self, epoch: int) -> Mapping[str, float]:
        """Do nothing."""
        return {}

    def step(self, step: int) -> Mapping[str, Tensor]:
        """Do one step; return the loss."""
        loss = self.compute_loss(step)
        rate = None if self.learning_rate is None else self.learning_rate(step)
        update_parameters(self.optimizer, loss, self.model, learning_rate=rate, max_norm=self.max_gradient_norm)
        if self.ema is not None:
            self.ema.update(self.model, step)
        return {self.loss_name: loss.detach()}

    def evaluate(self, step: int) -> Mapping[str, float]:
        """Return no metrics."""
        return {}

    def save_preview(self, step: int, out: Path) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def get_state(self) -> Mapping[str, Tensor]:
        """Return the network's weights and buffers, their average and the optimizer's moments."""
        state = pack_state("model", self.model.state_dict())
        state |= {} if self.ema is None else pack_state("ema", self.ema.get_state())
        return state | pack_state("optimizer", get_optimizer_state(self.optimizer, self.model))

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore a result of :meth:`get_state`."""
        self.model.load_state_dict(unpack_state("model", tensors))
        if self.ema is not None:
            self.ema.load_state(unpack_state("ema", tensors))
        load_optimizer_state(self.optimizer, self.model, unpack_state("optimizer", tensors))


def update_parameters(
    optimizer: Optimizer,
    loss: Tensor,
    model: nn.Module,
    *,
    learning_rate: float | None = None,
    max_norm: float | None = MAX_GRADIENT_NORM,
) -> None:
    """Do one optimizer step: backward, clip to ``max_norm`` (None: not), update.

    ``loss`` is a scalar; the step uses ``learning_rate`` (None: the optimizer's).
    """
    if learning_rate is not None:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if max_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
