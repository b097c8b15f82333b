"""The generator ``diffusers``: the interface to hseval, on top of :mod:`hseval_diffusers.diffusion`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hseval.generator_kit import NetworkGenerator, NetworkTraining
from hseval_diffusers.options import SAMPLING_OPTIONS, DiffusersOptions

if TYPE_CHECKING:
    import numpy as np
    import torch


class Diffusers(NetworkGenerator[DiffusersOptions]):
    """A denoising U-Net (Ho et al. 2020) on images of pixels and masks."""

    name = "diffusers"
    version = "1.0.0"
    summary = "diffusers' U-Net on pixels (DDPM), masks as further channels; DPM-Solver++ when sampling"
    Options = DiffusersOptions
    sampling = SAMPLING_OPTIONS
    checkpoint_format = "hseval-diffusers-1"

    @property
    def side_multiple(self) -> int:
        """Every level but the first halves the image."""
        return int(2 ** (len(self.options.channels) - 1))

    def build_networks(self) -> Mapping[str, torch.nn.Module]:
        """Return the U-Net."""
        return {"unet": self._build_unet()}

    def train_networks(self, training: NetworkTraining[DiffusersOptions]) -> Mapping[str, torch.nn.Module]:
        """Train the U-Net to predict velocities."""
        from hseval_diffusers.diffusion import DiffusionProcess

        options = training.options
        process = DiffusionProcess(options.timesteps)

        def compute_loss(network: Any, indices: list[int], rng: np.random.Generator) -> torch.Tensor:
            return process.compute_loss(network, training.encode(indices), rng)

        network = training.train(
            self.name, self._build_unet, compute_loss, steps=options.steps, learning_rate=options.rate
        )
        return {"unet": network}

    def generate(self, noise: Any) -> Any:
        """Return images by the solver."""
        from hseval_diffusers.diffusion import DiffusionProcess

        process = DiffusionProcess(self.options.timesteps)
        return process.sample(self.networks["unet"], noise, steps=self.options.solver_steps, device=self.device)

    def _build_unet(self) -> torch.nn.Module:
        from hseval_diffusers.diffusion import build_unet

        return build_unet(self.channels.n_channels, widths=self.options.channels, blocks=self.options.blocks)
