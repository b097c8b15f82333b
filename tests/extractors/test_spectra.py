from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hseval.extractors.spectra import StructureSpectra, compute_mean_and_covariance, compute_order_statistics

Array = NDArray[Any]
WAVELENGTHS = np.array([500.0, 600.0, 700.0])


def compute_spectra(cubes: Array, masks: dict[str, Array], levels: int = 16) -> dict[str, Array]:
    return StructureSpectra(StructureSpectra.Options(levels=levels))(cubes, wavelengths=WAVELENGTHS, masks=masks)


def make_cubes(count: int = 3, size: int = 12, seed: int = 0) -> tuple[Array, dict[str, Array]]:
    rng = np.random.default_rng(seed)
    cubes = rng.normal(size=(count, 3, size, size)).astype(np.float32)
    field = np.ones((count, size, size), dtype=bool)
    field[:, 0] = False
    cubes[:, :, 0] = np.nan
    return cubes, {"fov": field, "artery": field & (rng.random(field.shape) < 0.3)}


@pytest.mark.parametrize("count", [1, 7, 16, 17, 1000])
def test_levels_are_numpys_quantiles_at_mid_ranks(count: int) -> None:
    pixels = np.random.default_rng(count).normal(size=(2, count)).astype(np.float32)
    expected = np.quantile(pixels, (np.arange(16) + 0.5) / 16, axis=1, method="inverted_cdf").T
    assert np.array_equal(compute_order_statistics(pixels, 16), expected)


def test_as_many_levels_as_pixels_are_the_pixels() -> None:
    pixels = np.random.default_rng(0).normal(size=(2, 50)).astype(np.float32)
    assert np.array_equal(compute_order_statistics(pixels, 50), np.sort(pixels, axis=1))


@pytest.mark.parametrize("count", [90, 500, 3001])
def test_levels_follow_the_distribution_function_within_half_a_level(count: int) -> None:
    pixels = np.sort(np.random.default_rng(1).normal(size=(1, count)).astype(np.float32))
    levels = compute_order_statistics(pixels, 64)
    of_pixels = np.arange(1, count + 1) / count
    of_levels = np.searchsorted(levels[0], pixels[0], side="right") / 64
    assert np.abs(of_pixels - of_levels).max() <= 1 / 128 + 1e-12


def test_levels_commute_with_a_strictly_monotone_map() -> None:
    pixels = np.random.default_rng(2).integers(0, 200, (2, 333)).astype(np.float32)
    assert np.array_equal(compute_order_statistics(pixels**3, 32), compute_order_statistics(pixels, 32) ** 3)


def test_moments_agree_with_numpy_far_from_the_origin() -> None:
    pixels = (np.random.default_rng(3).normal(size=(3, 400)) + 1000).astype(np.float32)
    mean, cov = compute_mean_and_covariance(pixels)
    values = pixels.astype(np.float64)
    assert np.allclose(mean, values.mean(axis=1), rtol=1e-14)
    assert np.allclose(cov, np.cov(values, ddof=0)[np.triu_indices(3)], rtol=1e-9)


def test_structures_are_in_the_order_of_their_names_with_their_pixel_counts() -> None:
    cubes, masks = make_cubes()
    spectra = compute_spectra(cubes, masks)
    assert spectra["pixels"].tolist() == [[masks["artery"][i].sum(), masks["fov"][i].sum()] for i in range(3)]
    inside = cubes[1][:, masks["artery"][1]]
    assert np.array_equal(spectra["quantiles"][1, 0], compute_order_statistics(inside, 16))


def test_a_structure_that_a_cube_lacks_has_no_pixels_and_nan() -> None:
    cubes, masks = make_cubes()
    masks["artery"][1] = False
    spectra = compute_spectra(cubes, masks)
    assert spectra["pixels"][1, 0] == 0
    assert all(np.isnan(spectra[name][1, 0]).all() for name in ("quantiles", "mean", "cov"))
    assert all(np.isfinite(spectra[name][0]).all() for name in spectra)


def test_invalid_pixels_are_never_counted() -> None:
    cubes, masks = make_cubes()
    assert np.isfinite(compute_spectra(cubes, masks)["quantiles"]).all()


def test_spectra_depend_on_their_own_cube_alone() -> None:
    cubes, masks = make_cubes(4)
    together = compute_spectra(cubes, masks)
    alone = compute_spectra(cubes[2:3], {name: mask[2:3] for name, mask in masks.items()})
    assert all(np.array_equal(together[name][2:3], alone[name]) for name in together)


def test_no_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 16 to 4096"):
        StructureSpectra(StructureSpectra.Options(levels=0))
