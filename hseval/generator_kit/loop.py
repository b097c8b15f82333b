"""A training loop for a generator plugin's network: seeded draws, averaged weights, and resuming to the last digit."""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.generator_kit.state import Arrays, TrainingState, from_numpy
from hseval.utils.errors import HsevalError
from hseval.utils.random_streams import create_rng

if TYPE_CHECKING:
    import torch

WARMUP_STEPS = 100  # steps in which the rate rises
PROGRESS_INTERVAL_S = 15.0  # s between two lines of progress


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """What a training loop does besides its loss.

    Attributes:
        name: names the streams, the checkpoint ``training-NAME`` and the lines of progress.
        steps: how many in all.
        batch_size: cubes a step.
        learning_rate: learning rate of AdamW, reached after 100 steps.
        ema_decay: decay of the averaged weights (shorter at the start).
        checkpoint_every: steps between two checkpoints of the training.
        seed: of all that is drawn.
        resume: go on from the checkpoint in the folder, where there is one.
        run_settings: what has to be the same for a training to go on (options, shape of the data).
    """

    name: str
    steps: int
    batch_size: int
    learning_rate: float
    ema_decay: float
    checkpoint_every: int
    seed: int
    resume: bool
    run_settings: Mapping[str, Any]

    def draw_indices(self, step: int, count: int) -> list[int]:
        """Return which of ``count`` cubes step ``step`` sees; an epoch sees each once, in an order of its own."""
        places = range(step * self.batch_size, (step + 1) * self.batch_size)
        epochs = {place // count for place in places}
        orders = {epoch: self.make_rng("order", epoch).permutation(count) for epoch in epochs}
        return [int(orders[place // count][place % count]) for place in places]

    def make_rng(self, purpose: str, step: int) -> np.random.Generator:
        """Return the random stream of one step: a function of seed, name and step, so that resuming needs no state."""
        return create_rng(self.seed, f"{self.name} {purpose}", step)


def train(
    network: torch.nn.Module, compute_loss: Callable[[int], torch.Tensor], config: LoopConfig, folder: Path
) -> Arrays:
    """Train a network and return its averaged weights; ``folder`` keeps what is needed to go on.

    Args:
        network: on its device; left with the averaged weights.
        compute_loss: step number to a scalar; it draws from ``loop.draws(..., step)`` and nothing else.
        config: how.
        folder: of the run.

    Raises:
        HsevalError: the loss is not finite, or the checkpoint to go on from belongs to another training.
    """
    import torch

    described = {"facts": config.run_settings, "seed": config.seed}
    state = TrainingState(network, learning_rate=config.learning_rate, ema_decay=config.ema_decay)
    stem = f"training-{config.name}"
    begin = state.read(folder, stem, described) if config.resume else 0
    teller = _ProgressPrinter(config, begin)
    network.train()
    for step in range(begin, config.steps):
        for group in state.optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1.0, (step + 1) / WARMUP_STEPS)
        value = compute_loss(step)
        if not math.isfinite(teller.record_loss(step, float(value.detach()))):
            raise HsevalError(f"{config.name}: the loss of step {step} is not finite; try a lower rate")
        state.optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        state.optimizer.step()
        state.update_ema(step)
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
            state.write(folder, stem, {**described, "step": step + 1})
    network.load_state_dict(from_numpy(state.ema_weights))
    network.eval()
    return state.ema_weights


def build_seeded_network(build: Callable[[], torch.nn.Module], *, seed: int, name: str) -> torch.nn.Module:
    """Return a network whose first weights depend on seed and name alone; torch's global state is left as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(create_rng(seed, f"{name} weights").integers(2**62)))
        return build()


def choose_device(device: str | None) -> torch.device:
    """Return the device that was asked for; else a GPU where there is one.

    Raises:
        HsevalError: it is no device, or nothing can be computed there.
    """
    import torch

    from hseval.scoring.score import resolve_device

    return torch.device(resolve_device(device))


class _ProgressPrinter:
    """Says on stderr, from time to time, how far the training is."""

    def __init__(self, config: LoopConfig, first_step: int) -> None:
        self.config, self.first_step = config, first_step
        self.start_time = self.last_time = time.monotonic()
        self.losses: list[float] = []

    def record_loss(self, step: int, loss: float) -> float:
        """Take note of a step's loss, and return it."""
        self.losses.append(loss)
        now = time.monotonic()
        if now - self.last_time >= PROGRESS_INTERVAL_S:
            pace = (step + 1 - self.first_step) / (now - self.start_time)
            left = (self.config.steps - step - 1) / pace
            told = f"{self.config.name} {step + 1}/{self.config.steps}  loss {sum(self.losses) / len(self.losses):.4f}"
            print(f"{told}  {pace:.2f} steps/s  {left / 60:.1f} min left", file=sys.stderr, flush=True)
            self.last_time, self.losses = now, []
        return loss
