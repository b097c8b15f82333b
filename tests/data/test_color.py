"""Color from spectra, compared with an independent implementation and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from hseval.data.color import (
    MIN_COVERAGE,
    choose_composite_bands,
    compute_coverage,
    compute_xyz_weights,
    format_color_note,
    is_radiance,
    load_observer,
    xyz_to_srgb,
)

FULL = np.arange(380.0, 785.0, 5.0)


def make_smooth_spectrum(wavelengths: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centers, heights = rng.uniform(400, 720, 3), rng.uniform(0.1, 0.5, 3)
    lobes = [h * np.exp(-(((wavelengths - c) / 60) ** 2)) for c, h in zip(centers, heights, strict=True)]
    return np.asarray(0.1 + np.sum(lobes, axis=0))


@pytest.mark.parametrize("seed", range(3))
def test_xyz_and_srgb_agree_with_an_independent_implementation(seed: int) -> None:
    reference = pytest.importorskip("colour")
    spectrum = make_smooth_spectrum(FULL, seed)
    sd = reference.SpectralDistribution(dict(zip(FULL.tolist(), spectrum.tolist(), strict=True)))
    matching = (
        reference.MSDS_CMFS["CIE 1931 2 Degree Standard Observer"].copy().align(reference.SpectralShape(380, 780, 5))
    )
    light = reference.SDS_ILLUMINANTS["D65"].copy().align(reference.SpectralShape(380, 780, 5))
    expected = reference.sd_to_XYZ(sd, matching, light, method="Integration") / 100
    xyz = compute_xyz_weights(FULL) @ spectrum
    np.testing.assert_allclose(xyz, expected, rtol=1e-6)
    expected_srgb = np.clip(reference.XYZ_to_sRGB(expected), 0, 1)
    # The reference's matrix has more digits than the standard's.
    np.testing.assert_allclose(xyz_to_srgb(xyz), expected_srgb, atol=2e-3)


def test_the_table_agrees_with_an_independent_one() -> None:
    reference = pytest.importorskip("colour")
    nm, matching, daylight = load_observer()
    expected = reference.MSDS_CMFS["CIE 1931 2 Degree Standard Observer"]
    np.testing.assert_allclose(matching.T, [expected[float(value)] for value in nm], rtol=1e-6)
    np.testing.assert_allclose(daylight, [reference.SDS_ILLUMINANTS["D65"][float(value)] for value in nm], rtol=1e-6)


@pytest.mark.parametrize("wavelengths", [FULL, np.linspace(450, 905, 16), np.array([460.0, 540.0, 700.0])])
def test_a_gray_reflector_is_neutral_for_any_bands(wavelengths: np.ndarray) -> None:
    xyz = compute_xyz_weights(wavelengths) @ np.full(len(wavelengths), 0.5)
    assert xyz[1] == pytest.approx(0.5)
    red, green, blue = xyz_to_srgb(xyz)
    assert red == pytest.approx(green, abs=1e-3)
    assert blue == pytest.approx(green, abs=1e-3)


def test_few_bands_of_a_smooth_spectrum_approximate_its_color() -> None:
    dense = xyz_to_srgb(compute_xyz_weights(FULL) @ make_smooth_spectrum(FULL, 1))
    bands = np.linspace(380, 780, 21)
    np.testing.assert_allclose(
        xyz_to_srgb(compute_xyz_weights(bands) @ make_smooth_spectrum(bands, 1)), dense, atol=0.01
    )


@pytest.mark.parametrize(("nm", "strongest"), [(630.0, 0), (530.0, 1), (450.0, 2)])
def test_narrow_band_light_has_the_expected_hue(nm: float, strongest: int) -> None:
    spectrum = np.exp(-(((FULL - nm) / 15) ** 2))
    assert int(np.argmax(xyz_to_srgb(compute_xyz_weights(FULL) @ spectrum))) == strongest


def test_radiance_is_not_multiplied_by_the_illuminant() -> None:
    daylight = load_observer().illuminant
    as_radiance = compute_xyz_weights(FULL, is_reflectance=False) @ daylight
    white = compute_xyz_weights(FULL) @ np.ones_like(FULL)
    np.testing.assert_allclose(as_radiance / as_radiance[1], white, rtol=1e-9)
    assert is_radiance("AVIRIS radiance counts")
    assert not is_radiance("reflectance")
    assert not is_radiance(None)


def test_coverage_reports_what_is_not_measured() -> None:
    full, retina, infrared = (
        compute_coverage(np.linspace(*ends)) for ends in ((380, 780, 41), (450, 905, 16), (900, 1700, 9))
    )
    assert full.fractions == pytest.approx((1, 1, 1))
    assert retina.fractions[2] < retina.fractions[0] < retina.fractions[1] < 1
    assert MIN_COVERAGE < retina.fractions[2] < 0.7  # much of the blue is below 450 nm
    assert (full.name, retina.name, infrared.name) == ("true color", "true color", "false color")
    assert compute_coverage(np.linspace(400, 2500, 16)).name == "rough color"
    note = format_color_note(np.linspace(450, 905, 16), wavelengths_known=True, units="reflectance")
    assert "D65" in note
    assert "62 % of Z" in note
    assert "No true color" in format_color_note(np.linspace(900, 1700, 9), wavelengths_known=True, units=None)
    assert "unknown" in format_color_note(np.arange(9.0), wavelengths_known=False, units=None)


def test_false_color_uses_infrared_where_available_else_evenly_spaced_bands() -> None:
    bands = np.linspace(450, 905, 16)
    assert [round(float(bands[i])) for i in choose_composite_bands(bands)] == [844, 662, 541]
    assert choose_composite_bands(np.arange(12.0), wavelengths_known=False) == (9, 6, 2)
    assert choose_composite_bands(np.array([500.0])) == (0, 0, 0)
