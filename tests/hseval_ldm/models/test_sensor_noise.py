"""Measuring the sensor noise: it is recovered also where structures are missing from the reconstruction."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import truncnorm
from torch import Tensor

from hseval_ldm.models.sensor_noise import NORMAL_TRIMMED_VARIANCE, TRIM_STDS, SensorNoise, extract_noise_pixels
from tests.helpers.random_weights import draw_normal

COUNT, SIDE = 24, 64
# Both kinds of noise, shot noise alone, read noise alone.
OFFSET, SLOPE = np.array([4e-4, 0.0, 1e-3]), np.array([2e-3, 4e-3, 0.0])
TRUE_NOISE = SensorNoise(OFFSET, SLOPE)
FIELD = torch.ones(COUNT, 1, SIDE, SIDE, dtype=torch.bool)
LEVELS = torch.tensor([0.3, 0.5, 0.8]).view(1, 1, 1, 3).expand(1, 3, 1, 3)


def make_clean_cubes() -> Tensor:
    """Return smooth brightness from 0.1 to 0.9, different in each cube."""
    along = torch.arange(SIDE) / SIDE
    phase = 6 * torch.rand(COUNT, 2, 1, 1, generator=torch.Generator().manual_seed(0))
    maps = torch.sin(4 * along[:, None] + phase[:, :1]) * torch.cos(3 * along + phase[:, 1:])
    return (0.5 + 0.4 * maps).expand(COUNT, 3, SIDE, SIDE)


def measure_noise(cubes: Tensor, target: Tensor, field: Tensor) -> SensorNoise:
    return SensorNoise.fit([extract_noise_pixels(cubes, target, field)])


def add_noise(cubes: Tensor, seed: int = 1) -> Tensor:
    return cubes + TRUE_NOISE.compute_std(cubes) * draw_normal(*cubes.shape, seed=seed)


def compute_error(measured: SensorNoise) -> float:
    """Return the largest relative error of the standard deviation at three levels of brightness."""
    return float((measured.compute_std(LEVELS) / TRUE_NOISE.compute_std(LEVELS) - 1).abs().max())


def test_the_trimmed_variance_is_that_of_a_normal_distribution() -> None:
    assert truncnorm(-TRIM_STDS, TRIM_STDS).var() == pytest.approx(NORMAL_TRIMMED_VARIANCE, rel=1e-5)


def test_slope_and_offset_are_recovered() -> None:
    cubes = make_clean_cubes()
    measured = measure_noise(cubes, add_noise(cubes), FIELD)
    assert compute_error(measured) < 0.03
    assert measured.slope[:2] == pytest.approx(SLOPE[:2], rel=0.1)
    assert measured.offset == pytest.approx(OFFSET, abs=2e-4)
    assert (measured.offset >= 0).all() and (measured.slope >= 0).all()


def test_only_the_field_is_measured() -> None:
    cubes, field = make_clean_cubes(), FIELD.clone()
    field[:, :, :20] = field[:, :, :, 40:] = False
    target = torch.where(field, add_noise(cubes), 50 * draw_normal(*cubes.shape, seed=3))
    target[:, :, 0, 0] = math.nan
    assert compute_error(measure_noise(cubes, target, field)) < 0.05


def draw_lines(share: float, seed: int = 0) -> Tensor:
    """Return lines of one pixel width at random angles, 1 on ``share`` of the pixels, 0 elsewhere."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((COUNT, SIDE, SIDE), dtype=np.float32)
    along = np.arange(-SIDE, SIDE, 0.5)
    for mask in masks:
        while mask.mean() < share:
            angle, middle = rng.uniform(0, np.pi), rng.uniform(0, SIDE, 2)
            y, x = (
                np.round(middle[i] + along * part).astype(int) for i, part in enumerate((np.sin(angle), np.cos(angle)))
            )
            inside = (y >= 0) & (y < SIDE) & (x >= 0) & (x < SIDE)
            mask[y[inside], x[inside]] = 1
    return torch.from_numpy(masks)[:, None]


@pytest.mark.parametrize("contrast", [0.05, 0.1, 0.2, 0.4])
def test_vessels_missing_from_the_reconstruction_are_not_measured_as_noise(contrast: float) -> None:
    """Contrasts are from 1 to 10 standard deviations of the noise, which is 0.03 to 0.06 here."""
    cubes, missed = make_clean_cubes(), contrast * draw_lines(0.1)
    assert 0.1 < missed.count_nonzero() / missed.numel() < 0.12
    assert compute_error(measure_noise(cubes, add_noise(cubes) - missed, FIELD)) < 0.15


@pytest.mark.parametrize("axis", [-1, -2])
def test_slopes_curvature_and_straight_lines_are_removed(axis: int) -> None:
    along = torch.arange(SIDE, dtype=torch.float64) / SIDE
    bent = (3 * along[:, None] - 5 * along + 7 * along**2 - 2 * along[:, None] ** 2 + along * along[:, None])[
        None, None
    ]
    bent[..., 20, :] += 5
    bent = bent.transpose(-1, -2) if axis == -1 else bent
    _, fine = extract_noise_pixels(torch.zeros_like(bent), bent, torch.ones(1, 1, SIDE, SIDE, dtype=torch.bool))
    assert float(fine.abs().max()) < 1e-12
    cubes = make_clean_cubes().double()
    assert compute_error(measure_noise(cubes, add_noise(cubes) + 0.02 * bent, FIELD)) < 0.03


def test_white_noise_has_unit_gain() -> None:
    _, fine = extract_noise_pixels(torch.zeros_like(make_clean_cubes()), draw_normal(COUNT, 3, SIDE, SIDE), FIELD)
    assert float(fine.var()) == pytest.approx(1, rel=0.02)


def test_without_a_residual_there_is_no_noise() -> None:
    cubes = make_clean_cubes()
    measured = measure_noise(cubes, cubes, FIELD)
    assert not measured.offset.any() and not measured.slope.any()
    assert not SensorNoise.zeros(3).compute_std(cubes).any()


def test_with_too_few_pixels_there_is_no_noise() -> None:
    cubes, field = make_clean_cubes(), torch.zeros_like(FIELD)
    for small_field in (field, field.index_fill(2, torch.tensor([0, 1, 2]), value=False)):
        measured = measure_noise(cubes, add_noise(cubes), small_field)
        assert not measured.offset.any() and not measured.slope.any()


def test_a_subset_of_the_pixels_covers_all_cubes() -> None:
    cubes = make_clean_cubes() * 0 + torch.arange(COUNT).view(-1, 1, 1, 1)
    bright, fine = extract_noise_pixels(cubes, add_noise(cubes), FIELD, max_per_cube=100)
    assert bright.shape == fine.shape == (3, 100 * COUNT)
    assert torch.equal(bright[0].long().bincount(), torch.full((COUNT,), 100))
    everything, _ = extract_noise_pixels(cubes, add_noise(cubes), FIELD, max_per_cube=SIDE**2)
    assert everything.shape == (3, COUNT * (SIDE - 2) ** 2)


def test_batches_give_the_result_of_the_whole() -> None:
    cubes, target = make_clean_cubes(), add_noise(make_clean_cubes())
    parts = [extract_noise_pixels(cubes[part], target[part], FIELD[part]) for part in (slice(0, 5), slice(5, None))]
    joined, whole = SensorNoise.fit(parts), measure_noise(cubes, target, FIELD)
    assert (joined.offset == whole.offset).all() and (joined.slope == whole.slope).all()


def test_brightness_and_residual_are_of_the_same_pixel() -> None:
    cubes = draw_normal(2, 3, 9, 7)
    target = cubes.clone()
    target[1, 2, 4, 5] += 6
    field = torch.ones(2, 1, 9, 7, dtype=torch.bool)
    bright, fine = extract_noise_pixels(cubes, target, field)
    index = int(fine[2].argmax())
    assert float(fine[2, index]) == pytest.approx(4) and float(bright[2, index]) == float(cubes[1, 2, 4, 5])
    assert not fine[:2].any()


def test_the_standard_deviation_is_the_root_of_the_line_and_never_negative() -> None:
    measured = SensorNoise(np.array([4.0]), np.array([2.0])).compute_std(torch.tensor([[[[0.0, 6.0, -5.0]]]]))
    assert torch.allclose(measured, torch.tensor([[[[2.0, 4.0, 2.0]]]]))
