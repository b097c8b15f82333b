"""Training: the autoencoder, the scale of its latents, then the U-Net on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval import CubeSet
from hseval.generator_kit import Channels, Loop, seeded, train
from hseval_monai.networks import Flow, autoencoder, reconstruction_loss, unet
from hseval_monai.options import SAMPLING, MonaiOptions

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

FREE = ("ae_steps", "steps", "checkpoint_every", "resume", *SAMPLING)  # a training that goes on may change them
SECOND = ("channels", "blocks", "rate")  # what the autoencoder does not depend on


class Stages:
    """Both trainings on one set.

    Args:
        given: the options.
        data: real cubes of one shape.
        channels: how they become pictures.
        out: folder of the run.
        seed: of all that is drawn.
        device: where to train.
    """

    def __init__(
        self, given: MonaiOptions, data: CubeSet, channels: Channels, *, out: Path, seed: int, device: torch.device
    ) -> None:
        self.given, self.data, self.channels = given, data, channels
        self.out, self.seed, self.device = out, seed, device

    def autoencoder(self) -> Any:
        """Train the autoencoder and return it with its averaged weights."""
        given, name = self.given, "monai-autoencoder"
        network = seeded(lambda: autoencoder(self.channels.count, given), seed=self.seed, name=name).to(self.device)
        loop = self._loop(name, given.ae_steps, given.ae_rate, left_out=(*FREE, *SECOND))

        def loss(step: int) -> torch.Tensor:
            pictures = self.pictures(loop.indices(step, len(self.data)))
            rng, bands = loop.draws("noise", step), len(self.channels.mean)
            return reconstruction_loss(network, pictures, rng, bands=bands, kl=given.kl_weight)

        train(network, loss, loop, self.out)
        return network

    def latents(self, network: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return all latents, normalised, float32 ``(n, channel, y, x)``, and each channel's mean and deviation."""
        import torch

        size = self.given.batch
        with torch.inference_mode():
            parts = [
                network.encode(self.pictures(range(start, min(start + size, len(self.data)))))[0].cpu().numpy()
                for start in range(0, len(self.data), size)
            ]
        found = np.concatenate(parts)
        mean = found.mean(axis=(0, 2, 3), dtype=np.float64).astype(np.float32)
        deviation = np.maximum(found.std(axis=(0, 2, 3), dtype=np.float64), 1e-6).astype(np.float32)
        return (found - mean[:, None, None]) / deviation[:, None, None], mean, deviation

    def unet(self, latents: NDArray[Any]) -> torch.nn.Module:
        """Train the U-Net on latents and return it with its averaged weights."""
        import torch

        given, name, flow = self.given, "monai-unet", Flow()
        network = seeded(lambda: unet(given), seed=self.seed, name=name).to(self.device)
        # The latents are those of an autoencoder trained for so many steps: with others, this training starts anew.
        loop = self._loop(name, given.steps, given.rate, left_out=[each for each in FREE if each != "ae_steps"])

        def loss(step: int) -> torch.Tensor:
            clean = torch.from_numpy(latents[loop.indices(step, len(latents))]).to(self.device)
            return flow.loss(network, clean, loop.draws("noise", step))

        train(network, loss, loop, self.out)
        return network

    def pictures(self, indices: Iterable[int]) -> torch.Tensor:
        """Return the cubes at ``indices`` as ``(n, channel, y, x)``, on the device."""
        import torch

        pictures = [torch.from_numpy(self.channels.encode(self.data[index])) for index in indices]
        return torch.stack(pictures).to(self.device)

    def _loop(self, name: str, steps: int, rate: float, *, left_out: Collection[str]) -> Loop:
        given = self.given
        same = {key: value for key, value in dataclasses.asdict(given).items() if key not in left_out}
        return Loop(
            name=name,
            steps=steps,
            batch=given.batch,
            rate=rate,
            average=given.average,
            every=given.checkpoint_every,
            seed=self.seed,
            resume=given.resume,
            facts={**same, **self.channels.record()},
        )
