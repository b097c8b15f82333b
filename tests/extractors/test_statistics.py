"""The straw man: closed forms, and blindness to space."""

from __future__ import annotations

import numpy as np
import pytest

from hseval.extractors.statistics import Statistics, StatisticsOptions
from hseval.testing import check_extractor
from hseval.utils.errors import HsevalError
from tests.helpers.sets import texture_set

NM = np.linspace(450.0, 905.0, 6)


def rows(cubes: np.ndarray, valid: np.ndarray | None = None, nm: np.ndarray = NM, **options: int) -> np.ndarray:
    valid = np.ones((len(cubes), *cubes.shape[2:]), dtype=bool) if valid is None else valid
    return Statistics(StatisticsOptions(**options))(cubes, wavelengths=nm, masks={"fov": valid})


def test_it_keeps_the_contract() -> None:
    check_extractor(Statistics)


def test_a_ramp_that_is_linear_in_wavelength_has_the_means_and_deviations_of_its_closed_form() -> None:
    """Nodes are hats over a linear spectrum: inner ones average to their centre, the outer half-hats to a third in."""
    amount = np.linspace(0.5, 1.5, 64).reshape(8, 8)
    cube = (NM[:, None, None] * amount).astype(np.float32)[None]
    found = rows(cube, nodes=3)[0]
    low, high = NM[0], NM[-1]
    gap = (high - low) / 2
    centres = np.array([low + gap / 3, low + gap, high - gap / 3])
    np.testing.assert_allclose(found[:3], centres * amount.mean(), rtol=1e-4)
    np.testing.assert_allclose(found[3:], centres * amount.std(), rtol=1e-4)


def test_the_order_of_pixels_changes_nothing_and_the_surround_adds_nothing() -> None:
    data = texture_set(3)
    field = np.stack([data.masks["fov"][i] for i in range(3)])
    found = rows(data.cubes, field)
    shuffled = data.cubes.copy()
    rng = np.random.default_rng(0)
    for i in range(3):
        pixels = data.cubes[i][:, field[i]]
        shuffled[i][:, field[i]] = pixels[:, rng.permutation(pixels.shape[1])]
    np.testing.assert_allclose(rows(shuffled, field), found, rtol=1e-5)
    outside = np.where(field[:, None], data.cubes, 1e6).astype(np.float32)
    assert np.array_equal(rows(outside, field), found)
    assert found.shape == (3, 12)


def test_no_valid_pixel_gives_nan() -> None:
    data = texture_set(2, field=False)
    valid = np.ones((2, 32, 32), dtype=bool)
    valid[1] = False
    found = rows(data.cubes, valid)
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


def test_the_same_spectra_at_twice_the_bands_differ_by_what_linear_interpolation_errs() -> None:
    amounts = np.random.default_rng(0).uniform(0.5, 1.5, (2, 1, 8, 8))
    few, many = np.linspace(450, 905, 24), np.linspace(450, 905, 48)
    one, other = (
        rows((np.exp(-(((nm - 650) / 150) ** 2))[:, None, None] * amounts).astype(np.float32), nm=nm)
        for nm in (few, many)
    )
    bound = (few[1] - few[0]) ** 2 / 8 * 2 / 150**2 * amounts.max()  # step^2 / 8 times the largest second derivative
    assert 0 < np.abs(one - other).max() < bound


def test_nodes_that_can_not_be_are_refused() -> None:
    with pytest.raises(HsevalError, match="nodes = 0, expected 1 to 256"):
        StatisticsOptions(nodes=0)
