"""``noise-level``: known noise on known images, edges that are no noise, fields of any shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from hseval.extractors.noise_level import NoiseLevel, estimate_noise_level
from hseval.testing import check_extractor

Array = NDArray[Any]
SIZE = 128
Y, X = np.mgrid[:SIZE, :SIZE] / SIZE
ALL = np.ones((SIZE, SIZE), dtype=bool)


def estimate_level(cube: Array, valid: Array = ALL) -> Array:
    return estimate_noise_level(np.asarray(cube, dtype=np.float32), valid)


def make_noise(sigma: float, seed: int = 0, bands: int = 4) -> Array:
    return np.random.default_rng(seed).normal(0, sigma, (bands, SIZE, SIZE))


def test_extractor_fulfills_contract() -> None:
    check_extractor(NoiseLevel)


@pytest.mark.parametrize("sigma", [0.001, 0.02, 3.0])
def test_white_noise_is_measured_within_a_few_percent(sigma: float) -> None:
    assert estimate_level(0.4 + make_noise(sigma)) == pytest.approx(sigma, rel=0.03)


def test_planes_waves_and_edges_are_no_noise() -> None:
    picture = 0.4 + 0.3 * X - 0.2 * Y + 0.3 * X * (Y > 0.5) + 0.1 * np.sin(9 * X + 4 * Y) + 0.3 * (np.hypot(X, Y) > 0.6)
    assert estimate_level(picture[None])[0] < 1e-4
    assert estimate_level(picture + make_noise(0.01)) == pytest.approx(0.01, rel=0.05)


def test_bands_are_measured_separately() -> None:
    sigmas = np.array([0.002, 0.01, 0.05])
    levels = estimate_level(make_noise(1.0, bands=3) * sigmas[:, None, None])
    assert levels == pytest.approx(sigmas, rel=0.03)


def test_noise_level_scales_with_gain_and_ignores_offset() -> None:
    cube = make_noise(0.02)
    assert estimate_level(7 * cube + 5) == pytest.approx(7 * estimate_level(cube), rel=1e-4)


def test_rotations_and_flips_change_nothing() -> None:
    cube, valid = make_noise(0.02), np.hypot(X - 0.4, Y - 0.5) < 0.3
    plain = estimate_level(cube, valid)
    np.testing.assert_array_equal(estimate_level(cube[..., ::-1], valid[..., ::-1]), plain)
    np.testing.assert_array_equal(estimate_level(np.rot90(cube, axes=(1, 2)), np.rot90(valid)), plain)


def test_surround_and_rim_are_ignored() -> None:
    valid = np.hypot(X - 0.5, Y - 0.5) < 0.4
    cube = 0.4 + make_noise(0.01)
    plain = estimate_level(cube, valid)
    np.testing.assert_array_equal(estimate_level(np.where(valid, cube, 1e6), valid), plain)
    rim = valid & ~binary_erosion(valid)
    half_surround = np.where(rim, cube / 2, cube)
    np.testing.assert_array_equal(estimate_level(half_surround, valid), plain)


def test_lone_dead_pixels_are_left_out() -> None:
    valid = np.random.default_rng(1).random((SIZE, SIZE)) > 0.01
    assert estimate_level(np.where(valid, 0.4 + make_noise(0.01), np.nan), valid) == pytest.approx(0.01, rel=0.05)


def test_constants_have_no_noise_and_tiny_fields_give_nan() -> None:
    assert (estimate_level(np.full((2, SIZE, SIZE), 0.3)) == 0).all()
    few = np.zeros((SIZE, SIZE), dtype=bool)
    few[5:7, 5:9] = True
    assert np.isnan(estimate_level(make_noise(0.1), few)).all()
    few[5:8, 5:8] = True  # 3 x 3 pixels: one residual
    assert np.isfinite(estimate_level(make_noise(0.1), few)).all()
