"""Training: the autoencoder, then the U-Net on its normalized latents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.generator_kit import NetworkTraining
from hseval_monai.networks import LatentScale, RectifiedFlow, build_autoencoder, build_unet, reconstruction_loss
from hseval_monai.options import MonaiOptions

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

MIN_STD = 1e-6  # of a channel of the latents


def train_autoencoder(training: NetworkTraining[MonaiOptions]) -> Any:
    """Train the autoencoder and return it with its averaged weights."""
    options, bands = training.options, len(training.channels.mean)

    def compute_loss(network: Any, indices: list[int], rng: np.random.Generator) -> torch.Tensor:
        images = training.encode(indices)
        return reconstruction_loss(network, images, rng, bands=bands, kl_weight=options.kl_weight)

    return training.train(
        "monai-autoencoder",
        lambda: build_autoencoder(training.channels.n_channels, options),
        compute_loss,
        steps=options.ae_steps,
        learning_rate=options.ae_rate,
        mutable_options=("ae_steps", "channels", "blocks", "rate"),
    )


def encode_latents(training: NetworkTraining[MonaiOptions], autoencoder: Any) -> tuple[NDArray[Any], LatentScale]:
    """Return normalized latents, float32 ``(n, channel, y, x)``, and the scale that was removed."""
    import torch

    count, size = len(training.data), training.options.batch
    with torch.inference_mode():
        batches = [
            autoencoder.encode(training.encode(range(start, min(start + size, count))))[0].cpu().numpy()
            for start in range(0, count, size)
        ]
    latents = np.concatenate(batches)
    mean = latents.mean(axis=(0, 2, 3), dtype=np.float64).astype(np.float32)
    std = np.maximum(latents.std(axis=(0, 2, 3), dtype=np.float64), MIN_STD).astype(np.float32)
    scale = LatentScale(torch.from_numpy(mean), torch.from_numpy(std))
    return (latents - mean[:, None, None]) / std[:, None, None], scale


def train_unet(training: NetworkTraining[MonaiOptions], latents: NDArray[Any]) -> torch.nn.Module:
    """Train the U-Net on latents and return it with its averaged weights.

    The latents depend on ``ae_steps``, so a training with another value can't resume.
    """
    import torch

    options, flow = training.options, RectifiedFlow()

    def compute_loss(network: Any, indices: list[int], rng: np.random.Generator) -> torch.Tensor:
        return flow.compute_loss(network, torch.from_numpy(latents[indices]).to(training.device), rng)

    return training.train(
        "monai-unet", lambda: build_unet(options), compute_loss, steps=options.steps, learning_rate=options.rate
    )
