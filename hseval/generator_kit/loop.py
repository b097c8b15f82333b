"""A training loop for the network of a generator plugin: seeded draws, averaged weights, exact resumption."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hseval.utils.random_streams import create_rng, fork_torch_rng

if TYPE_CHECKING:
    import torch

WARMUP_STEPS = 100  # steps over which the learning rate rises


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """Settings of a training loop, except its loss.

    ``name`` names the random streams, the folder of the training's checkpoints and the lines of progress;
    ``learning_rate`` is that of AdamW, reached after ``WARMUP_STEPS``; ``ema_decay`` is smaller at the start;
    ``run_settings`` (options, shape of the data) must be equal for a training to resume.
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
) -> dict[str, NDArray[Any]]:
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

    from hseval.training.checkpoints import StageCheckpoints
    from hseval.training.ema import Ema
    from hseval.training.loop import train_stage
    from hseval.training.stage import NetworkStage, StepIntervals
    from hseval.utils.distributed import Ranks
    from hseval.utils.progress import ProgressReporter

    ema = Ema(network, config.ema_decay)
    stage = NetworkStage(
        config.name,
        network.train(),
        torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=0.0),
        compute_loss,
        steps=config.steps,
        batch_size=config.batch_size,
        learning_rate=lambda step: config.learning_rate * min(1.0, (step + 1) / WARMUP_STEPS),
        ema=ema,
    )
    checkpoints = StageCheckpoints(folder / config.name, resume_option="--force --set resume=true")
    if not config.resume:
        checkpoints.remove()
    with ProgressReporter() as progress:
        train_stage(
            stage,
            folder,
            ranks=Ranks(device_name=str(next(network.parameters()).device)),
            resume=config.resume,
            intervals=StepIntervals(checkpoint=config.checkpoint_every, preview=0, evaluate=0),
            checkpoints=checkpoints,
            settings={**config.run_settings, "seed": config.seed},
            progress=progress,
        )
    ema.copy_to(network.eval())
    return {name: value.cpu().numpy() for name, value in network.state_dict().items()}


def build_seeded_network(build: Callable[[], torch.nn.Module], *, seed: int, name: str) -> torch.nn.Module:
    """Return a network whose initial weights depend on seed and name alone; torch's global state is preserved."""
    with fork_torch_rng(int(create_rng(seed, f"{name} weights").integers(2**62))):
        return build()


def choose_device(device: str | None) -> torch.device:
    """Return the requested device; None: a GPU if there is one, else the CPU.

    Raises:
        HsevalError: it is not a device, or it can't be used.
    """
    import torch

    from hseval.utils.device import resolve_device

    return torch.device(resolve_device(device))
