"""Options that ``--set`` can set."""

from __future__ import annotations

import dataclasses

from hseval.generator_kit import NetworkOptions
from hseval.plugin import option

NORM_GROUPS = 8  # of the group norms; widths are multiples of it
SAMPLING_OPTIONS = ("flow_steps", "sample_batch")  # can also be set when sampling


@dataclasses.dataclass(frozen=True)
class MonaiOptions(NetworkOptions):
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
    flow_steps: int = option(12, "steps from noise to latents, when sampling; each evaluates the U-Net twice")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_counts("latent_channels", "ae_blocks", "ae_steps", "blocks")
        self.check_positive("ae_rate")
        for name in ("ae_channels", "channels"):
            self.check_widths(name, multiple=NORM_GROUPS)
        if self.kl_weight < 0:
            raise ValueError(f"kl_weight is {self.kl_weight:g}, expected 0 or more")
        if not 1 <= self.flow_steps <= 1000:
            raise ValueError(f"flow_steps is {self.flow_steps}, expected 1 to 1000")
