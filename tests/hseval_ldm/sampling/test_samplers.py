"""The samplers against closed forms and those of diffusers, and the independence of cubes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hseval.utils.errors import HsevalError
from hseval.utils.random_streams import create_rng
from hseval_ldm.models.unet import Denoiser
from hseval_ldm.models.unet import build_denoiser as build_unet
from hseval_ldm.options import LdmOptions
from hseval_ldm.sampling.samplers import SAMPLERS, build_scheduler, compute_sampling_times, sample_latents
from hseval_ldm.sampling.schedule import NoiseSchedule

STDS = torch.tensor([0.05, 0.1, 0.3, 1, 3, 10, 30, 100])  # from detail to mean brightness, one per channel
Denoise = Callable[[Tensor, Tensor], Tensor]


def build_denoiser(schedule: NoiseSchedule, clean: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Denoise:
    """Return the exact denoiser of a distribution, from its ``E[x_0 | x_t]`` as a function of x, alpha and sigma."""

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (level.double() for level in schedule.get_levels(t))
        return ((alpha * x - clean(x.double(), alpha, sigma)) / sigma).float()

    return denoise


def build_gaussian_denoiser(schedule: NoiseSchedule) -> Denoise:
    """Return the denoiser of channels whose standard deviation and mean are both ``STDS``."""
    s = STDS.double().view(-1, 1, 1)
    return build_denoiser(schedule, lambda x, a, b: s + a * s**2 / (a**2 * s**2 + b**2) * (x - a * s))


def sample(denoise: Denoise, schedule: NoiseSchedule, **options: Any) -> Tensor:
    defaults: dict[str, Any] = {"shape": (8, 4, 4), "indices": range(4), "seed": 0, "batch_size": 4}
    return torch.cat(list(sample_latents(denoise, training_schedule=schedule, **(defaults | options))))


def draw_initial_noise() -> Tensor:
    """Return the initial noise of the four cubes of :func:`sample`."""
    arrays = [create_rng(0, "ldm", index).standard_normal((8, 4, 4), np.float32) for index in range(4)]
    return torch.from_numpy(np.stack(arrays))


def measure_gain_and_offset(sampler: str, schedule: NoiseSchedule, steps: int) -> tuple[Tensor, Tensor]:
    """Return a and b of each channel: a deterministic sampler maps noise e to ``mean + std (a e + b)``."""
    latents = sample(build_gaussian_denoiser(schedule), schedule, sampler=sampler, steps=steps)
    scale = STDS.view(-1, 1, 1)
    x = ((latents - scale) / scale).transpose(0, 1).flatten(1).double()
    e = draw_initial_noise().transpose(0, 1).flatten(1).double()
    centered = e - e.mean(1, keepdim=True)
    a = (centered * x).sum(1) / centered.square().sum(1)
    b = x.mean(1) - a * e.mean(1)
    assert torch.allclose(x, a[:, None] * e + b[:, None], atol=2e-3)
    return a, b


@pytest.mark.parametrize(("steps", "tolerance"), [(8, 0.16), (12, 0.05), (20, 0.025), (50, 0.03)])
def test_dpm_solver_samples_gaussians_of_any_scale_in_few_steps(steps: int, tolerance: float) -> None:
    gain, offset = measure_gain_and_offset("dpm-solver", NoiseSchedule(), steps)
    assert float(gain.log().abs().max()) < tolerance
    assert float(offset.abs().max()) < 0.01


def test_dpm_solver_works_with_a_short_schedule() -> None:
    # The first level of a short schedule exceeds the smallest standard deviation, 0.05, so the last step is large.
    gain, offset = measure_gain_and_offset("dpm-solver", NoiseSchedule(300), 20)
    assert float(gain.log().abs().max()) < 0.15
    assert float(offset.abs().max()) < 0.03


def test_ddim_converges_with_the_number_of_steps() -> None:
    gains = [measure_gain_and_offset("ddim", NoiseSchedule(), steps)[0] for steps in (20, 100, 1000)]
    errors = [float(gain[2:6].log().abs().max()) for gain in gains]
    assert errors[0] > 3 * errors[1] > 9 * errors[2] and errors[2] < 0.02


@pytest.mark.parametrize("steps", [1000, 300])
def test_ddpm_has_mean_and_standard_deviation_within_sampling_error(steps: int) -> None:
    schedule = NoiseSchedule(steps)
    latents = sample(build_gaussian_denoiser(schedule), schedule, sampler="ddpm", steps=steps, shape=(8, 24, 24))
    scaled = latents.transpose(0, 1).flatten(1) / STDS[:, None]
    error = 1 / np.sqrt(scaled.shape[1])
    # Finite steps reduce the standard deviation slightly (the lower variance bound of Ho et al.), most at its extremes.
    assert float((scaled.mean(1) - 1).abs().max()) < 4.5 * error + 0.01
    assert float((scaled[2:6].std(1) - 1).abs().max()) < 4.5 * error / np.sqrt(2) + 0.02


@pytest.mark.parametrize(("sampler", "steps"), [("dpm-solver", 8), ("dpm-solver", 20), ("ddim", 20), ("ddpm", 100)])
def test_samples_of_a_two_point_distribution_are_at_the_points(sampler: str, steps: int) -> None:
    schedule = NoiseSchedule()
    denoise = build_denoiser(schedule, lambda x, a, b: torch.tanh(a * x / b**2))  # E[x_0 | x_t] of +-1
    latents = sample(denoise, schedule, sampler=sampler, steps=steps)
    assert float((latents.abs() - 1).abs().max()) < 1e-3
    assert abs(float(latents.mean())) < 4.5 / np.sqrt(latents.numel())


@pytest.mark.parametrize("t", [999, 998, 500, 10, 1, 0])
def test_ddpm_steps_equal_those_of_diffusers(t: int) -> None:
    from diffusers import DDPMScheduler

    schedule = NoiseSchedule()
    x, velocity = torch.randn((2, 3, 2, 4, 4), generator=torch.Generator().manual_seed(t))
    theirs = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", clip_sample=False)
    expected = theirs.step(velocity, t, x, generator=torch.Generator().manual_seed(7)).prev_sample
    ours = build_scheduler("ddpm", training_schedule=schedule, steps=1000)
    ours.set_begin_index(999 - t)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(7))
    assert torch.allclose(ours.step(velocity, None, x, variance_noise=noise).prev_sample, expected, atol=1e-3)


def test_ddim_samples_equal_those_of_diffusers() -> None:
    from diffusers import DDIMScheduler

    schedule = NoiseSchedule()
    arguments = {"beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "trailing", "clip_sample": False}
    theirs = DDIMScheduler(1000, prediction_type="v_prediction", **arguments)
    theirs.set_timesteps(20)
    x = draw_initial_noise()
    for t in theirs.timesteps:
        x = theirs.step(build_gaussian_denoiser(schedule)(x, t.expand(4)), int(t), x).prev_sample
    ours = sample(build_gaussian_denoiser(schedule), schedule, sampler="ddim", steps=20)
    assert torch.allclose(ours, x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("training", [1000, 300, 32])
def test_times_descend_from_the_last_and_levels_are_those_of_training(name: str, training: int) -> None:
    levels = NoiseSchedule(training)
    for steps in (1, 2, 3, 7, 20, 31, training // 2, training - 1, training):
        times = compute_sampling_times(name, levels, steps)
        assert len(times) == steps and times[0] == training - 1 and times[-1] >= 0
        assert (np.diff(times) < 0).all()
        solver = build_scheduler(name, training_schedule=levels, steps=steps)
        assert solver.timesteps.tolist() == times.tolist()
        sigma = np.sqrt((1 - levels.alpha_bar[times]) / levels.alpha_bar[times])
        np.testing.assert_allclose(solver.sigmas, [*sigma, 0], rtol=1e-6)


@pytest.fixture(scope="module")
def network() -> Denoiser:
    unet = build_unet(LdmOptions(base=16, unet_blocks=1), 4).eval()
    last: Any = unet.unet.conv_out
    last.weight.data = 0.1 * torch.randn(last.weight.shape, generator=torch.Generator().manual_seed(0))
    return unet


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_cube_depends_on_seed_and_index_alone(network: Denoiser, name: str) -> None:
    arguments: dict[str, Any] = {"sampler": name, "steps": 8, "shape": (4, 7, 7), "seed": 5}
    state = torch.get_rng_state()
    whole = sample(network, NoiseSchedule(), indices=range(8), batch_size=3, **arguments)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(whole, sample(network, NoiseSchedule(), indices=range(8), batch_size=3, **arguments))
    # Bit-identical wherever the sampling starts, stops or skips ...
    assert torch.equal(whole[5:7], sample(network, NoiseSchedule(), indices=[5, 6], batch_size=3, **arguments))
    assert torch.equal(whole[[7, 0]], sample(network, NoiseSchedule(), indices=[7, 0], batch_size=3, **arguments))
    # ... and equal up to rounding for any batch size.
    for batch_size in (1, 8):
        other = sample(network, NoiseSchedule(), indices=range(8), batch_size=batch_size, **arguments)
        assert float((other - whole).abs().max()) < 1e-5
    gaps = torch.cdist(whole.flatten(1), whole.flatten(1)) + 1e9 * torch.eye(8)
    assert float(gaps.min()) > 1
    assert (
        float((sample(network, NoiseSchedule(), indices=[0], **arguments | {"seed": 6}) - whole[:1]).abs().max()) > 0.1
    )


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_network_gets_full_batches_and_whole_times(name: str) -> None:
    calls = []

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        calls.append((tuple(x.shape), x.dtype, t.dtype, t.is_contiguous(), t.tolist()))
        return torch.zeros_like(x)

    arguments: dict[str, Any] = {
        "shape": (2, 3, 5),
        "indices": range(5),
        "seed": 0,
        "sampler": name,
        "steps": 6,
        "batch_size": 2,
    }
    parts = list(sample_latents(denoise, training_schedule=NoiseSchedule(), **arguments))
    assert [len(part) for part in parts] == [2, 2, 1]
    times = compute_sampling_times(name, NoiseSchedule(), 6).tolist()
    assert calls == [((2, 2, 3, 5), torch.float32, torch.int64, True, [t, t]) for _ in range(3) for t in times]
    assert list(sample_latents(denoise, training_schedule=NoiseSchedule(), **arguments | {"indices": []})) == []


def test_sampling_emits_no_warning_and_tracks_no_gradient(network: Denoiser) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in SAMPLERS:
            for part in sample_latents(
                network,
                shape=(4, 7, 7),
                indices=[0],
                seed=0,
                training_schedule=NoiseSchedule(),
                sampler=name,
                steps=2,
                batch_size=1,
            ):
                assert torch.is_grad_enabled() and not part.requires_grad


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(HsevalError, match=r"no sampler 'dpm_solver' \(did you mean 'dpm-solver'\?\)"):
        build_scheduler("dpm_solver", training_schedule=NoiseSchedule(), steps=20)
