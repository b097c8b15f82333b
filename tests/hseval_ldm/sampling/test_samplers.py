"""The samplers against closed forms, against diffusers' own, and what a cube may depend on."""

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
from hseval_ldm.models.unet import Denoiser, build_unet
from hseval_ldm.sampling.samplers import SAMPLERS, build_scheduler, compute_sampling_times, sample_latents
from hseval_ldm.sampling.schedule import NoiseSchedule

DEVIATIONS = torch.tensor([0.05, 0.1, 0.3, 1, 3, 10, 30, 100])  # from detail to mean brightness, one a channel
Denoise = Callable[[Tensor, Tensor], Tensor]


def velocity_of(schedule: NoiseSchedule, clean: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Denoise:
    """Return the exact network of a distribution, given its ``E[x_0 | x_t]`` by x, alpha and sigma."""

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (level.double() for level in schedule.get_levels(t))
        return ((alpha * x - clean(x.double(), alpha, sigma)) / sigma).float()

    return denoise


def gaussian(schedule: NoiseSchedule) -> Denoise:
    """The network of channels whose deviation and mean are both ``DEVIATIONS``."""
    s = DEVIATIONS.double().view(-1, 1, 1)
    return velocity_of(schedule, lambda x, a, b: s + a * s**2 / (a**2 * s**2 + b**2) * (x - a * s))


def samples(denoise: Denoise, schedule: NoiseSchedule, **given: Any) -> Tensor:
    defaults: dict[str, Any] = {"shape": (8, 4, 4), "indices": range(4), "seed": 0, "batch_size": 4}
    return torch.cat(list(sample_latents(denoise, training_schedule=schedule, **(defaults | given))))


def initial_noise() -> Tensor:
    """Return what the four cubes of :func:`samples` start from."""
    drawn = [create_rng(0, "ldm", index).standard_normal((8, 4, 4), np.float32) for index in range(4)]
    return torch.from_numpy(np.stack(drawn))


def gain_and_offset(name: str, schedule: NoiseSchedule, steps: int) -> tuple[Tensor, Tensor]:
    """Return a and b of each channel: a deterministic sampler takes noise e to ``mean + deviation (a e + b)``."""
    drawn = samples(gaussian(schedule), schedule, name=name, steps=steps)
    scale = DEVIATIONS.view(-1, 1, 1)
    x = ((drawn - scale) / scale).transpose(0, 1).flatten(1).double()
    e = initial_noise().transpose(0, 1).flatten(1).double()
    centred = e - e.mean(1, keepdim=True)
    a = (centred * x).sum(1) / centred.square().sum(1)
    b = x.mean(1) - a * e.mean(1)
    assert torch.allclose(x, a[:, None] * e + b[:, None], atol=2e-3)
    return a, b


@pytest.mark.parametrize(("steps", "off"), [(8, 0.16), (12, 0.05), (20, 0.025), (50, 0.03)])
def test_dpm_solver_gives_a_gaussian_of_any_scale_in_few_steps(steps: int, off: float) -> None:
    gain, offset = gain_and_offset("dpm-solver", NoiseSchedule(), steps)
    assert float(gain.log().abs().max()) < off
    assert float(offset.abs().max()) < 0.01


@pytest.mark.parametrize(("name", "steps"), [("linear", 1000), ("linear", 300), ("cosine", 300)])
def test_dpm_solver_fits_the_other_schedules(name: str, steps: int) -> None:
    # The first level of a short schedule is noisier than the finest deviation, 0.05, so the last step is a large one.
    gain, offset = gain_and_offset("dpm-solver", NoiseSchedule(name, steps), 20)
    assert float(gain.log().abs().max()) < (0.03 if steps == 1000 else 0.15)
    assert float(offset.abs().max()) < 0.03


def test_ddim_comes_close_in_many_steps() -> None:
    gains = [gain_and_offset("ddim", NoiseSchedule(), steps)[0] for steps in (20, 100, 1000)]
    errors = [float(gain[2:6].log().abs().max()) for gain in gains]
    assert errors[0] > 3 * errors[1] > 9 * errors[2] and errors[2] < 0.02


@pytest.mark.parametrize(("name", "steps"), [("cosine", 1000), ("cosine", 300), ("linear", 300)])
def test_ddpm_has_mean_and_deviation_within_sampling_error(name: str, steps: int) -> None:
    schedule = NoiseSchedule(name, steps)
    drawn = samples(gaussian(schedule), schedule, sampler="ddpm", steps=steps, shape=(8, 24, 24))
    scaled = drawn.transpose(0, 1).flatten(1) / DEVIATIONS[:, None]
    error = 1 / np.sqrt(scaled.shape[1])
    # Steps of finite size take a little of the deviation (Ho et al.'s lower variance bound), most at its ends.
    assert float((scaled.mean(1) - 1).abs().max()) < 4.5 * error + 0.01
    assert float((scaled[2:6].std(1) - 1).abs().max()) < 4.5 * error / np.sqrt(2) + 0.02


@pytest.mark.parametrize(("name", "steps"), [("dpm-solver", 8), ("dpm-solver", 20), ("ddim", 20), ("ddpm", 100)])
def test_samples_of_two_points_land_on_them(name: str, steps: int) -> None:
    schedule = NoiseSchedule()
    denoise = velocity_of(schedule, lambda x, a, b: torch.tanh(a * x / b**2))  # E[x_0 | x_t] of +-1
    drawn = samples(denoise, schedule, name=name, steps=steps)
    assert float((drawn.abs() - 1).abs().max()) < 1e-3
    assert abs(float(drawn.mean())) < 4.5 / np.sqrt(drawn.numel())


@pytest.mark.parametrize("t", [999, 998, 500, 10, 1, 0])
def test_ddpm_steps_as_diffusers_ddpm(t: int) -> None:
    from diffusers import DDPMScheduler

    schedule = NoiseSchedule()
    x, velocity = torch.randn((2, 3, 2, 4, 4), generator=torch.Generator().manual_seed(t))
    theirs = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", clip_sample=False)
    expected = theirs.step(velocity, t, x, generator=torch.Generator().manual_seed(7)).prev_sample
    ours = build_scheduler("ddpm", training_schedule=schedule, steps=1000)
    ours.set_begin_index(999 - t)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(7))
    assert torch.allclose(ours.step(velocity, None, x, variance_noise=noise).prev_sample, expected, atol=1e-3)


def test_ddim_samples_as_diffusers_ddim() -> None:
    from diffusers import DDIMScheduler

    schedule = NoiseSchedule()
    given = {"beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "trailing", "clip_sample": False}
    theirs = DDIMScheduler(1000, prediction_type="v_prediction", **given)
    theirs.set_timesteps(20)
    x = initial_noise()
    for t in theirs.timesteps:
        x = theirs.step(gaussian(schedule)(x, t.expand(4)), int(t), x).prev_sample
    ours = samples(gaussian(schedule), schedule, sampler="ddim", steps=20)
    assert torch.allclose(ours, x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(("schedule", "training"), [("cosine", 1000), ("linear", 300), ("linear", 32)])
def test_times_fall_from_the_last_and_levels_are_those_of_training(name: str, schedule: str, training: int) -> None:
    levels = NoiseSchedule(schedule, training)
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
    made = build_unet(channels=4, base=16, blocks=1, head=16).eval()
    last: Any = made.unet.conv_out
    last.weight.data = 0.1 * torch.randn(last.weight.shape, generator=torch.Generator().manual_seed(0))
    return made


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_cube_depends_on_seed_and_index_alone(network: Denoiser, name: str) -> None:
    given: dict[str, Any] = {"sampler": name, "steps": 8, "shape": (4, 7, 7), "seed": 5}
    state = torch.get_rng_state()
    whole = samples(network, NoiseSchedule(), indices=range(8), batch=3, **given)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(whole, samples(network, NoiseSchedule(), indices=range(8), batch=3, **given))
    # To the last bit wherever it starts, stops or skips ...
    assert torch.equal(whole[5:7], samples(network, NoiseSchedule(), indices=[5, 6], batch=3, **given))
    assert torch.equal(whole[[7, 0]], samples(network, NoiseSchedule(), indices=[7, 0], batch=3, **given))
    # ... and in all but the last digits whatever the batch.
    for batch in (1, 8):
        other = samples(network, NoiseSchedule(), indices=range(8), batch=batch, **given)
        assert float((other - whole).abs().max()) < 1e-5
    gaps = torch.cdist(whole.flatten(1), whole.flatten(1)) + 1e9 * torch.eye(8)
    assert float(gaps.min()) > 1
    assert float((samples(network, NoiseSchedule(), indices=[0], **given | {"seed": 6}) - whole[:1]).abs().max()) > 0.1


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_network_always_gets_full_batches_and_whole_times(name: str) -> None:
    asked = []

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        asked.append((tuple(x.shape), x.dtype, t.dtype, t.is_contiguous(), t.tolist()))
        return torch.zeros_like(x)

    given: dict[str, Any] = {
        "shape": (2, 3, 5),
        "indices": range(5),
        "seed": 0,
        "sampler": name,
        "steps": 6,
        "batch_size": 2,
    }
    parts = list(sample_latents(denoise, training_schedule=NoiseSchedule(), **given))
    assert [len(part) for part in parts] == [2, 2, 1]
    times = compute_sampling_times(name, NoiseSchedule(), 6).tolist()
    assert asked == [((2, 2, 3, 5), torch.float32, torch.int64, True, [t, t]) for _ in range(3) for t in times]
    assert list(sample_latents(denoise, training_schedule=NoiseSchedule(), **given | {"indices": []})) == []


def test_no_warning_and_no_gradient_reaches_the_user(network: Denoiser) -> None:
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


def test_unusable_choices_are_refused() -> None:
    with pytest.raises(HsevalError, match=r"no sampler 'dpm_solver' \(did you mean 'dpm-solver'\?\)"):
        build_scheduler("dpm_solver", training_schedule=NoiseSchedule(), steps=20)
    for steps in (0, 301):
        with pytest.raises(HsevalError, match=f"{steps} steps, expected 1 to 300"):
            build_scheduler("ddpm", training_schedule=NoiseSchedule(steps=300), steps=steps)
    with pytest.raises(HsevalError, match="a batch of 0, expected 1 or more"):
        samples(lambda x, _: x, NoiseSchedule(), batch=0)
