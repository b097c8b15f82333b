"""The noise measure: the camera that drew the noise is found again, whatever the reconstruction missed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import truncnorm
from torch import Tensor

from hseval_ldm.models.sensor_noise import NORMAL_TRIMMED_VARIANCE, TRIM_STDS, SensorNoise, extract_noise_pixels
from tests.helpers.random_weights import normal

COUNT, SIDE = 24, 64
OFFSET, SLOPE = (
    np.array([4e-4, 0.0, 1e-3]),
    np.array([2e-3, 4e-3, 0.0]),
)  # both kinds, shot noise alone, read noise alone
CAMERA = SensorNoise(OFFSET, SLOPE)
FIELD = torch.ones(COUNT, 1, SIDE, SIDE, dtype=torch.bool)
LEVELS = torch.tensor([0.3, 0.5, 0.8]).view(1, 1, 1, 3).expand(1, 3, 1, 3)


def clean() -> Tensor:
    """Smooth brightness from 0.1 to 0.9, of other shape in each cube."""
    along = torch.arange(SIDE) / SIDE
    phase = 6 * torch.rand(COUNT, 2, 1, 1, generator=torch.Generator().manual_seed(0))
    maps = torch.sin(4 * along[:, None] + phase[:, :1]) * torch.cos(3 * along + phase[:, 1:])
    return (0.5 + 0.4 * maps).expand(COUNT, 3, SIDE, SIDE)


def noisy(cubes: Tensor, seed: int = 1) -> Tensor:
    return cubes + CAMERA.compute_std(cubes) * normal(*cubes.shape, seed=seed)


def off(found: SensorNoise) -> float:
    """Return by which share deviations at three levels of brightness are wrong, at most."""
    return float((found.compute_std(LEVELS) / CAMERA.compute_std(LEVELS) - 1).abs().max())


def test_the_trimmed_variance_is_that_of_a_normal_distribution() -> None:
    assert truncnorm(-TRIM_STDS, TRIM_STDS).var() == pytest.approx(NORMAL_TRIMMED_VARIANCE, rel=1e-5)


def test_slope_and_offset_are_found_again() -> None:
    cubes = clean()
    found = SensorNoise.measure(cubes, noisy(cubes), FIELD)
    assert off(found) < 0.03
    assert found.slope[:2] == pytest.approx(SLOPE[:2], rel=0.1)
    assert found.offset == pytest.approx(OFFSET, abs=2e-4)
    assert (found.offset >= 0).all() and (found.slope >= 0).all()


def test_only_the_field_is_measured() -> None:
    cubes, field = clean(), FIELD.clone()
    field[:, :, :20] = field[:, :, :, 40:] = False
    target = torch.where(field, noisy(cubes), 50 * normal(*cubes.shape, seed=3))
    target[:, :, 0, 0] = math.nan
    assert off(SensorNoise.measure(cubes, target, field)) < 0.05


def lines(share: float, seed: int = 0) -> Tensor:
    """Lines of one pixel at random angles, 1 on ``share`` of the pixels, 0 elsewhere."""
    rng = np.random.default_rng(seed)
    drawn = np.zeros((COUNT, SIDE, SIDE), dtype=np.float32)
    along = np.arange(-SIDE, SIDE, 0.5)
    for cube in drawn:
        while cube.mean() < share:
            turn, middle = rng.uniform(0, np.pi), rng.uniform(0, SIDE, 2)
            y, x = (
                np.round(middle[i] + along * part).astype(int) for i, part in enumerate((np.sin(turn), np.cos(turn)))
            )
            inside = (y >= 0) & (y < SIDE) & (x >= 0) & (x < SIDE)
            cube[y[inside], x[inside]] = 1
    return torch.from_numpy(drawn)[:, None]


@pytest.mark.parametrize("contrast", [0.05, 0.1, 0.2, 0.4])
def test_vessels_that_the_reconstruction_missed_are_no_noise(contrast: float) -> None:
    """Deviations are 0.03 to 0.06 here: contrasts from one deviation, which nobody can tell from noise, to ten."""
    cubes, missed = clean(), contrast * lines(0.1)
    assert 0.1 < missed.count_nonzero() / missed.numel() < 0.12
    assert off(SensorNoise.measure(cubes, noisy(cubes) - missed, FIELD)) < 0.15


@pytest.mark.parametrize("axis", [-1, -2])
def test_slopes_curvature_and_straight_lines_do_not_pass(axis: int) -> None:
    along = torch.arange(SIDE, dtype=torch.float64) / SIDE
    bent = (3 * along[:, None] - 5 * along + 7 * along**2 - 2 * along[:, None] ** 2 + along * along[:, None])[
        None, None
    ]
    bent[..., 20, :] += 5
    bent = bent.transpose(-1, -2) if axis == -1 else bent
    _, fine = extract_noise_pixels(torch.zeros_like(bent), bent, torch.ones(1, 1, SIDE, SIDE, dtype=torch.bool))
    assert float(fine.abs().max()) < 1e-12
    cubes = clean().double()
    assert off(SensorNoise.measure(cubes, noisy(cubes) + 0.02 * bent, FIELD)) < 0.03


def test_white_noise_passes_with_unit_gain() -> None:
    _, fine = extract_noise_pixels(torch.zeros_like(clean()), normal(COUNT, 3, SIDE, SIDE), FIELD)
    assert float(fine.var()) == pytest.approx(1, rel=0.02)


def test_no_residual_is_no_noise() -> None:
    cubes = clean()
    found = SensorNoise.measure(cubes, cubes, FIELD)
    assert not found.offset.any() and not found.slope.any()
    assert not SensorNoise.zeros(3).compute_std(cubes).any()


def test_too_few_pixels_are_no_noise() -> None:
    cubes, field = clean(), torch.zeros_like(FIELD)
    for few in (field, field.index_fill(2, torch.tensor([0, 1, 2]), value=False)):
        found = SensorNoise.measure(cubes, noisy(cubes), few)
        assert not found.offset.any() and not found.slope.any()


def test_a_part_of_the_pixels_is_taken_from_all_cubes() -> None:
    cubes = clean() * 0 + torch.arange(COUNT).view(-1, 1, 1, 1)
    bright, fine = extract_noise_pixels(cubes, noisy(cubes), FIELD, max_per_cube=100)
    assert bright.shape == fine.shape == (3, 100 * COUNT)
    assert torch.equal(bright[0].long().bincount(), torch.full((COUNT,), 100))
    everything, _ = extract_noise_pixels(cubes, noisy(cubes), FIELD, max_per_cube=SIDE**2)
    assert everything.shape == (3, COUNT * (SIDE - 2) ** 2)


def test_parts_measure_as_the_whole() -> None:
    cubes, target = clean(), noisy(clean())
    parts = [extract_noise_pixels(cubes[part], target[part], FIELD[part]) for part in (slice(0, 5), slice(5, None))]
    together, whole = SensorNoise.fit(parts), SensorNoise.measure(cubes, target, FIELD)
    assert (together.offset == whole.offset).all() and (together.slope == whole.slope).all()


def test_brightness_and_residual_are_of_the_same_pixel() -> None:
    cubes = normal(2, 3, 9, 7)
    target = cubes.clone()
    target[1, 2, 4, 5] += 6
    field = torch.ones(2, 1, 9, 7, dtype=torch.bool)
    bright, fine = extract_noise_pixels(cubes, target, field)
    at = int(fine[2].argmax())
    assert float(fine[2, at]) == pytest.approx(4) and float(bright[2, at]) == float(cubes[1, 2, 4, 5])
    assert not fine[:2].any()


def test_deviation_is_the_root_of_the_line_and_never_negative() -> None:
    found = SensorNoise(np.array([4.0]), np.array([2.0])).compute_std(torch.tensor([[[[0.0, 6.0, -5.0]]]]))
    assert torch.allclose(found, torch.tensor([[[[2.0, 4.0, 2.0]]]]))
