"""The recipe that benchmarks compare with solves the same problem as hseval_ldm, and as well."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.ldm.reference_recipe import Recipe, ancestral, copied, ddpm
from hseval_ldm.data.dataset import CubeDataset
from hseval_ldm.data.latent_cache import LatentScaler
from hseval_ldm.data.normalization import Normalization
from hseval_ldm.models.vqgan import build_autoencoder
from hseval_ldm.options import LdmOptions
from hseval_ldm.sampling.schedule import NoiseSchedule
from hseval_ldm.training.run import build_denoiser
from hseval_ldm.training.stage_diffusion import encode_cubes
from tests.helpers.sets import texture_set

CPU = torch.device("cpu")


def test_300_ancestral_steps_give_a_gaussian() -> None:
    """The exact velocity of latents of mean m and deviation s is known; so must be the samples' moments."""
    schedule, scheduler = NoiseSchedule("cosine", 1000), ddpm(NoiseSchedule("cosine", 1000))
    scheduler.set_timesteps(300)
    mean, deviation = torch.tensor([0.0, 1.0, -2.0]).view(3, 1, 1), torch.tensor([1.0, 0.3, 2.0]).view(3, 1, 1)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = schedule.get_levels(t)
        clean = mean + alpha * deviation**2 / (alpha**2 * deviation**2 + sigma**2) * (x - alpha * mean)
        return (alpha * x - clean) / sigma

    drawn = ancestral(velocity, scheduler, (8, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    per_channel = drawn.transpose(0, 1).flatten(1)
    # 8192 numbers: the mean is known to 0.011 deviations, the deviation to 0.8 %; 300 steps cost 2 %.
    assert torch.allclose(per_channel.mean(1), mean.flatten(), atol=0.08)
    assert torch.allclose(per_channel.std(1), deviation.flatten(), rtol=0.05)


def test_its_noise_and_velocity_are_those_of_the_training() -> None:
    schedule = NoiseSchedule("cosine", 1000)
    drawn = torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(6, 3, 4, 4, generator=drawn) for _ in range(2))
    times = torch.tensor([0, 1, 10, 500, 990, 999])
    noisy, velocity = schedule.add_noise(latents, noise, times)
    theirs = ddpm(schedule)
    assert torch.allclose(theirs.add_noise(latents, noise, times), noisy, atol=1e-4)
    assert torch.allclose(theirs.get_velocity(latents, noise, times), velocity, atol=1e-4)


def recipe() -> tuple[Recipe, CubeDataset, LdmOptions]:
    options = LdmOptions(preset="smoke")
    data = texture_set(4, size=24)
    normalisation = Normalization.measure(data, range(4))
    autoencoder = build_autoencoder(options, normalisation)
    with torch.no_grad():
        autoencoder.codebook.vectors.normal_(generator=torch.Generator().manual_seed(0))
    scale = LatentScaler(torch.full((4,), 0.5), torch.full((4,), 2.0))
    schedule = NoiseSchedule("cosine", options.timesteps)
    made = Recipe(autoencoder, build_denoiser(options, 4), scale, schedule, device=CPU)
    return made, CubeDataset.open(data, range(4), normalisation, memory_gib=1), options


def test_a_step_trains_the_denoiser_alone_and_on_the_latents_that_the_cache_would_hold() -> None:
    made, data, options = recipe()
    seen: list[Tensor] = []
    add_noise = made.training.add_noise
    made.training.add_noise = lambda latents, *rest: (seen.append(latents), add_noise(latents, *rest))[1]
    before = {name: value.clone() for name, value in made.denoiser.named_parameters()}
    frozen = {name: value.clone() for name, value in made.autoencoder.state_dict().items()}
    at = torch.arange(4).numpy()
    loss = made.step(data.load_batch(at))
    cached = made.scale.normalize(encode_cubes(made.autoencoder, data, at, options, CPU))
    assert torch.allclose(seen[0], cached, atol=1e-5)
    # An untrained network predicts 0, so the loss is the mean square of the velocity, near 1 for latents near 0.
    assert 0.2 < float(loss) < 5
    assert any(not torch.equal(before[name], value) for name, value in made.denoiser.named_parameters())
    assert all(torch.equal(frozen[name], value) for name, value in made.autoencoder.state_dict().items())


def test_a_sample_is_a_finished_cube_and_the_next_one_another() -> None:
    made = recipe()[0]
    one, other = made.sample(), made.sample()
    assert one.cubes.shape == (1, 6, 24, 24) and one.masks.shape == (1, 3, 24, 24)
    assert made.steps == 100  # no more than the training had
    assert torch.isfinite(one.cubes).all() and not one.masks[~one.field.expand_as(one.masks)].any()
    assert not torch.equal(one.cubes, other.cubes)


def test_copies_leave_the_original_in_its_layout() -> None:
    original = torch.nn.Conv2d(8, 8, 3).to(memory_format=torch.channels_last)
    other = copied(original, CPU)
    assert other.weight.is_contiguous() and not original.weight.is_contiguous()
    assert torch.equal(other.weight, original.weight) and other.weight is not original.weight
