"""The sampling pipeline from noise to finished cubes, used by the generator and by evaluations during training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor

from hseval.plugin import create_rng
from hseval_ldm.data.latent_cache import LatentScaler
from hseval_ldm.models.unet import select_memory_format
from hseval_ldm.models.vqgan import Autoencoder, CubeBatch
from hseval_ldm.options import LdmOptions
from hseval_ldm.sampling.samplers import DenoiseFunction, sample_latents
from hseval_ldm.sampling.schedule import NoiseSchedule

CPU_BATCH_SIZE = 4


@dataclasses.dataclass
class Pipeline:
    """The networks, in evaluation mode on ``device``, and the settings of sampling.

    ``denoise`` is the U-Net, ``(x, t) -> velocity``, which was trained with ``schedule`` on latents that ``scaler``
    normalized; ``autocast`` is the precision in which the networks run.
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
        """Number of cubes per forward pass.

        It is constant on a CPU: kernels sum in an order that depends on the batch, rounding decides between two codes
        that are equally near, and ``batch_size`` must not change any cube.
        """
        return CPU_BATCH_SIZE if self.device.type == "cpu" else self.options.batch_size

    def generate_cubes(self, indices: Sequence[int], *, seed: int) -> Iterator[tuple[int, CubeBatch]]:
        """Yield ``(index, one finished cube)`` in order, all tensors on the CPU; cube i depends on (seed, i) alone."""
        batches = sample_latents(
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
        for latents in batches:
            batch_indices = indices[start : start + len(latents)]
            start += len(latents)
            decoded = self._decode(latents, [int(index) for index in batch_indices], seed)
            for position, index in enumerate(batch_indices):
                yield index, CubeBatch(*(tensor[position : position + 1].cpu() for tensor in decoded))

    def _predict_velocity(self, noisy: Tensor, t: Tensor) -> Tensor:
        with self.autocast():
            return self.denoise(noisy.contiguous(memory_format=select_memory_format(self.device)), t)

    @torch.no_grad()
    def _decode(self, latents: Tensor, indices: Sequence[int], seed: int) -> CubeBatch:
        """Decode in batches of constant size, and add the noise of each cube's own stream."""
        count = len(latents)
        padded = torch.cat([latents, latents[-1:].expand(self.batch_size - count, -1, -1, -1)])
        with self.autocast():
            cubes, logits = self.autoencoder.decode(self.scaler.denormalize(padded), tile=self.options.tile)
        cubes, logits = cubes[:count].float(), logits[:count].float()
        noise = None
        if self.options.noise:
            shape = tuple(cubes.shape[1:])
            arrays = [create_rng(seed, "ldm noise", i).standard_normal(shape, dtype=np.float32) for i in indices]
            noise = self.options.noise * torch.from_numpy(np.stack(arrays)).to(cubes.device)
        return self.autoencoder.postprocess(cubes, logits, noise=noise)
