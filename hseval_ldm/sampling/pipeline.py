"""From noise to finished cubes: what the generator and the scores during training both draw samples with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor

from hseval.utils.random_streams import create_rng
from hseval_ldm.data.latent_cache import LatentScaler
from hseval_ldm.models.unet import select_memory_format
from hseval_ldm.models.vqgan import Autoencoder, CubeBatch
from hseval_ldm.options import LdmOptions
from hseval_ldm.sampling.samplers import DenoiseFunction, sample_latents
from hseval_ldm.sampling.schedule import NoiseSchedule

CPU_BATCH_SIZE = 4


@dataclasses.dataclass
class Pipeline:
    """All that sampling takes.

    Attributes:
        autoencoder: whose decoder and codebook are used, on ``device``, in evaluation mode.
        denoise: the U-Net, ``(x, t) -> velocity``.
        scaler: what latents were normalised with.
        schedule: what the U-Net was trained with.
        options: sampler, steps, batch size, tile, noise.
        device: where the networks run.
        autocast: the precision they run in.
    """

    autoencoder: Autoencoder
    denoise: DenoiseFunction
    scaler: LatentScaler
    schedule: NoiseSchedule
    options: LdmOptions
    device: torch.device
    autocast: Callable[[], AbstractContextManager[object]]

    @property
    def batch_size(self) -> int:
        """How many cubes the networks see at once.

        On a CPU always the same number: kernels sum in an order that depends on the batch, a last digit decides
        between two codes that are equally near, and ``batch_size`` must change no cube.
        """
        return CPU_BATCH_SIZE if self.device.type == "cpu" else self.options.batch_size

    def generate_cubes(self, indices: Sequence[int], *, seed: int) -> Iterator[tuple[int, CubeBatch]]:
        """Yield ``(index, one finished cube)`` in order, all tensors on the CPU; cube i depends on (seed, i) alone."""
        drawn = sample_latents(
            self._predict_velocity,
            shape=self.autoencoder.latent_shape,
            indices=indices,
            seed=seed,
            training_schedule=self.schedule,
            sampler=self.options.sampler,
            steps=self.options.steps,
            batch_size=self.batch_size,
            device=self.device,
        )
        start = 0
        for latents in drawn:
            chosen = indices[start : start + len(latents)]
            start += len(latents)
            made = self._decode(latents, [int(index) for index in chosen], seed)
            for place, index in enumerate(chosen):
                yield index, CubeBatch(*(part[place : place + 1].cpu() for part in made))

    def _predict_velocity(self, noisy: Tensor, t: Tensor) -> Tensor:
        with self.autocast():
            return self.denoise(noisy.contiguous(memory_format=select_memory_format(self.device)), t)

    @torch.no_grad()
    def _decode(self, latents: Tensor, indices: Sequence[int], seed: int) -> CubeBatch:
        """Decode, in batches of one size as the U-Net's are; a cube's noise is its own."""
        count = len(latents)
        full = torch.cat([latents, latents[-1:].expand(self.batch_size - count, -1, -1, -1)])
        with self.autocast():
            cubes, logits = self.autoencoder.decode(self.scaler.denormalize(full), tile=self.options.tile)
        cubes, logits = cubes[:count].float(), logits[:count].float()
        noise = None
        if self.options.noise:
            shape = tuple(cubes.shape[1:])
            drawn = [create_rng(seed, "ldm noise", i).standard_normal(shape, dtype=np.float32) for i in indices]
            noise = self.options.noise * torch.from_numpy(np.stack(drawn)).to(cubes.device)
        return self.autoencoder.postprocess(cubes, logits, noise=noise)
