"""Options that ``--set`` can set."""

from __future__ import annotations

import dataclasses

from hseval.generator_kit import NetworkOptions
from hseval.plugin import option

SAMPLING_OPTIONS = ("solver_steps", "sample_batch")  # can also be set when sampling


@dataclasses.dataclass(frozen=True)
class DiffusersOptions(NetworkOptions):
    """Options of training and sampling."""

    channels: tuple[int, ...] = option((64, 128, 256), "channels of the U-Net's levels; each level halves the image")
    blocks: int = option(2, "residual blocks per level")
    timesteps: int = option(1000, "noise levels of the training")
    solver_steps: int = option(20, "steps of the solver, when sampling")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_counts("blocks", "solver_steps")
        self.check_widths("channels", multiple=8)
        if self.timesteps < self.solver_steps or self.timesteps < 32:
            raise ValueError(f"timesteps is {self.timesteps}, expected 32 or more, and at least solver_steps")
