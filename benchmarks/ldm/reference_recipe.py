"""The reference recipe, built from diffusers' parts: what hseval_ldm is measured against at equal networks.

A latent diffusion model as first published for such cubes: float32, NCHW and torch's defaults throughout; ancestral
sampling in 300 steps (Ho et al. 2020), cubes one by one; training encodes its pictures anew in every step. There is
no gradient clipping, no moving average of weights and no weighted loss, all of which hseval_ldm pays for.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from hseval_ldm.data.latent_cache import LatentScaler
from hseval_ldm.data.normalization import Batch
from hseval_ldm.models.unet import Denoiser
from hseval_ldm.models.vqgan import Autoencoder, CubeBatch, pad_batch
from hseval_ldm.sampling.schedule import NoiseSchedule

STEPS = 300
RATE = 1e-4

Velocity = Callable[[Tensor, Tensor], Tensor]
M = TypeVar("M", bound=nn.Module)


def ddpm(schedule: NoiseSchedule) -> Any:
    """Return diffusers' ``DDPMScheduler`` for a velocity under the noise levels of ``schedule``."""
    import diffusers

    build: Any = diffusers.DDPMScheduler
    return build(
        num_train_timesteps=schedule.steps,
        trained_betas=schedule.betas.tolist(),
        prediction_type="v_prediction",
        clip_sample=False,
        timestep_spacing="trailing",  # its default, "leading", never starts from the noisiest level
    )


class Recipe:
    """Draws cubes and takes training steps with copies of the given networks, laid out as torch does by default."""

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
        """Copy the networks; ``noise`` is that of samples, as the option of hseval_ldm."""
        self.autoencoder = copied(autoencoder, device).eval().requires_grad_(False)
        self.denoiser = copied(denoiser, device).requires_grad_(True)
        self.scale, self.device, self.noise = scale, device, noise
        self.sampling, self.training = ddpm(schedule), ddpm(schedule)
        self.steps = min(STEPS, schedule.steps)
        self.sampling.set_timesteps(self.steps)
        self.optimizer = torch.optim.AdamW(self.denoiser.parameters(), lr=RATE)
        self.generator = torch.Generator(device).manual_seed(seed)

    @torch.no_grad()
    def sample(self) -> CubeBatch:
        """Draw one cube, as hseval_ldm's pipeline finishes it; its tensors are on the CPU."""
        self.denoiser.eval()
        shape = self.autoencoder.latent_shape
        latents = ancestral(self.denoiser, self.sampling, (1, *shape), generator=self.generator)
        cubes, logits = self.autoencoder.decode(self.scale.denormalize(latents))
        noise = torch.randn(cubes.shape, generator=self.generator, device=self.device)
        made = self.autoencoder.postprocess(cubes, logits, noise=self.noise * noise if self.noise else None)
        return CubeBatch(*(part.cpu() for part in made))

    def step(self, batch: Batch) -> Tensor:
        """Take one training step on a batch of cubes, which comes from the CPU; return the loss."""
        picture = pad_batch(batch, self.autoencoder.compression).to(self.device).to_network_input()
        with torch.no_grad():
            latents = self.scale.normalize(self.autoencoder.encoder(picture))
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
def ancestral(velocity: Velocity, scheduler: Any, shape: tuple[int, ...], *, generator: torch.Generator) -> Tensor:
    """Return latents ``shape``, sampled as diffusers' ``DDPMPipeline`` does with the scheduler's own times."""
    x = torch.randn(shape, generator=generator, device=generator.device)
    for t in scheduler.timesteps:
        predicted = velocity(x, t.to(x.device).expand(len(x)))
        x = scheduler.step(predicted, t, x, generator=generator, return_dict=False)[0]
    return x


def copied(module: M, device: torch.device) -> M:
    """Return a copy of a network whose weights lie in memory as torch has them by default."""
    return copy.deepcopy(module).to(device).to(memory_format=torch.contiguous_format)
