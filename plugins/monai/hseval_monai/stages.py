"""Training: the autoencoder, the scale of its latents, then the U-Net on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval import CubeSet
from hseval.generator_kit import ChannelCodec, LoopConfig, build_seeded_network, train
from hseval_monai.networks import RectifiedFlow, build_autoencoder, build_unet, reconstruction_loss
from hseval_monai.options import SAMPLING_OPTIONS, MonaiOptions

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

MUTABLE_ON_RESUME = (
    "ae_steps",
    "steps",
    "checkpoint_every",
    "resume",
    *SAMPLING_OPTIONS,
)  # a training that goes on may change them
UNET_OPTIONS = ("channels", "blocks", "rate")  # what the autoencoder does not depend on


class TwoStageTrainer:
    """Both trainings on one set.

    Args:
        options: the options.
        data: real cubes of one shape.
        channels: how they become pictures.
        out: folder of the run.
        seed: of all that is drawn.
        device: where to train.
    """

    def __init__(
        self,
        options: MonaiOptions,
        data: CubeSet,
        channels: ChannelCodec,
        *,
        out: Path,
        seed: int,
        device: torch.device,
    ) -> None:
        self.options, self.data, self.channels = options, data, channels
        self.out, self.seed, self.device = out, seed, device

    def train_autoencoder(self) -> Any:
        """Train the autoencoder and return it with its averaged weights."""
        given, name = self.options, "monai-autoencoder"
        network = build_seeded_network(
            lambda: build_autoencoder(self.channels.n_channels, given), seed=self.seed, name=name
        ).to(self.device)
        loop = self._build_loop(name, given.ae_steps, given.ae_rate, excluded=(*MUTABLE_ON_RESUME, *UNET_OPTIONS))

        def loss(step: int) -> torch.Tensor:
            pictures = self.encode_cubes(loop.draw_indices(step, len(self.data)))
            rng, bands = loop.make_rng("noise", step), len(self.channels.mean)
            return reconstruction_loss(network, pictures, rng, bands=bands, kl_weight=given.kl_weight)

        train(network, loss, loop, self.out)
        return network

    def encode_latents(self, network: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return all latents, normalised, float32 ``(n, channel, y, x)``, and each channel's mean and deviation."""
        import torch

        size = self.options.batch
        with torch.inference_mode():
            parts = [
                network.encode(self.encode_cubes(range(start, min(start + size, len(self.data)))))[0].cpu().numpy()
                for start in range(0, len(self.data), size)
            ]
        found = np.concatenate(parts)
        mean = found.mean(axis=(0, 2, 3), dtype=np.float64).astype(np.float32)
        deviation = np.maximum(found.std(axis=(0, 2, 3), dtype=np.float64), 1e-6).astype(np.float32)
        return (found - mean[:, None, None]) / deviation[:, None, None], mean, deviation

    def train_unet(self, latents: NDArray[Any]) -> torch.nn.Module:
        """Train the U-Net on latents and return it with its averaged weights."""
        import torch

        given, name, flow = self.options, "monai-unet", RectifiedFlow()
        network = build_seeded_network(lambda: build_unet(given), seed=self.seed, name=name).to(self.device)
        # The latents are those of an autoencoder trained for so many steps: with others, this training starts anew.
        loop = self._build_loop(
            name, given.steps, given.rate, excluded=[each for each in MUTABLE_ON_RESUME if each != "ae_steps"]
        )

        def loss(step: int) -> torch.Tensor:
            clean = torch.from_numpy(latents[loop.draw_indices(step, len(latents))]).to(self.device)
            return flow.compute_loss(network, clean, loop.make_rng("noise", step))

        train(network, loss, loop, self.out)
        return network

    def encode_cubes(self, indices: Iterable[int]) -> torch.Tensor:
        """Return the cubes at ``indices`` as ``(n, channel, y, x)``, on the device."""
        import torch

        pictures = [torch.from_numpy(self.channels.encode(self.data[index])) for index in indices]
        return torch.stack(pictures).to(self.device)

    def _build_loop(self, name: str, steps: int, rate: float, *, excluded: Collection[str]) -> LoopConfig:
        given = self.options
        same = {key: value for key, value in dataclasses.asdict(given).items() if key not in excluded}
        return LoopConfig(
            name=name,
            steps=steps,
            batch_size=given.batch,
            learning_rate=rate,
            ema_decay=given.average,
            checkpoint_every=given.checkpoint_every,
            seed=self.seed,
            resume=given.resume,
            run_settings={**same, **self.channels.as_record()},
        )
