"""Options that ``--set`` can set."""

from __future__ import annotations

import dataclasses

from hseval import option

NORM_GROUPS = 8  # of the group norms; widths are multiples of it
SAMPLING_OPTIONS = ("flow_steps", "sample_batch")  # can also be set when sampling


@dataclasses.dataclass(frozen=True)
class MonaiOptions:
    """Options of both stages, and of sampling."""

    ae_channels: tuple[int, ...] = option((64, 128, 128), "channels of the autoencoder's levels, each half as wide")
    latent_channels: int = option(8, "channels of the latents")
    ae_blocks: int = option(1, "residual blocks per level of the autoencoder")
    kl_weight: float = option(1e-6, "weight of the latents' divergence from a standard normal")
    ae_steps: int = option(20_000, "training steps of the autoencoder")
    ae_rate: float = option(5e-4, "learning rate of the autoencoder")
    channels: tuple[int, ...] = option((128, 256), "channels of the U-Net's levels; attention at the last")
    blocks: int = option(2, "residual blocks per level of the U-Net")
    steps: int = option(30_000, "training steps of the U-Net")
    rate: float = option(3e-4, "learning rate of the U-Net")
    batch: int = option(16, "cubes per step, in both stages")
    average: float = option(0.999, "decay of the averaged weights, which are used for sampling")
    checkpoint_every: int = option(500, "steps between two checkpoints from which training can resume")
    resume: bool = option(False, "resume from the last checkpoints in the folder (with --force, as it is not empty)")
    flow_steps: int = option(12, "steps from noise to latents, when sampling; each evaluates the U-Net twice")
    sample_batch: int = option(8, "cubes drawn at a time; changes speed, and cubes by 1e-5 at most")

    def __post_init__(self) -> None:
        whole = ("latent_channels", "ae_blocks", "ae_steps", "blocks", "steps", "batch", "checkpoint_every")
        for name in (*whole, "sample_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")
        for name in ("ae_channels", "channels"):
            widths = getattr(self, name)
            if not widths or any(width < NORM_GROUPS or width % NORM_GROUPS for width in widths):
                typed = ",".join(map(str, widths))
                raise ValueError(f"{name} is {typed!r}, expected multiples of {NORM_GROUPS} such as 32,64")
        for name in ("ae_rate", "rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name):g}, expected more than 0")
        if self.kl_weight < 0:
            raise ValueError(f"kl_weight is {self.kl_weight:g}, expected 0 or more")
        if not 0 <= self.average < 1:
            raise ValueError(f"average is {self.average:g}, expected 0 or more and less than 1")
        if not 1 <= self.flow_steps <= 1000:
            raise ValueError(f"flow_steps is {self.flow_steps}, expected 1 to 1000")
