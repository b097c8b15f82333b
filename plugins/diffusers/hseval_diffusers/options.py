"""Options that ``--set`` can set."""

from __future__ import annotations

import dataclasses

from hseval import option

SAMPLING_OPTIONS = ("solver_steps", "sample_batch")  # can also be set when sampling


@dataclasses.dataclass(frozen=True)
class DiffusersOptions:
    """Options of training and sampling."""

    channels: tuple[int, ...] = option((64, 128, 256), "channels of the U-Net's levels; each level halves the image")
    blocks: int = option(2, "residual blocks per level")
    steps: int = option(20_000, "training steps")
    batch: int = option(16, "cubes per step")
    rate: float = option(2e-4, "learning rate")
    average: float = option(0.999, "decay of the averaged weights, which are used for sampling")
    timesteps: int = option(1000, "noise levels of the training")
    checkpoint_every: int = option(500, "steps between two checkpoints from which training can resume")
    resume: bool = option(False, "resume from the last checkpoint in the folder (with --force, as it is not empty)")
    solver_steps: int = option(20, "steps of the solver, when sampling")
    sample_batch: int = option(8, "cubes drawn at a time; changes speed, and cubes by 1e-5 at most")

    def __post_init__(self) -> None:
        for name in ("blocks", "steps", "batch", "checkpoint_every", "solver_steps", "sample_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if not self.channels or any(width < 8 or width % 8 for width in self.channels):
            typed = ",".join(map(str, self.channels))
            raise ValueError(f"channels is {typed!r}, expected multiples of 8 such as 32,64,128")
        if not self.rate > 0:
            raise ValueError(f"rate is {self.rate:g}, expected more than 0")
        if not 0 <= self.average < 1:
            raise ValueError(f"average is {self.average:g}, expected 0 or more and less than 1")
        if self.timesteps < self.solver_steps or self.timesteps < 32:
            raise ValueError(f"timesteps is {self.timesteps}, expected 32 or more, and at least solver_steps")
