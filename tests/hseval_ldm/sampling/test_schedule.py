"""The diffusion process against diffusers and closed forms, and the random draws of a training step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hseval.utils.errors import HsevalError
from hseval_ldm.sampling.schedule import NoiseSchedule, draw_times_and_noise, velocity_loss

STEPS = [1000, 300, 32]


@pytest.mark.parametrize("steps", STEPS)
def test_it_agrees_with_diffusers(steps: int) -> None:
    from diffusers import DDPMScheduler

    schedule = NoiseSchedule(steps)
    theirs = DDPMScheduler(steps, prediction_type="v_prediction", beta_schedule="squaredcos_cap_v2")
    np.testing.assert_allclose(theirs.alphas_cumprod[:-1], schedule.alpha_bar[:-1], rtol=2e-3, atol=1e-6)
    generator = torch.Generator().manual_seed(1)
    latents, noise = torch.randn((2, 8, 3, 5, 4), generator=generator)
    t = torch.linspace(0, steps - 1, 8).long()
    noisy, velocity = schedule.add_noise(latents, noise, t)
    # The last alpha is exactly zero in diffusers, and slightly positive here.
    assert torch.allclose(noisy, theirs.add_noise(latents, noise, t), atol=2e-3)
    assert torch.allclose(velocity, theirs.get_velocity(latents, noise, t), atol=2e-3)


@pytest.mark.parametrize("steps", STEPS)
def test_levels_descend_from_almost_no_noise_to_almost_no_signal(steps: int) -> None:
    schedule = NoiseSchedule(steps)
    assert len(schedule.alpha_bar) == steps and (np.diff(schedule.alpha_bar) < 0).all()
    assert schedule.alpha_bar[0] > 0.98 and 0 < schedule.alpha_bar[-1] < (2e-4 if steps >= 300 else 2e-3) ** 2
    assert ((schedule.betas > 0) & (schedule.betas < 1)).all()
    np.testing.assert_allclose(np.cumprod(1 - schedule.betas), schedule.alpha_bar, rtol=1e-9)


def test_loss_weights_are_those_of_hang_et_al() -> None:
    schedule, t = NoiseSchedule(), torch.arange(1000)
    snr = schedule.alpha_bar / (1 - schedule.alpha_bar)
    np.testing.assert_allclose(
        schedule.compute_loss_weights(t, 5.0), np.minimum(snr, 5) / (snr + 1), rtol=1e-5, atol=1e-12
    )
    assert torch.equal(schedule.compute_loss_weights(t, 0.0), torch.ones(1000))


def test_the_loss_is_the_weighted_mean_square_per_cube() -> None:
    schedule, t = NoiseSchedule(), torch.tensor([10, 500, 990])
    velocity = torch.randn((3, 4, 6, 6), generator=torch.Generator().manual_seed(3))
    errors = torch.tensor([1.0, 2.0, 0.0]).view(3, 1, 1, 1)
    expected = torch.tensor([1.0, 4.0, 0.0]) * schedule.compute_loss_weights(t, 5.0)
    assert torch.allclose(velocity_loss(schedule, velocity + errors, velocity, t), expected, rtol=1e-4)
    half = velocity_loss(schedule, (velocity + errors).bfloat16(), velocity, t)
    assert half.dtype == torch.float32 and torch.allclose(half, expected, rtol=0.02, atol=1e-4)


def test_times_are_stratified_and_uniform() -> None:
    schedule, drawn = NoiseSchedule(steps=320), []
    for step in range(500):
        t, _ = draw_times_and_noise(step, batch_size=8, shape=(1, 1, 1), seed=5, schedule=schedule, device="cpu")
        assert t.dtype == torch.int64
        assert len({int(time) // 40 for time in t}) == 8  # one in each eighth, for any offset
        drawn.append(t.numpy())
    counts = np.bincount(np.concatenate(drawn), minlength=320)
    assert len(counts) == 320 and ((counts - 12.5) ** 2 / 12.5).sum() < 320 + 5 * np.sqrt(640)
    first = np.array(drawn)[:, 0]  # also at a single position of the batch
    assert abs(first.mean() / 320 - 0.5) < 5 / np.sqrt(12 * 500)


def test_draws_are_a_function_of_seed_and_step() -> None:
    arguments = {"batch_size": 6, "shape": (3, 8, 8), "schedule": NoiseSchedule(), "device": "cpu"}
    state = torch.get_rng_state()
    t, noise = draw_times_and_noise(7, seed=1, **arguments)
    again = draw_times_and_noise(7, seed=1, **arguments)
    assert torch.equal(t, again[0]) and torch.equal(noise, again[1])
    assert torch.equal(torch.get_rng_state(), state)
    for other in (draw_times_and_noise(8, seed=1, **arguments), draw_times_and_noise(7, seed=2, **arguments)):
        assert abs(float((noise * other[1]).mean())) < 5 / np.sqrt(noise.numel())
    assert abs(float(noise.mean())) < 5 / np.sqrt(noise.numel()) and abs(float(noise.std()) - 1) < 0.15


def test_too_few_steps_are_refused() -> None:
    with pytest.raises(HsevalError, match="31 steps, expected 32 or more"):
        NoiseSchedule(31)
