"""A training loop for the network of a generator plugin: seeded draws, averaged weights, exact resumption."""

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

WARMUP_STEPS = 100  # steps over which the learning rate rises
PROGRESS_INTERVAL_S = 15.0  # between two lines of progress


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """Settings of a training loop, except its loss.

    Attributes:
        name: names the random streams, the checkpoint ``training-NAME`` and the lines of progress.
        steps: total number of steps.
        batch_size: cubes per step.
        learning_rate: of AdamW, reached after ``WARMUP_STEPS``.
        ema_decay: decay of the averaged weights (smaller at the start).
        checkpoint_every: steps between two checkpoints of the training.
        seed: of all random draws.
        resume: resume from the checkpoint in the folder, if there is one.
        run_settings: settings that must be equal for a training to resume (options, shape of the data).
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
        """Return which of ``count`` cubes step ``step`` uses; an epoch uses each once, in an order of its own."""
        positions = range(step * self.batch_size, (step + 1) * self.batch_size)
        epochs = {position // count for position in positions}
        orders = {epoch: self.make_rng("order", epoch).permutation(count) for epoch in epochs}
        return [int(orders[position // count][position % count]) for position in positions]

    def make_rng(self, purpose: str, step: int) -> np.random.Generator:
        """Return the random stream of one step: a function of seed, name and step, so that resuming needs no state."""
        return create_rng(self.seed, f"{self.name} {purpose}", step)


def train(
    network: torch.nn.Module, compute_loss: Callable[[int], torch.Tensor], config: LoopConfig, folder: Path
) -> Arrays:
    """Train a network and return its averaged weights; checkpoints in ``folder`` allow resuming.

    Args:
        network: on its device; holds the averaged weights afterwards.
        compute_loss: returns the scalar loss of a step; must draw from ``config.make_rng(..., step)`` alone.
        config: settings of the loop.
        folder: of the run.

    Raises:
        HsevalError: the loss is not finite, or the checkpoint to resume from belongs to another training.
    """
    import torch

    settings = {"facts": config.run_settings, "seed": config.seed}
    state = TrainingState(network, learning_rate=config.learning_rate, ema_decay=config.ema_decay)
    stem = f"training-{config.name}"
    first_step = state.read(folder, stem, settings) if config.resume else 0
    progress = _ProgressPrinter(config, first_step)
    network.train()
    for step in range(first_step, config.steps):
        for group in state.optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1.0, (step + 1) / WARMUP_STEPS)
        loss = compute_loss(step)
        if not math.isfinite(progress.record_loss(step, float(loss.detach()))):
            raise HsevalError(f"{config.name}: the loss of step {step} is not finite; try a lower learning rate")
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        state.optimizer.step()
        state.update_ema(step)
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
            state.write(folder, stem, {**settings, "step": step + 1})
    network.load_state_dict(from_numpy(state.ema_weights))
    network.eval()
    return state.ema_weights


def build_seeded_network(build: Callable[[], torch.nn.Module], *, seed: int, name: str) -> torch.nn.Module:
    """Return a network whose initial weights depend on seed and name alone; torch's global state is preserved."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(create_rng(seed, f"{name} weights").integers(2**62)))
        return build()


def choose_device(device: str | None) -> torch.device:
    """Return the requested device; None: a GPU if there is one, else the CPU.

    Raises:
        HsevalError: it is not a device, or it can't be used.
    """
    import torch

    from hseval.utils.device import resolve_device

    return torch.device(resolve_device(device))


class _ProgressPrinter:
    """Prints the progress of the training on stderr at intervals."""

    def __init__(self, config: LoopConfig, first_step: int) -> None:
        self.config, self.first_step = config, first_step
        self.start_time = self.last_time = time.monotonic()
        self.losses: list[float] = []

    def record_loss(self, step: int, loss: float) -> float:
        """Add the loss of a step to the next line of progress, and return it."""
        self.losses.append(loss)
        now = time.monotonic()
        if now - self.last_time >= PROGRESS_INTERVAL_S:
            rate = (step + 1 - self.first_step) / (now - self.start_time)
            seconds_left = (self.config.steps - step - 1) / rate
            mean_loss = sum(self.losses) / len(self.losses)
            line = f"{self.config.name} {step + 1}/{self.config.steps}  loss {mean_loss:.4f}"
            print(f"{line}  {rate:.2f} steps/s  {seconds_left / 60:.1f} min left", file=sys.stderr, flush=True)
            self.last_time, self.losses = now, []
        return loss
