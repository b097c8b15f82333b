"""The phantom's optics against numbers computed by hand and against the laws of optics."""

from __future__ import annotations

import numpy as np
import pytest

from hseval.generators.phantom import absorption as absorbs
from hseval.generators.phantom.anatomy import draw_eye
from hseval.generators.phantom.layers import compute_tissue_spectra
from hseval.generators.phantom.optics import reduced_scattering, slab_reflectance, vessel_transmittance
from hseval.utils.errors import HsevalError
from hseval.utils.random_streams import create_rng

VISIBLE = np.arange(450.0, 906.0, 1.0)


def test_blood_at_555_nm_equals_prahl_s_table_by_hand() -> None:
    # HbO2 at 554 and 556 nm: 36815.2 and 34476.8 per cm and mole; 150 g/L of 64500 g/mol; ln 10 = 2.302585.
    by_hand = 0.5 * (36815.2 + 34476.8) * (150.0 / 64500.0) * 2.302585 / 10.0
    assert by_hand == pytest.approx(19.088, abs=1e-3)  # 1/mm
    assert absorbs.blood_absorption(np.array([555.0]), saturation=1.0)[0] == pytest.approx(by_hand, rel=1e-6)


def test_oxygen_makes_blood_brighter_at_640_and_darker_at_900_nm() -> None:
    # Prahl: Hb 4345.2 and HbO2 442 at 640 nm, 761.84 and 1198 at 900 nm.
    oxygenated, deoxygenated = (absorbs.blood_absorption(np.array([640.0, 900.0]), saturation=s) for s in (1.0, 0.0))
    np.testing.assert_allclose(deoxygenated / oxygenated, [4345.2 / 442.0, 761.84 / 1198.0], rtol=1e-6)


def test_blood_is_linear_in_saturation_and_in_hemoglobin() -> None:
    half = absorbs.blood_absorption(VISIBLE, saturation=0.5)
    ends = absorbs.blood_absorption(VISIBLE, saturation=0.0) + absorbs.blood_absorption(VISIBLE, saturation=1.0)
    np.testing.assert_allclose(half, 0.5 * ends)
    np.testing.assert_allclose(absorbs.blood_absorption(VISIBLE, saturation=0.5, grams_per_liter=75.0), 0.5 * half)


def test_isosbestic_points_of_hemoglobin_agree_with_the_literature() -> None:
    difference = absorbs.blood_absorption(VISIBLE, saturation=1.0) - absorbs.blood_absorption(VISIBLE, saturation=0.0)
    crossings = VISIBLE[:-1][np.diff(np.sign(difference)) != 0]
    for known in (500.0, 530.0, 545.0, 570.0, 584.0, 797.0):
        assert np.abs(crossings - known).min() <= 2.5, known
    assert not ((crossings > 590.0) & (crossings < 790.0)).any()


@pytest.mark.parametrize("radius", [0.03, 0.05, 0.08])
def test_equally_wide_arteries_and_veins_differ_most_around_600_to_660_nm(radius: float) -> None:
    eye = draw_eye(create_rng(0, "phantom", 0, 0))
    artery, vein = (
        vessel_transmittance(
            2.0 * radius * absorbs.blood_absorption(VISIBLE, saturation=s), bypass_fraction=eye.bypass_fraction
        )
        for s in (eye.artery_saturation, eye.vein_saturation)
    )
    contrast = np.log(artery / vein)
    assert 590.0 <= VISIBLE[np.abs(contrast).argmax()] <= 660.0
    isosbestic = np.interp([570.2, 797.0], VISIBLE, contrast)  # where Prahl's columns cross
    assert np.abs(isosbestic).max() < 0.03 * np.abs(contrast).max()


def test_melanin_falls_with_jacques_power_over_the_whole_table() -> None:
    wavelengths = np.array([400.0, 448.0, 500.0, 700.0, 1000.0])
    np.testing.assert_allclose(absorbs.melanin_absorption(wavelengths), 6.6e10 * wavelengths**-3.33, rtol=5e-3)


def test_water_peaks_near_975_nm_and_hardly_absorbs_below_650() -> None:
    long = np.arange(900.0, 1001.0, 2.0)
    assert 966.0 <= long[absorbs.water_absorption(long).argmax()] <= 982.0
    assert absorbs.water_absorption(np.arange(400.0, 650.0)).max() < 4e-4


def test_macular_pigment_peaks_at_460_nm_and_is_gone_beyond_540() -> None:
    shape = absorbs.macular_pigment_density(np.arange(400.0, 700.0))
    assert absorbs.macular_pigment_density(np.array([460.0]))[0] == 1.0
    assert shape.max() < 1.02
    assert abs(np.arange(400.0, 700.0)[shape.argmax()] - 460.0) <= 5.0
    assert shape[140:].max() < 0.02


def test_lens_density_at_500_nm_and_60_years_equals_the_formula_by_hand() -> None:
    # Rayleigh 0.2616 x 0.8^4 = 0.10715; the two broad bands 0.70242 x exp(-1.96) = 0.09894 and 1e-5; neutral 0.06.
    assert absorbs.lens_density(np.array([500.0]), age=60.0)[0] == pytest.approx(0.26611, abs=1e-4)


def test_an_old_lens_is_denser_and_yellower() -> None:
    young, old = (absorbs.lens_density(np.array([450.0, 650.0]), age=age) for age in (25.0, 75.0))
    assert (old > young).all()
    assert (old - young)[0] > 3.0 * (old - young)[1]


def test_wavelengths_beyond_the_table_are_refused_by_name() -> None:
    with pytest.raises(HsevalError, match="1200 nm"):
        absorbs.check_wavelength_range(np.array([450.0, 1200.0]))


def test_a_thin_slab_shows_its_background_and_a_thick_one_kubelka_s_limit() -> None:
    absorption, scattering = np.array([0.3, 5.0]), np.array([4.0, 4.0])
    np.testing.assert_allclose(
        slab_reflectance(absorption, scattering, thickness=1e-9, background_reflectance=0.6), 0.6, rtol=1e-6
    )
    ratio = 2.0 * absorption / (0.75 * scattering)
    limit = 1.0 + ratio - np.sqrt(ratio**2 + 2.0 * ratio)
    np.testing.assert_allclose(
        slab_reflectance(absorption, scattering, thickness=50.0, background_reflectance=0.6), limit, rtol=1e-9
    )


def test_a_slab_that_hardly_absorbs_reflects_sd_over_one_plus_sd() -> None:
    depth = 0.75 * 4.0 * 0.5
    reflected = slab_reflectance(np.array([1e-9]), np.array([4.0]), thickness=0.5, background_reflectance=0.0)
    assert reflected[0] == pytest.approx(depth / (1.0 + depth), rel=1e-4)


def test_two_slabs_on_each_other_are_one_of_both_thicknesses() -> None:
    absorption, scattering = np.array([0.2, 1.0, 8.0]), np.array([3.0, 4.0, 5.0])
    lower = slab_reflectance(absorption, scattering, thickness=0.2, background_reflectance=0.5)
    both = slab_reflectance(absorption, scattering, thickness=0.1, background_reflectance=lower)
    np.testing.assert_allclose(
        both, slab_reflectance(absorption, scattering, thickness=0.3, background_reflectance=0.5), rtol=1e-9
    )


def test_a_vessel_s_transmittance_runs_from_one_to_the_bypass() -> None:
    np.testing.assert_allclose(vessel_transmittance(np.array([0.0, 1e3]), bypass_fraction=0.3), [1.0, 0.3])
    once = vessel_transmittance(np.array([0.7]), bypass_fraction=0.0, single_pass_fraction=1.0)
    twice = vessel_transmittance(np.array([0.7]), bypass_fraction=0.0, single_pass_fraction=0.0)
    np.testing.assert_allclose([once[0], twice[0]], np.exp([-0.7, -1.4]))


def test_scattering_falls_with_its_power() -> None:
    octave = reduced_scattering(np.array([560.0, 1120.0]), scattering_at_560=6.0, power=1.5)
    np.testing.assert_allclose(octave, [6.0, 6.0 / 2**1.5])


@pytest.mark.parametrize("index", range(8))
def test_choroidal_vessels_show_from_640_nm_on_and_fade_toward_900(index: int) -> None:
    eye = draw_eye(create_rng(3, "phantom", index, 0))
    tissue = compute_tissue_spectra(eye, np.array([540.0, 555.0, 640.0, 680.0, 730.0, 900.0]))
    contrast = np.abs(tissue.choroid_vessel - tissue.stroma) / (tissue.choroid_vessel + tissue.stroma)
    assert contrast[2:5].min() > 0.06
    assert contrast[:2].max() < 0.06
    assert contrast[5] < 0.5 * contrast[3]
