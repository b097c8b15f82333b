"""The networks of MONAI: the autoencoder, the U-Net on its latents, and the rectified flow from noise to latents."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hseval_monai.options import NORM_GROUPS, MonaiOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUM_TIMESTEPS = 1000  # of the flow; the U-Net gets integers


def build_autoencoder(channels: int, options: MonaiOptions) -> torch.nn.Module:
    """Return MONAI's ``AutoencoderKL`` for images of ``channels`` channels, without attention."""
    from monai.networks.nets.autoencoderkl import AutoencoderKL

    network: torch.nn.Module = AutoencoderKL(
        spatial_dims=2,
        in_channels=channels,
        out_channels=channels,
        channels=options.ae_channels,
        latent_channels=options.latent_channels,
        num_res_blocks=options.ae_blocks,
        attention_levels=(False,) * len(options.ae_channels),
        norm_num_groups=NORM_GROUPS,
        with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
    )
    return network


def build_unet(options: MonaiOptions) -> torch.nn.Module:
    """Return MONAI's ``DiffusionModelUNet`` for latents; attention at the lowest level alone."""
    from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet

    levels = len(options.channels)
    network: torch.nn.Module = DiffusionModelUNet(
        spatial_dims=2,
        in_channels=options.latent_channels,
        out_channels=options.latent_channels,
        channels=options.channels,
        num_res_blocks=options.blocks,
        attention_levels=(*(False,) * (levels - 1), True),
        norm_num_groups=NORM_GROUPS,
        num_head_channels=NORM_GROUPS,
    )
    return network


class LatentScale(torch.nn.Module):
    """Mean and standard deviation of every channel of the latents ``(n, channel, y, x)``; restores normalized ones."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    @classmethod
    def of_channels(cls, count: int) -> LatentScale:
        """Return the scale that changes nothing, for :meth:`load_state_dict`."""
        return cls(torch.zeros(count), torch.ones(count))

    def forward(self, normalized: torch.Tensor) -> torch.Tensor:
        """Return latents on their own scale."""
        return normalized * self.deviation[:, None, None] + self.mean[:, None, None]


def reconstruction_loss(
    network: Any, images: torch.Tensor, rng: np.random.Generator, *, bands: int, kl_weight: float
) -> torch.Tensor:
    """Return the sum of mean absolute error in the bands, cross-entropy in the masks, and KL divergence of the latents.

    An absolute error has its minimum at the median, which leaves the masks of thin vessels empty. The decoded channel
    of a mask is therefore taken as the logit of being inside.

    Args:
        network: an ``AutoencoderKL``.
        images: ``(n, channel, y, x)``: bands, normalized, then masks, -1 outside and 1 inside.
        rng: of this step.
        bands: how many of the channels are bands.
        kl_weight: weight of KL(N(mean, std) || N(0, 1)), in nats a latent.
    """
    from torch.nn import functional

    mean, std = network.encode(images)
    noise = torch.from_numpy(rng.standard_normal(tuple(mean.shape), dtype=np.float32)).to(mean.device)
    decoded = network.decode(mean + std * noise)
    divergence = (mean.square() + std.square() - 1).mean() / 2 - std.log().mean()
    loss: torch.Tensor = functional.l1_loss(decoded[:, :bands], images[:, :bands]) + kl_weight * divergence
    if images.shape[1] > bands:
        inside = (images[:, bands:] + 1) / 2
        loss = loss + functional.binary_cross_entropy_with_logits(decoded[:, bands:], inside)
    return loss


class RectifiedFlow:
    """Rectified flow (Liu et al. 2023): straight lines between noise and data, by MONAI's ``RFlowScheduler``.

    Not MONAI's ``DDIMScheduler``, whose times are spaced by (N - 1) / (n - 1) and whose steps reach back by N // n.
    """

    def __init__(self) -> None:
        from monai.networks.schedulers.rectified_flow import RFlowScheduler

        self.scheduler = RFlowScheduler(num_train_timesteps=NUM_TIMESTEPS, use_discrete_timesteps=True)

    def compute_loss(self, network: Any, clean: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Return the mean squared error of the flow's direction at random times between noise and data.

        Args:
            network: the U-Net, which takes noisy latents and times.
            clean: latents ``(n, channel, y, x)``, normalized.
            rng: of this step, the only source of randomness.
        """
        times = torch.from_numpy(rng.integers(NUM_TIMESTEPS + 1, size=len(clean))).to(clean.device)
        noise = torch.from_numpy(rng.standard_normal(tuple(clean.shape), dtype=np.float32)).to(clean.device)
        noisy = self.scheduler.add_noise(original_samples=clean, noise=noise, timesteps=times)
        return torch.nn.functional.mse_loss(network(noisy, times), clean - noise)

    def sample(self, network: Any, noise: NDArray[Any], *, steps: int, device: torch.device) -> torch.Tensor:
        """Return latents after ``steps`` steps of Heun from standard normal noise ``(n, channel, y, x)``.

        The network is evaluated twice a step. On Gaussians of standard deviation 0.2 to 3, 12 such steps reproduce it
        within 2 %, 25 steps of Euler within 10 %.
        """
        self.scheduler.set_timesteps(steps)
        latents = torch.from_numpy(noise).to(device)
        times = [*self.scheduler.timesteps.tolist(), 0]
        for time, next_time in itertools.pairwise(times):
            times_here, times_next = (torch.full((len(latents),), value, device=device) for value in (time, next_time))
            first = network(latents, times_here)
            predicted, _ = self.scheduler.step(first, time, latents, next_time)
            direction = (first + network(predicted, times_next)) / 2
            latents, _ = self.scheduler.step(direction, time, latents, next_time)
        return latents
