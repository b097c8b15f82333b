"""Training: the autoencoder, then the U-Net on its normalized latents."""

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

MUTABLE_ON_RESUME = ("ae_steps", "steps", "checkpoint_every", "resume", *SAMPLING_OPTIONS)
UNET_OPTIONS = ("channels", "blocks", "rate")  # the autoencoder does not depend on them


class TwoStageTrainer:
    """Trains both stages on one set.

    Args:
        options: the options.
        data: real cubes of one shape.
        channels: converts cubes to images.
        out: folder of the run.
        seed: of all random numbers.
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
        options, name = self.options, "monai-autoencoder"
        network = build_seeded_network(
            lambda: build_autoencoder(self.channels.n_channels, options), seed=self.seed, name=name
        ).to(self.device)
        loop = self._build_loop(name, options.ae_steps, options.ae_rate, excluded=(*MUTABLE_ON_RESUME, *UNET_OPTIONS))

        def loss(step: int) -> torch.Tensor:
            images = self.encode_cubes(loop.draw_indices(step, len(self.data)))
            rng, bands = loop.make_rng("noise", step), len(self.channels.mean)
            return reconstruction_loss(network, images, rng, bands=bands, kl_weight=options.kl_weight)

        train(network, loss, loop, self.out)
        return network

    def encode_latents(self, network: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return normalized latents, float32 ``(n, channel, y, x)``, and each channel's mean and standard deviation."""
        import torch

        size = self.options.batch
        with torch.inference_mode():
            batches = [
                network.encode(self.encode_cubes(range(start, min(start + size, len(self.data)))))[0].cpu().numpy()
                for start in range(0, len(self.data), size)
            ]
        latents = np.concatenate(batches)
        mean = latents.mean(axis=(0, 2, 3), dtype=np.float64).astype(np.float32)
        std = np.maximum(latents.std(axis=(0, 2, 3), dtype=np.float64), 1e-6).astype(np.float32)
        return (latents - mean[:, None, None]) / std[:, None, None], mean, std

    def train_unet(self, latents: NDArray[Any]) -> torch.nn.Module:
        """Train the U-Net on latents and return it with its averaged weights."""
        import torch

        options, name, flow = self.options, "monai-unet", RectifiedFlow()
        network = build_seeded_network(lambda: build_unet(options), seed=self.seed, name=name).to(self.device)
        # The latents depend on ae_steps, so a training with another value can't resume.
        loop = self._build_loop(
            name, options.steps, options.rate, excluded=[key for key in MUTABLE_ON_RESUME if key != "ae_steps"]
        )

        def loss(step: int) -> torch.Tensor:
            clean = torch.from_numpy(latents[loop.draw_indices(step, len(latents))]).to(self.device)
            return flow.compute_loss(network, clean, loop.make_rng("noise", step))

        train(network, loss, loop, self.out)
        return network

    def encode_cubes(self, indices: Iterable[int]) -> torch.Tensor:
        """Return the cubes at ``indices`` as ``(n, channel, y, x)``, on the device."""
        import torch

        images = [torch.from_numpy(self.channels.encode(self.data[index])) for index in indices]
        return torch.stack(images).to(self.device)

    def _build_loop(self, name: str, steps: int, rate: float, *, excluded: Collection[str]) -> LoopConfig:
        options = self.options
        fixed_options = {key: value for key, value in dataclasses.asdict(options).items() if key not in excluded}
        return LoopConfig(
            name=name,
            steps=steps,
            batch_size=options.batch,
            learning_rate=rate,
            ema_decay=options.average,
            checkpoint_every=options.checkpoint_every,
            seed=self.seed,
            resume=options.resume,
            run_settings={**fixed_options, **self.channels.as_record()},
        )
