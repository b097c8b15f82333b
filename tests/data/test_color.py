"""Colour from spectra, against colour-science and closed forms."""

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


def smooth_spectrum(wavelengths: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres, heights = rng.uniform(400, 720, 3), rng.uniform(0.1, 0.5, 3)
    lobes = [h * np.exp(-(((wavelengths - c) / 60) ** 2)) for c, h in zip(centres, heights, strict=True)]
    return np.asarray(0.1 + np.sum(lobes, axis=0))


@pytest.mark.parametrize("seed", range(3))
def test_xyz_and_srgb_agree_with_colour_science(seed: int) -> None:
    colour = pytest.importorskip("colour")
    spectrum = smooth_spectrum(FULL, seed)
    sd = colour.SpectralDistribution(dict(zip(FULL.tolist(), spectrum.tolist(), strict=True)))
    matching = colour.MSDS_CMFS["CIE 1931 2 Degree Standard Observer"].copy().align(colour.SpectralShape(380, 780, 5))
    light = colour.SDS_ILLUMINANTS["D65"].copy().align(colour.SpectralShape(380, 780, 5))
    expected = colour.sd_to_XYZ(sd, matching, light, method="Integration") / 100
    found = compute_xyz_weights(FULL) @ spectrum
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    theirs = np.clip(colour.XYZ_to_sRGB(expected), 0, 1)
    np.testing.assert_allclose(
        xyz_to_srgb(found), theirs, atol=2e-3
    )  # their matrix has more digits than the standard's


def test_the_table_is_that_of_colour_science() -> None:
    colour = pytest.importorskip("colour")
    nm, matching, daylight = load_observer()
    theirs = colour.MSDS_CMFS["CIE 1931 2 Degree Standard Observer"]
    np.testing.assert_allclose(matching.T, [theirs[float(each)] for each in nm], rtol=1e-6)
    np.testing.assert_allclose(daylight, [colour.SDS_ILLUMINANTS["D65"][float(each)] for each in nm], rtol=1e-6)


@pytest.mark.parametrize("wavelengths", [FULL, np.linspace(450, 905, 16), np.array([460.0, 540.0, 700.0])])
def test_a_grey_reflector_is_neutral_whatever_the_bands(wavelengths: np.ndarray) -> None:
    xyz = compute_xyz_weights(wavelengths) @ np.full(len(wavelengths), 0.5)
    assert xyz[1] == pytest.approx(0.5)
    red, green, blue = xyz_to_srgb(xyz)
    assert red == pytest.approx(green, abs=1e-3)
    assert blue == pytest.approx(green, abs=1e-3)


def test_few_bands_of_a_smooth_spectrum_come_near_its_colour() -> None:
    dense = xyz_to_srgb(compute_xyz_weights(FULL) @ smooth_spectrum(FULL, 1))
    bands = np.linspace(380, 780, 21)
    np.testing.assert_allclose(xyz_to_srgb(compute_xyz_weights(bands) @ smooth_spectrum(bands, 1)), dense, atol=0.01)


@pytest.mark.parametrize(("nm", "strongest"), [(630.0, 0), (530.0, 1), (450.0, 2)])
def test_light_of_one_band_has_its_hue(nm: float, strongest: int) -> None:
    spectrum = np.exp(-(((FULL - nm) / 15) ** 2))
    assert int(np.argmax(xyz_to_srgb(compute_xyz_weights(FULL) @ spectrum))) == strongest


def test_radiance_is_not_lit_again() -> None:
    daylight = load_observer().illuminant
    as_radiance = compute_xyz_weights(FULL, is_reflectance=False) @ daylight
    white = compute_xyz_weights(FULL) @ np.ones_like(FULL)
    np.testing.assert_allclose(as_radiance / as_radiance[1], white, rtol=1e-9)
    assert is_radiance("AVIRIS radiance counts")
    assert not is_radiance("reflectance")
    assert not is_radiance(None)


def test_coverage_tells_what_is_not_measured() -> None:
    whole, eyes, infrared = (
        compute_coverage(np.linspace(*ends)) for ends in ((380, 780, 41), (450, 905, 16), (900, 1700, 9))
    )
    assert whole.fractions == pytest.approx((1, 1, 1))
    assert eyes.fractions[2] < eyes.fractions[0] < eyes.fractions[1] < 1
    assert MIN_COVERAGE < eyes.fractions[2] < 0.7  # what lies below 450 nm is much of the blue
    assert (whole.name, eyes.name, infrared.name) == ("true colour", "true colour", "false colour")
    assert compute_coverage(np.linspace(400, 2500, 16)).name == "rough colour"
    told = format_color_note(np.linspace(450, 905, 16), wavelengths_known=True, units="reflectance")
    assert "D65" in told
    assert "62 % of Z" in told
    assert "No true colour" in format_color_note(np.linspace(900, 1700, 9), wavelengths_known=True, units=None)
    assert "unknown" in format_color_note(np.arange(9.0), wavelengths_known=False, units=None)


def test_false_colour_takes_infrared_where_there_is_any_else_bands_that_are_spread() -> None:
    bands = np.linspace(450, 905, 16)
    assert [round(float(bands[i])) for i in choose_composite_bands(bands)] == [844, 662, 541]
    assert choose_composite_bands(np.arange(12.0), wavelengths_known=False) == (9, 6, 2)
    assert choose_composite_bands(np.array([500.0])) == (0, 0, 0)
