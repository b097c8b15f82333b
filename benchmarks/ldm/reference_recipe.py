"""The reference recipe, built from diffusers' parts, to compare hseval_ldm with at equal networks.

A latent diffusion model as first published for such cubes: float32, NCHW and torch's defaults throughout; ancestral
sampling in 300 steps (Ho et al. 2020), one cube at a time; training encodes its cubes anew in every step. There is
no gradient clipping, no moving average of weights and no weighted loss, whose cost hseval_ldm bears.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from hseval_ldm.data.latent_cache import LatentScaler
from hseval_ldm.data.normalization import Batch, pad_batch
from hseval_ldm.models.unet import Denoiser
from hseval_ldm.models.vqgan import Autoencoder, CubeBatch
from hseval_ldm.sampling.schedule import NoiseSchedule

STEPS = 300
RATE = 1e-4

Velocity = Callable[[Tensor, Tensor], Tensor]
M = TypeVar("M", bound=nn.Module)


def build_ddpm_scheduler(schedule: NoiseSchedule) -> Any:
    """Return diffusers' ``DDPMScheduler`` for velocity prediction with the noise levels of ``schedule``."""
    import diffusers

    build: Any = diffusers.DDPMScheduler
    return build(
        num_train_timesteps=schedule.steps,
        trained_betas=schedule.betas.tolist(),
        prediction_type="v_prediction",
        clip_sample=False,
        timestep_spacing="trailing",  # the default, "leading", does not start from the noisiest level
    )


class Recipe:
    """Draw cubes and take training steps with copies of the given networks in torch's default memory layout."""

    def __init__(
        self,
        autoencoder: Autoencoder,
        denoiser: Denoiser,
        scale: LatentScaler,
        schedule: NoiseSchedule,
        *,
        device: torch.device,
        noise: float = 1.0,
        seed: int = 0,
    ) -> None:
        """Copy the networks; ``noise`` is that of samples, as in hseval_ldm's option."""
        self.autoencoder = copy_contiguous(autoencoder, device).eval().requires_grad_(False)
        self.denoiser = copy_contiguous(denoiser, device).requires_grad_(True)
        self.scale, self.device, self.noise = scale, device, noise
        self.sampling, self.training = build_ddpm_scheduler(schedule), build_ddpm_scheduler(schedule)
        self.steps = min(STEPS, schedule.steps)
        self.sampling.set_timesteps(self.steps)
        self.optimizer = torch.optim.AdamW(self.denoiser.parameters(), lr=RATE)
        self.generator = torch.Generator(device).manual_seed(seed)

    @torch.no_grad()
    def sample(self) -> CubeBatch:
        """Draw one cube, postprocessed as in hseval_ldm's pipeline; its tensors are on the CPU."""
        self.denoiser.eval()
        shape = self.autoencoder.latent_shape
        latents = sample_ancestral(self.denoiser, self.sampling, (1, *shape), generator=self.generator)
        cubes, logits = self.autoencoder.decode(self.scale.denormalize(latents))
        noise = torch.randn(cubes.shape, generator=self.generator, device=self.device)
        cube = self.autoencoder.postprocess(cubes, logits, noise=self.noise * noise if self.noise else None)
        return CubeBatch(*(tensor.cpu() for tensor in cube))

    def step(self, batch: Batch) -> Tensor:
        """Take one training step on a batch of cubes on the CPU; return the loss."""
        images = pad_batch(batch, self.autoencoder.compression).to(self.device).to_network_input()
        with torch.no_grad():
            latents = self.scale.normalize(self.autoencoder.encoder(images))
        noise = torch.randn(latents.shape, generator=self.generator, device=self.device)
        levels = self.training.config.num_train_timesteps
        times = torch.randint(levels, (len(latents),), generator=self.generator, device=self.device)
        noisy = self.training.add_noise(latents, noise, times)
        self.denoiser.train()
        loss = functional.mse_loss(self.denoiser(noisy, times), self.training.get_velocity(latents, noise, times))
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()


@torch.no_grad()
def sample_ancestral(
    velocity: Velocity, scheduler: Any, shape: tuple[int, ...], *, generator: torch.Generator
) -> Tensor:
    """Return latents of ``shape``, sampled as in diffusers' ``DDPMPipeline`` with the scheduler's own times."""
    x = torch.randn(shape, generator=generator, device=generator.device)
    for t in scheduler.timesteps:
        predicted = velocity(x, t.to(x.device).expand(len(x)))
        x = scheduler.step(predicted, t, x, generator=generator, return_dict=False)[0]
    return x


def copy_contiguous(module: M, device: torch.device) -> M:
    """Return a copy of a network with weights in torch's default memory layout."""
    return copy.deepcopy(module).to(device).to(memory_format=torch.contiguous_format)
