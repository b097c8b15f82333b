"""The baseline of spectral statistics: closed forms, and insensitivity to space."""

from __future__ import annotations

import numpy as np
import pytest

from hseval.extractors.statistics import Statistics, StatisticsOptions
from hseval.testing import check_extractor
from hseval.utils.errors import HsevalError
from tests.helpers.sets import make_texture_set

NM = np.linspace(450.0, 905.0, 6)


def compute_features(
    cubes: np.ndarray, valid: np.ndarray | None = None, nm: np.ndarray = NM, **options: int
) -> np.ndarray:
    valid = np.ones((len(cubes), *cubes.shape[2:]), dtype=bool) if valid is None else valid
    return Statistics(StatisticsOptions(**options))(cubes, wavelengths=nm, masks={"fov": valid})


def test_extractor_fulfills_contract() -> None:
    check_extractor(Statistics)


def test_linear_spectra_have_the_means_and_standard_deviations_of_the_closed_form() -> None:
    """Nodes are hats over a linear spectrum: inner ones average to their center, half-hats to a third of the gap."""
    amount = np.linspace(0.5, 1.5, 64).reshape(8, 8)
    cube = (NM[:, None, None] * amount).astype(np.float32)[None]
    features = compute_features(cube, nodes=3)[0]
    low, high = NM[0], NM[-1]
    gap = (high - low) / 2
    centers = np.array([low + gap / 3, low + gap, high - gap / 3])
    np.testing.assert_allclose(features[:3], centers * amount.mean(), rtol=1e-4)
    np.testing.assert_allclose(features[3:], centers * amount.std(), rtol=1e-4)


def test_features_ignore_the_order_of_pixels_and_the_surround() -> None:
    data = make_texture_set(3)
    field = np.stack([data.masks["fov"][i] for i in range(3)])
    features = compute_features(data.cubes, field)
    shuffled = data.cubes.copy()
    rng = np.random.default_rng(0)
    for i in range(3):
        pixels = data.cubes[i][:, field[i]]
        shuffled[i][:, field[i]] = pixels[:, rng.permutation(pixels.shape[1])]
    np.testing.assert_allclose(compute_features(shuffled, field), features, rtol=1e-5)
    outside = np.where(field[:, None], data.cubes, 1e6).astype(np.float32)
    assert np.array_equal(compute_features(outside, field), features)
    assert features.shape == (3, 12)


def test_no_valid_pixel_gives_nan() -> None:
    data = make_texture_set(2, field=False)
    valid = np.ones((2, 32, 32), dtype=bool)
    valid[1] = False
    features = compute_features(data.cubes, valid)
    assert np.isfinite(features[0]).all()
    assert np.isnan(features[1]).all()


def test_twice_the_bands_change_features_by_the_interpolation_error_at_most() -> None:
    amounts = np.random.default_rng(0).uniform(0.5, 1.5, (2, 1, 8, 8))
    few, many = np.linspace(450, 905, 24), np.linspace(450, 905, 48)
    coarse, fine = (
        compute_features((np.exp(-(((nm - 650) / 150) ** 2))[:, None, None] * amounts).astype(np.float32), nm=nm)
        for nm in (few, many)
    )
    bound = (few[1] - few[0]) ** 2 / 8 * 2 / 150**2 * amounts.max()  # step^2 / 8 times the largest second derivative
    assert 0 < np.abs(coarse - fine).max() < bound


def test_zero_nodes_are_refused() -> None:
    with pytest.raises(HsevalError, match="nodes = 0, expected 1 to 256"):
        StatisticsOptions(nodes=0)
