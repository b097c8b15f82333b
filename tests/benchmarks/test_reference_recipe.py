"""The reference recipe of the benchmarks solves the same problem as hseval_ldm, equally well."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.ldm.reference_recipe import Recipe, build_ddpm_scheduler, copy_contiguous, sample_ancestral
from hseval_ldm.data.dataset import CubeDataset
from hseval_ldm.data.latent_cache import LatentScaler
from hseval_ldm.data.normalization import Normalization
from hseval_ldm.models.unet import build_denoiser
from hseval_ldm.models.vqgan import build_autoencoder
from hseval_ldm.options import LdmOptions
from hseval_ldm.sampling.schedule import NoiseSchedule
from hseval_ldm.training.stage_diffusion import encode_cubes
from tests.helpers.sets import make_texture_set

CPU = torch.device("cpu")


def test_300_ancestral_steps_give_a_gaussian() -> None:
    """The exact velocity of Gaussian latents is known; the samples must have their moments."""
    schedule, scheduler = NoiseSchedule(1000), build_ddpm_scheduler(NoiseSchedule(1000))
    scheduler.set_timesteps(300)
    mean, std = torch.tensor([0.0, 1.0, -2.0]).view(3, 1, 1), torch.tensor([1.0, 0.3, 2.0]).view(3, 1, 1)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = schedule.get_levels(t)
        clean = mean + alpha * std**2 / (alpha**2 * std**2 + sigma**2) * (x - alpha * mean)
        return (alpha * x - clean) / sigma

    samples = sample_ancestral(velocity, scheduler, (8, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    per_channel = samples.transpose(0, 1).flatten(1)
    # 8192 numbers: the error of the mean is 0.011 standard deviations, that of the standard deviation 0.8 %; 300 steps
    # add 2 %.
    assert torch.allclose(per_channel.mean(1), mean.flatten(), atol=0.08)
    assert torch.allclose(per_channel.std(1), std.flatten(), rtol=0.05)


def test_its_noise_and_velocity_are_those_of_the_training() -> None:
    schedule = NoiseSchedule(1000)
    generator = torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(6, 3, 4, 4, generator=generator) for _ in range(2))
    times = torch.tensor([0, 1, 10, 500, 990, 999])
    noisy, velocity = schedule.add_noise(latents, noise, times)
    scheduler = build_ddpm_scheduler(schedule)
    assert torch.allclose(scheduler.add_noise(latents, noise, times), noisy, atol=1e-4)
    assert torch.allclose(scheduler.get_velocity(latents, noise, times), velocity, atol=1e-4)


def make_recipe() -> tuple[Recipe, CubeDataset, LdmOptions]:
    options = LdmOptions(preset="smoke")
    data = make_texture_set(4, size=24)
    normalization = Normalization.measure(data, range(4))
    autoencoder = build_autoencoder(options, normalization)
    with torch.no_grad():
        autoencoder.codebook.vectors.normal_(generator=torch.Generator().manual_seed(0))
    scale = LatentScaler(torch.full((4,), 0.5), torch.full((4,), 2.0))
    schedule = NoiseSchedule(options.timesteps)
    recipe = Recipe(autoencoder, build_denoiser(options, 4), scale, schedule, device=CPU)
    return recipe, CubeDataset(data, range(4), normalization, memory_gib=1), options


def test_a_step_trains_only_the_denoiser_on_the_latents_of_the_cache() -> None:
    recipe, data, options = make_recipe()
    noised_latents: list[Tensor] = []
    add_noise = recipe.training.add_noise
    recipe.training.add_noise = lambda latents, *rest: (noised_latents.append(latents), add_noise(latents, *rest))[1]
    before = {name: value.clone() for name, value in recipe.denoiser.named_parameters()}
    frozen = {name: value.clone() for name, value in recipe.autoencoder.state_dict().items()}
    at = torch.arange(4).numpy()
    loss = recipe.step(data.load_batch(at))
    cached = recipe.scale.normalize(encode_cubes(recipe.autoencoder, data, at, options, CPU))
    assert torch.allclose(noised_latents[0], cached, atol=1e-5)
    # An untrained network predicts 0, so the loss is the mean square of the velocity, near 1 for latents near 0.
    assert 0.2 < float(loss) < 5
    assert any(not torch.equal(before[name], value) for name, value in recipe.denoiser.named_parameters())
    assert all(torch.equal(frozen[name], value) for name, value in recipe.autoencoder.state_dict().items())


def test_a_sample_is_a_finished_cube_and_differs_from_the_next() -> None:
    recipe = make_recipe()[0]
    first, second = recipe.sample(), recipe.sample()
    assert first.cubes.shape == (1, 6, 24, 24) and first.masks.shape == (1, 3, 24, 24)
    assert recipe.steps == 100  # no more than in training
    assert torch.isfinite(first.cubes).all() and not first.masks[~first.field.expand_as(first.masks)].any()
    assert not torch.equal(first.cubes, second.cubes)


def test_copies_leave_the_original_in_its_layout() -> None:
    original = torch.nn.Conv2d(8, 8, 3).to(memory_format=torch.channels_last)
    copy = copy_contiguous(original, CPU)
    assert copy.weight.is_contiguous() and not original.weight.is_contiguous()
    assert torch.equal(copy.weight, original.weight) and copy.weight is not original.weight
