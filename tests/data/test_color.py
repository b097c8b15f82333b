"""Colour from spectra, against colour-science and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from hseval.data.color import (
    COVERED,
    colour_told,
    composite_bands,
    coverage,
    observer,
    own_light,
    srgb,
    xyz_weights,
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
    found = xyz_weights(FULL) @ spectrum
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    theirs = np.clip(colour.XYZ_to_sRGB(expected), 0, 1)
    np.testing.assert_allclose(srgb(found), theirs, atol=2e-3)  # their matrix has more digits than the standard's


def test_the_table_is_that_of_colour_science() -> None:
    colour = pytest.importorskip("colour")
    nm, matching, daylight = observer()
    theirs = colour.MSDS_CMFS["CIE 1931 2 Degree Standard Observer"]
    np.testing.assert_allclose(matching.T, [theirs[float(each)] for each in nm], rtol=1e-6)
    np.testing.assert_allclose(daylight, [colour.SDS_ILLUMINANTS["D65"][float(each)] for each in nm], rtol=1e-6)


@pytest.mark.parametrize("wavelengths", [FULL, np.linspace(450, 905, 16), np.array([460.0, 540.0, 700.0])])
def test_a_grey_reflector_is_neutral_whatever_the_bands(wavelengths: np.ndarray) -> None:
    xyz = xyz_weights(wavelengths) @ np.full(len(wavelengths), 0.5)
    assert xyz[1] == pytest.approx(0.5)
    red, green, blue = srgb(xyz)
    assert red == pytest.approx(green, abs=1e-3)
    assert blue == pytest.approx(green, abs=1e-3)


def test_few_bands_of_a_smooth_spectrum_come_near_its_colour() -> None:
    dense = srgb(xyz_weights(FULL) @ smooth_spectrum(FULL, 1))
    bands = np.linspace(380, 780, 21)
    np.testing.assert_allclose(srgb(xyz_weights(bands) @ smooth_spectrum(bands, 1)), dense, atol=0.01)


@pytest.mark.parametrize(("nm", "strongest"), [(630.0, 0), (530.0, 1), (450.0, 2)])
def test_light_of_one_band_has_its_hue(nm: float, strongest: int) -> None:
    spectrum = np.exp(-(((FULL - nm) / 15) ** 2))
    assert int(np.argmax(srgb(xyz_weights(FULL) @ spectrum))) == strongest


def test_radiance_is_not_lit_again() -> None:
    daylight = observer().daylight
    as_radiance = xyz_weights(FULL, lit=False) @ daylight
    white = xyz_weights(FULL) @ np.ones_like(FULL)
    np.testing.assert_allclose(as_radiance / as_radiance[1], white, rtol=1e-9)
    assert own_light("AVIRIS radiance counts")
    assert not own_light("reflectance")
    assert not own_light(None)


def test_coverage_tells_what_is_not_measured() -> None:
    whole, eyes, infrared = (coverage(np.linspace(*ends)) for ends in ((380, 780, 41), (450, 905, 16), (900, 1700, 9)))
    assert whole.shares == pytest.approx((1, 1, 1))
    assert eyes.shares[2] < eyes.shares[0] < eyes.shares[1] < 1
    assert COVERED < eyes.shares[2] < 0.7  # what lies below 450 nm is much of the blue
    assert (whole.name, eyes.name, infrared.name) == ("true colour", "true colour", "false colour")
    assert coverage(np.linspace(400, 2500, 16)).name == "rough colour"
    told = colour_told(np.linspace(450, 905, 16), known=True, units="reflectance")
    assert "D65" in told
    assert "62 % of Z" in told
    assert "No true colour" in colour_told(np.linspace(900, 1700, 9), known=True, units=None)
    assert "unknown" in colour_told(np.arange(9.0), known=False, units=None)


def test_false_colour_takes_infrared_where_there_is_any_else_bands_that_are_spread() -> None:
    bands = np.linspace(450, 905, 16)
    assert [round(float(bands[i])) for i in composite_bands(bands)] == [844, 662, 541]
    assert composite_bands(np.arange(12.0), known=False) == (9, 6, 2)
    assert composite_bands(np.array([500.0])) == (0, 0, 0)
