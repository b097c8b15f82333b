"""Spectral degradations against closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hseval.core.cubes import ArraySet, Cube
from hseval.data.absorption import load_absorption_table
from hseval.degradations import find_degradation
from hseval.degradations.blood import PATH_LENGTH_MM, transmittance_ratio
from hseval.degradations.spectra import FWHM_PER_STD, compute_spline_nodes
from tests.helpers.degraded import degrade_cube

Array = NDArray[Any]
UNEVEN = np.array([450.0, 455.0, 470.0, 480.0, 500.0, 540.0, 560.0, 600.0])
FINE = np.arange(400.0, 1001.0, 4.0)


def make_cube(spectrum: Array, size: int = 6) -> Cube:
    """Return a cube whose pixels are multiples of one spectrum."""
    scale = np.linspace(0.5, 2.0, size * size).reshape(size, size)
    return Cube((spectrum[:, None, None] * scale).astype(np.float32))


def fit_spectrum(cube: Cube, size: int = 6) -> Array:
    """Return the spectrum fitted to all pixels."""
    scale = np.linspace(0.5, 2.0, size * size)
    return np.asarray(cube.data.reshape(len(cube.data), -1).astype(np.float64) @ scale / (scale @ scale))


@pytest.mark.parametrize("severity", [0.25, 3.0, 17.0])
def test_a_shifted_line_loses_slope_times_shift_and_its_lower_end_stays_constant(severity: float) -> None:
    cube = make_cube(2.0 + 0.01 * UNEVEN)
    shifted = fit_spectrum(degrade_cube("shift", cube, severity, nm=UNEVEN))
    expected = 2.0 + 0.01 * np.maximum(UNEVEN - severity, UNEVEN[0])
    np.testing.assert_allclose(shifted, expected, rtol=1e-5)


def test_a_shift_by_the_spacing_of_bands_gives_the_neighboring_band_unblurred() -> None:
    nm = np.arange(450.0, 900.0, 8.0)
    noise = 1 + 0.1 * np.random.default_rng(0).standard_normal(len(nm))
    shifted = fit_spectrum(degrade_cube("shift", make_cube(noise), 16.0, nm=nm))
    np.testing.assert_allclose(shifted[2:], noise[:-2], rtol=1e-5)


@pytest.mark.parametrize("severity", [12.0, 32.0, 64.0])
def test_a_broadened_gaussian_is_the_gaussian_of_added_variances(severity: float) -> None:
    width = 20.0
    line = np.exp(-0.5 * ((FINE - 700) / width) ** 2)
    broad = fit_spectrum(degrade_cube("broadening", make_cube(line), severity, nm=FINE))
    total = np.hypot(width, severity / FWHM_PER_STD)
    np.testing.assert_allclose(broad, width / total * np.exp(-0.5 * ((FINE - 700) / total) ** 2), atol=2e-3)


def test_broadening_below_the_spacing_of_bands_adds_half_variance_times_curvature() -> None:
    nm, severity = np.linspace(450.0, 900.0, 31), 8.0
    spectrum = 1 + ((nm - 675) / 200) ** 2
    change = fit_spectrum(degrade_cube("broadening", make_cube(spectrum), severity, nm=nm)) - spectrum
    np.testing.assert_allclose(change[2:-2], 0.5 * (severity / FWHM_PER_STD) ** 2 * 2 / 200**2, rtol=0.02)


@pytest.mark.parametrize("name", ["shift", "broadening"])
def test_constant_spectra_stay_and_nearly_coinciding_bands_are_stable(name: str) -> None:
    nm = np.array([450.0, 460.0, 460.0, 470.0, 470.02, 480.0, 490.0, 620.0, 630.0])
    flat = degrade_cube(name, make_cube(np.full(len(nm), 3.0)), 16.0, nm=nm)
    np.testing.assert_allclose(fit_spectrum(flat), 3.0, rtol=1e-6)
    rough = 1 + 0.1 * np.random.default_rng(0).standard_normal(len(nm))
    degraded = fit_spectrum(degrade_cube(name, make_cube(rough), 16.0, nm=nm))
    assert np.abs(degraded - 1).max() < 0.6
    np.testing.assert_allclose(fit_spectrum(degrade_cube(name, make_cube(rough), 1e-3, nm=nm)), rough, atol=1e-4)


def test_close_bands_share_a_node() -> None:
    nodes, averaging = compute_spline_nodes(np.array([450.0, 460.0, 460.0, 470.0, 470.02, 480.0]))
    np.testing.assert_allclose(nodes, [450, 460, 470.01, 480])
    np.testing.assert_allclose(averaging.sum(axis=1), 1)


def test_gain_and_offset_have_the_declared_size_and_one_value_a_band() -> None:
    rng = np.random.default_rng(3)
    cube = Cube((2 + 0.3 * rng.standard_normal((40, 9, 9))).astype(np.float32))
    ratio = degrade_cube("gain", cube, 2.0).data / cube.data
    assert np.ptp(ratio, axis=(1, 2)).max() < 1e-5
    assert np.sqrt(np.mean(np.log(ratio[:, 0, 0]) ** 2)) == pytest.approx(0.02, rel=1e-3)
    offsets = degrade_cube("offset", cube, 5.0).data - cube.data
    assert np.ptp(offsets, axis=(1, 2)).max() < 1e-5
    assert np.sqrt(np.mean(offsets[:, 0, 0] ** 2)) == pytest.approx(0.05 * np.median(cube.data), rel=0.01)


def test_the_same_stream_gives_the_same_fault_in_every_cube() -> None:
    rng = np.random.default_rng(3)
    cubes = [Cube(rng.uniform(1, 2, (12, 9, 9)).astype(np.float32)) for _ in range(2)]
    for name in ("gain", "striping"):
        assert find_degradation(name).is_set_wide  # type: ignore[attr-defined]
        first, second = (degrade_cube(name, cube, 4.0).data / cube.data for cube in cubes)
        np.testing.assert_allclose(first, second, rtol=1e-5)


def test_dead_bands_read_zero_and_the_last_one_is_dimmed_partly() -> None:
    cube = Cube(np.ones((20, 5, 5), dtype=np.float32))
    values = np.sort(degrade_cube("dead-band", cube, 12.0).data[:, 2, 2])  # 12 % of 20 bands: 2.4
    np.testing.assert_allclose(values, [0, 0, 0.6, *[1] * 17], atol=1e-6)
    assert not degrade_cube("dead-band", cube, 100.0).data.any()


def test_all_bands_swapped_are_the_pairs_reversed_and_an_odd_one_stays() -> None:
    data = np.random.default_rng(0).uniform(1, 2, (7, 5, 5)).astype(np.float32)
    np.testing.assert_allclose(
        degrade_cube("band-swap", Cube(data), 100.0).data, data[[1, 0, 3, 2, 5, 4, 6]], rtol=1e-6
    )
    half = degrade_cube("band-swap", Cube(data), 100 / 3).data
    assert sorted(np.flatnonzero((half != data).any(axis=(1, 2)))) in ([0, 1], [2, 3], [4, 5])


@pytest.mark.parametrize(("structures", "changed", "sign"), [("vein artery", "vein", 1), ("artery", "artery", -1)])
def test_saturation_changes_one_structure_alone_by_beer_lambert(structures: str, changed: str, sign: int) -> None:
    nm, severity = np.linspace(450.0, 905.0, 16), 20.0
    data = np.random.default_rng(0).uniform(1, 2, (16, 9, 9)).astype(np.float32)
    masks = {name: np.zeros((9, 9), dtype=bool) for name in structures.split()}
    for row, mask in enumerate(masks.values()):
        mask[2 * row] = True
    ratio = degrade_cube("saturation", Cube(data, masks), severity, nm=nm).data / data
    np.testing.assert_array_equal(ratio[:, ~masks[changed]], 1)
    table = load_absorption_table()
    absorbed = np.log(10) * 150 / 64500 * np.interp(nm, table["nm"], table["hbo2"] - table["hb"]) / 10  # 1/mm
    expected = np.exp(-absorbed * PATH_LENGTH_MM * sign * severity / 100)
    np.testing.assert_allclose(ratio[:, masks[changed]], np.broadcast_to(expected[:, None], (16, 9)), rtol=1e-5)


def test_more_oxygen_lets_red_pass_and_changes_nothing_where_both_forms_absorb_alike() -> None:
    red, infrared = transmittance_ratio(np.array([660.0, 900.0]), 0.3)
    assert red > 1.03 and infrared < 1
    assert abs(transmittance_ratio(np.array([797.0]), 0.3)[0] - 1) < 0.002  # an isosbestic point
    assert transmittance_ratio(np.array([660.0]), 0.0)[0] == 1


def test_saturation_explains_missing_structures_and_bands() -> None:
    cubes, mask = np.ones((1, 3, 8, 8)), {"vein": np.ones((1, 8, 8), dtype=bool)}
    explain = find_degradation("saturation").explain_unmet_need
    assert explain(ArraySet(cubes, wavelengths=np.array([500.0, 600, 700]), masks=mask)) is None
    assert explain(ArraySet(cubes, wavelengths=np.array([500.0, 600, 700]))) == "needs a mask 'vein' or 'artery'"
    reason = explain(ArraySet(cubes, wavelengths=np.array([500.0, 600, 1700]), masks=mask))
    assert reason == "needs bands within 400 to 1000 nm (hemoglobin's table), found 500 to 1700 nm"
