"""``power``: white noise is flat, sums and slopes are right. ``power-spectrum``: blur and noise in dB."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from hseval.core.cubes import ArraySet
from hseval.extractors.power import RadialPower, fill_small_holes
from hseval.extractors.radial import compute_bin_centers, compute_bin_edges, compute_field_taper, compute_radial_power
from hseval.metrics.power_spectrum import PowerSpectrum, compute_bin_frequencies
from hseval.testing import check_extractor, check_metric
from hseval.utils.errors import NotComputable
from tests.helpers.described_sets import compare_sets, extract_table, replace_cubes
from tests.helpers.sets import make_texture_set

Array = NDArray[Any]


def make_disc(size: int, radius: float | None = None) -> Array:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return np.hypot(y, x) < (radius or size / 2 - 1)


def make_power_law_images(n: int, size: int, slope: float, seed: int = 0) -> Array:
    """Return images whose density falls as ``frequency ** -slope``, cropped from larger periodic ones."""
    frequency = np.hypot(np.fft.fftfreq(2 * size)[:, None], np.fft.fftfreq(2 * size))
    frequency[0, 0] = np.inf
    noise = np.fft.fft2(np.random.default_rng(seed).normal(size=(n, 2 * size, 2 * size)))
    images: Array = np.fft.ifft2(noise * frequency ** (-slope / 2)).real[:, :size, :size]
    return images


def compute_features(cubes: Array, field: Array | None = None) -> dict[str, Array]:
    cubes = np.asarray(cubes, dtype=np.float32)
    valid = np.ones(cubes.shape[-2:], dtype=bool) if field is None else field
    visible = np.where(valid, cubes, np.float32(np.nan))
    masks = {"fov": np.broadcast_to(valid, (len(cubes), *valid.shape))}
    return RadialPower()(visible, wavelengths=np.arange(cubes.shape[1]), masks=masks)


def test_power_and_power_spectrum_fulfill_their_contracts() -> None:
    check_extractor(RadialPower)
    check_metric(PowerSpectrum)


def test_bins_are_thirds_of_an_octave_up_to_half_a_cycle() -> None:
    assert len(compute_bin_centers()) == len(compute_bin_edges()) + 1 == 25
    assert compute_bin_edges()[-1] == 0.5
    assert compute_bin_edges()[-4] == pytest.approx(0.25)
    assert compute_bin_frequencies(25) == pytest.approx(compute_bin_centers())


@pytest.mark.parametrize("shape", [(64, 64), (63, 50), (33, 96)])
def test_the_sum_over_all_bins_is_the_variance_under_the_window(shape: tuple[int, int]) -> None:
    images = np.random.default_rng(0).normal(2, 3, (2, *shape))  # Parseval
    window = compute_field_taper(np.ones(shape, dtype=bool))
    density, share = compute_radial_power(images, window)
    mean = (images * window).sum(axis=(1, 2)) / window.sum()
    variance = (((images - mean[:, None, None]) * window) ** 2).sum(axis=(1, 2)) / (window**2).sum()
    assert (density * share).sum(axis=1) == pytest.approx(variance, rel=1e-9)
    assert 0 < 1 - share.sum() < 1e-3  # the constant


@pytest.mark.parametrize("field", [make_disc(96), np.ones((96, 96), dtype=bool)], ids=["disc", "square"])
def test_white_noise_is_flat_at_its_variance(field: Array) -> None:
    density, _ = compute_radial_power(np.random.default_rng(1).normal(0, 2, (60, 96, 96)), compute_field_taper(field))
    resolved = compute_bin_centers() >= 3 / 96
    assert 10 * np.log10(density[:, resolved].mean(axis=0) / 4) == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("slope", [1, 2, 3, 4])
def test_steep_spectra_keep_their_slope_in_a_round_field(slope: int) -> None:
    density, _ = compute_radial_power(make_power_law_images(30, 96, slope), compute_field_taper(make_disc(96)))
    fine = compute_bin_centers() >= 4 / 96
    error = 10 * np.log10(density[:, fine].mean(axis=0) * compute_bin_centers()[fine] ** slope)
    assert np.abs(error).max() < 1.2  # a hard edge leaves +20 dB and more at the fine end of slope 4
    hard_edged, _ = compute_radial_power(make_power_law_images(30, 96, slope), make_disc(96).astype(float))
    assert slope < 4 or 10 * np.log10(hard_edged[:, -4].mean() * compute_bin_centers()[-4] ** slope) > 8


def test_a_wave_lands_in_its_bin() -> None:
    x = np.arange(96)
    wave = np.broadcast_to(np.sin(2 * np.pi * 0.22 * x), (96, 96))
    density, share = compute_radial_power(wave[None], compute_field_taper(make_disc(96)))
    top = int((density * share)[0].argmax())
    assert compute_bin_edges()[top - 1] < 0.22 <= compute_bin_edges()[top]


def test_a_blur_changes_power_by_its_transfer_function() -> None:
    noise = np.random.default_rng(2).normal(0.5, 0.1, (12, 1, 96, 96))
    sigma = 1.0
    parts = compare_sets(
        PowerSpectrum(),
        ArraySet(noise, wavelengths=[500.0]),
        ArraySet(gaussian_filter(noise, (0, 0, sigma, sigma), mode="wrap", truncate=8), wavelengths=[500.0]),
    )
    frequencies = np.array(parts.details["frequencies"])
    expected = -20 * np.log10(np.e) * (2 * np.pi * frequencies * sigma) ** 2 / 2
    resolved = (frequencies > 0.06) & (frequencies < 0.4)
    assert np.array(parts.details["signed_by_frequency"])[resolved] == pytest.approx(expected[resolved], abs=0.6)
    assert parts.details["fine"] < -10 < parts.details["coarse"] < 0


def test_added_noise_raises_fine_power_in_its_band_alone() -> None:
    real = ArraySet(0.5 + 0.02 * make_power_law_images(20, 64, 3).reshape(10, 2, 64, 64), wavelengths=[500.0, 600.0])
    cubes = real.cubes.copy()
    cubes[:, 1] += np.random.default_rng(3).normal(0, 0.1, (10, 64, 64))
    details = compare_sets(PowerSpectrum(), real, replace_cubes(real, cubes)).details
    unit = 10 * np.log10(1 + 0.1**2 / 2 / np.square(real.cubes).mean())  # the noise raises the mean square as well
    assert details["by_wavelength"][0] == pytest.approx(unit, rel=0.1)
    assert details["by_wavelength"][1] > 50 * unit
    assert details["fine"] > 3 * abs(details["coarse"])
    assert details["leaning_by_frequency"][-1] > 0.99


@pytest.mark.parametrize("kind", ["blur", "noise", "contrast"])
def test_the_score_grows_with_the_severity(kind: str) -> None:
    real = make_texture_set(6, size=48, seed=4)
    noise = np.random.default_rng(5).normal(size=real.cubes.shape)
    mean = real.cubes.mean(axis=(2, 3), keepdims=True)

    def degrade(severity: float) -> ArraySet:
        if kind == "blur":
            return replace_cubes(
                real, gaussian_filter(real.cubes, (0, 0, severity, severity)) if severity else real.cubes
            )
        return replace_cubes(real, real.cubes + 0.02 * severity * (noise if kind == "noise" else real.cubes - mean))

    values = [compare_sets(PowerSpectrum(), real, degrade(severity)).value for severity in (0, 0.3, 0.6, 1.0, 2.0)]
    assert values == sorted(values)
    assert values[0] == 0


def test_the_distance_is_the_root_mean_square_of_mean_decibels() -> None:
    real, generated = make_texture_set(5, size=48, seed=6), make_texture_set(7, size=48, seed=7)
    a, b = (extract_table(cubes, "power") for cubes in (real, generated))
    used = (a["power/modes"] > 0).all(axis=0)
    difference = (b["power/db"].mean(axis=0) - a["power/db"].mean(axis=0))[:, used]
    assert compare_sets(PowerSpectrum(), real, generated).value == pytest.approx(
        np.sqrt((difference**2).mean()), rel=1e-5
    )


def test_gain_rotations_and_a_larger_surround_change_nothing() -> None:
    base = make_texture_set(3, size=40, seed=8)
    plain = extract_table(base, "power")["power/db"]
    room = ((0, 0), (9, 4), (2, 30))
    masks = base.masks
    others = {
        "gain": replace_cubes(base, 700 * base.cubes),
        "flip": replace_cubes(base, base.cubes[..., ::-1], **{k: m[..., ::-1] for k, m in masks.items()}),
        "turn": replace_cubes(
            base, np.rot90(base.cubes, axes=(2, 3)), **{k: np.rot90(m, axes=(1, 2)) for k, m in masks.items()}
        ),
        "surround": replace_cubes(
            base, np.pad(base.cubes, ((0, 0), *room)), **{k: np.pad(m, room) for k, m in masks.items()}
        ),
    }
    order = np.argsort(plain[:, 0, -1])
    for name, other in others.items():
        power = extract_table(other, "power")["power/db"]
        assert power[np.argsort(power[:, 0, -1])] == pytest.approx(plain[order], abs=2e-3), name


def test_pixels_outside_the_field_are_never_read() -> None:
    field, cubes = make_disc(48), np.random.default_rng(9).normal(1, 0.1, (2, 3, 48, 48))
    clean = compute_features(cubes, field)
    changed = compute_features(np.where(field, cubes, 1e6), field)
    np.testing.assert_array_equal(clean["db"], changed["db"])


def test_dead_pixels_change_little_and_a_central_stop_stays_invalid() -> None:
    cubes = 0.5 + 0.02 * make_power_law_images(6, 64, 2).reshape(3, 2, 64, 64)
    field, with_stop = make_disc(64), make_disc(64) & ~make_disc(64, 6)
    dead = field.copy()
    dead[[20, 33, 47], [40, 12, 30]] = False
    whole, with_holes = (compute_features(cubes, valid) for valid in (field, dead))
    resolved = whole["modes"][0] > 0
    assert np.abs(whole["db"] - with_holes["db"])[..., resolved].max() < 0.7
    filled, _ = fill_small_holes(cubes[0].astype(np.float32), with_stop)
    np.testing.assert_array_equal(filled, with_stop)


def test_cubes_of_different_sizes_agree_at_frequencies_resolved_in_both() -> None:
    # A crop of a noise-like texture has the same density in cycles per pixel.
    images = 0.5 + 0.05 * make_power_law_images(40, 128, 2)
    large, small = images.reshape(20, 2, 128, 128), images.reshape(20, 2, 128, 128)[:, :, 32:96, 40:104]
    parts = compare_sets(
        PowerSpectrum(), ArraySet(large, wavelengths=[1.0, 2.0]), ArraySet(small, wavelengths=[1.0, 2.0])
    )
    assert min(parts.details["frequencies"]) >= 3 / 64
    fine = np.array(parts.details["frequencies"]) > 0.1
    assert np.abs(np.array(parts.details["signed_by_frequency"])[fine]).max() < 0.5


def test_constant_and_black_cubes_have_finite_features() -> None:
    for value in (0.0, 0.7):
        features = compute_features(np.full((1, 2, 32, 32), value))
        assert features["db"] == pytest.approx(-100, abs=1e-3)
    one_pixel = np.zeros((32, 32), dtype=bool)
    one_pixel[3, 4] = True
    assert (compute_features(np.ones((1, 2, 32, 32)), one_pixel)["modes"] == 0).all()
    assert np.isfinite(compute_features(np.ones((1, 2, 32, 32)), one_pixel)["db"]).all()
    assert np.isnan(compute_features(np.ones((1, 2, 32, 32)), np.zeros((32, 32), dtype=bool))["db"]).all()


def test_fields_that_resolve_nothing_are_not_computable() -> None:
    tiny = ArraySet(np.random.default_rng(0).random((4, 2, 2, 3)), wavelengths=[1.0, 2.0])
    with pytest.raises(NotComputable, match="too small"):
        compare_sets(PowerSpectrum(), tiny, tiny)
