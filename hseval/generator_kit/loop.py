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

from hseval.generator_kit.state import Arrays, State, from_numpy
from hseval.utils.errors import HsevalError
from hseval.utils.random_streams import stream

if TYPE_CHECKING:
    import torch

WARM_UP = 100  # steps in which the rate rises
TOLD_EVERY = 15.0  # s between two lines of progress


@dataclasses.dataclass(frozen=True)
class Loop:
    """What a training loop does besides its loss.

    Attributes:
        name: names the streams, the checkpoint ``training-NAME`` and the lines of progress.
        steps: how many in all.
        batch: cubes a step.
        rate: learning rate of AdamW, reached after 100 steps.
        average: decay of the averaged weights (shorter at the start).
        every: steps between two checkpoints of the training.
        seed: of all that is drawn.
        resume: go on from the checkpoint in the folder, where there is one.
        facts: what has to be the same for a training to go on (options, shape of the data).
    """

    name: str
    steps: int
    batch: int
    rate: float
    average: float
    every: int
    seed: int
    resume: bool
    facts: Mapping[str, Any]

    def indices(self, step: int, count: int) -> list[int]:
        """Return which of ``count`` cubes step ``step`` sees; an epoch sees each once, in an order of its own."""
        places = range(step * self.batch, (step + 1) * self.batch)
        epochs = {place // count for place in places}
        orders = {epoch: self.draws("order", epoch).permutation(count) for epoch in epochs}
        return [int(orders[place // count][place % count]) for place in places]

    def draws(self, what: str, step: int) -> np.random.Generator:
        """Return the random stream of one step: a function of seed, name and step, so that resuming needs no state."""
        return stream(self.seed, f"{self.name} {what}", step)


def train(network: torch.nn.Module, loss: Callable[[int], torch.Tensor], loop: Loop, folder: Path) -> Arrays:
    """Train a network and return its averaged weights; ``folder`` keeps what is needed to go on.

    Args:
        network: on its device; left with the averaged weights.
        loss: step number to a scalar; it draws from ``loop.draws(..., step)`` and nothing else.
        loop: how.
        folder: of the run.

    Raises:
        HsevalError: the loss is not finite, or the checkpoint to go on from belongs to another training.
    """
    import torch

    described = {"facts": loop.facts, "seed": loop.seed}
    state = State(network, rate=loop.rate, average=loop.average)
    stem = f"training-{loop.name}"
    begin = state.read(folder, stem, described) if loop.resume else 0
    teller = _Teller(loop, begin)
    network.train()
    for step in range(begin, loop.steps):
        for group in state.optimizer.param_groups:
            group["lr"] = loop.rate * min(1.0, (step + 1) / WARM_UP)
        value = loss(step)
        if not math.isfinite(teller.told(step, float(value.detach()))):
            raise HsevalError(f"{loop.name}: the loss of step {step} is not finite; try a lower rate")
        state.optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        state.optimizer.step()
        state.follow(step)
        if (step + 1) % loop.every == 0 or step + 1 == loop.steps:
            state.write(folder, stem, {**described, "step": step + 1})
    network.load_state_dict(from_numpy(state.averaged))
    network.eval()
    return state.averaged


def seeded(build: Callable[[], torch.nn.Module], *, seed: int, name: str) -> torch.nn.Module:
    """Return a network whose first weights depend on seed and name alone; torch's global state is left as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(stream(seed, f"{name} weights").integers(2**62)))
        return build()


def chosen_device(device: str | None) -> torch.device:
    """Return the device that was asked for; else a GPU where there is one.

    Raises:
        HsevalError: it is no device, or nothing can be computed there.
    """
    import torch

    from hseval.scoring.score import usable_device

    return torch.device(usable_device(device))


class _Teller:
    """Says on stderr, from time to time, how far the training is."""

    def __init__(self, loop: Loop, begin: int) -> None:
        self.loop, self.begin = loop, begin
        self.start = self.last = time.monotonic()
        self.losses: list[float] = []

    def told(self, step: int, loss: float) -> float:
        """Take note of a step's loss, and return it."""
        self.losses.append(loss)
        now = time.monotonic()
        if now - self.last >= TOLD_EVERY:
            pace = (step + 1 - self.begin) / (now - self.start)
            left = (self.loop.steps - step - 1) / pace
            told = f"{self.loop.name} {step + 1}/{self.loop.steps}  loss {sum(self.losses) / len(self.losses):.4f}"
            print(f"{told}  {pace:.2f} steps/s  {left / 60:.1f} min left", file=sys.stderr, flush=True)
            self.last, self.losses = now, []
        return loss
