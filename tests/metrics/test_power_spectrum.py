"""``power``: white noise is flat, sums are right, slopes survive. ``power-spectrum``: blur and noise in dB."""

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
from tests.helpers.described_sets import changed, compared, described
from tests.helpers.sets import texture_set

Array = NDArray[Any]


def disc(size: int, radius: float | None = None) -> Array:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return np.hypot(y, x) < (radius or size / 2 - 1)


def power_law(n: int, size: int, slope: float, seed: int = 0) -> Array:
    """Return pictures whose density falls as ``frequency ** -slope``, cut out of larger periodic ones."""
    frequency = np.hypot(np.fft.fftfreq(2 * size)[:, None], np.fft.fftfreq(2 * size))
    frequency[0, 0] = np.inf
    noise = np.fft.fft2(np.random.default_rng(seed).normal(size=(n, 2 * size, 2 * size)))
    pictures: Array = np.fft.ifft2(noise * frequency ** (-slope / 2)).real[:, :size, :size]
    return pictures


def rows_of(cubes: Array, field: Array | None = None) -> dict[str, Array]:
    cubes = np.asarray(cubes, dtype=np.float32)
    valid = np.ones(cubes.shape[-2:], dtype=bool) if field is None else field
    seen = np.where(valid, cubes, np.float32(np.nan))
    masks = {"fov": np.broadcast_to(valid, (len(cubes), *valid.shape))}
    return RadialPower()(seen, wavelengths=np.arange(cubes.shape[1]), masks=masks)


def test_the_contracts_hold() -> None:
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


@pytest.mark.parametrize("field", [disc(96), np.ones((96, 96), dtype=bool)], ids=["disc", "square"])
def test_white_noise_is_flat_at_its_variance(field: Array) -> None:
    density, _ = compute_radial_power(np.random.default_rng(1).normal(0, 2, (60, 96, 96)), compute_field_taper(field))
    resolved = compute_bin_centers() >= 3 / 96
    assert 10 * np.log10(density[:, resolved].mean(axis=0) / 4) == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("slope", [1, 2, 3, 4])
def test_steep_spectra_keep_their_slope_in_a_round_field(slope: int) -> None:
    density, _ = compute_radial_power(power_law(30, 96, slope), compute_field_taper(disc(96)))
    fine = compute_bin_centers() >= 4 / 96
    away = 10 * np.log10(density[:, fine].mean(axis=0) * compute_bin_centers()[fine] ** slope)
    assert np.abs(away).max() < 1.2  # a hard edge leaves +20 dB and more at the fine end of slope 4
    hard, _ = compute_radial_power(power_law(30, 96, slope), disc(96).astype(float))
    assert slope < 4 or 10 * np.log10(hard[:, -4].mean() * compute_bin_centers()[-4] ** slope) > 8


def test_a_wave_lands_in_its_bin() -> None:
    x = np.arange(96)
    wave = np.broadcast_to(np.sin(2 * np.pi * 0.22 * x), (96, 96))
    density, share = compute_radial_power(wave[None], compute_field_taper(disc(96)))
    top = int((density * share)[0].argmax())
    assert compute_bin_edges()[top - 1] < 0.22 <= compute_bin_edges()[top]


def test_a_blur_loses_what_its_transfer_function_says() -> None:
    noise = np.random.default_rng(2).normal(0.5, 0.1, (12, 1, 96, 96))
    sigma = 1.0
    parts = compared(
        PowerSpectrum(),
        ArraySet(noise, wavelengths=[500.0]),
        ArraySet(gaussian_filter(noise, (0, 0, sigma, sigma), mode="wrap", truncate=8), wavelengths=[500.0]),
    )
    cycles = np.array(parts.details["frequencies"])
    expected = -20 * np.log10(np.e) * (2 * np.pi * cycles * sigma) ** 2 / 2
    middle = (cycles > 0.06) & (cycles < 0.4)
    assert np.array(parts.details["signed_by_frequency"])[middle] == pytest.approx(expected[middle], abs=0.6)
    assert parts.details["fine"] < -10 < parts.details["coarse"] < 0


def test_added_noise_lifts_the_fine_end_alone_and_only_its_band() -> None:
    real = ArraySet(0.5 + 0.02 * power_law(20, 64, 3).reshape(10, 2, 64, 64), wavelengths=[500.0, 600.0])
    cubes = real.cubes.copy()
    cubes[:, 1] += np.random.default_rng(3).normal(0, 0.1, (10, 64, 64))
    details = compared(PowerSpectrum(), real, changed(real, cubes)).details
    unit = 10 * np.log10(1 + 0.1**2 / 2 / np.square(real.cubes).mean())  # the noise lifts the mean square as well
    assert details["by_wavelength"][0] == pytest.approx(unit, rel=0.1)
    assert details["by_wavelength"][1] > 50 * unit
    assert details["fine"] > 3 * abs(details["coarse"])
    assert details["leaning_by_frequency"][-1] > 0.99


@pytest.mark.parametrize("kind", ["blur", "noise", "contrast"])
def test_it_grows_with_the_severity(kind: str) -> None:
    real = texture_set(6, size=48, seed=4)
    noise = np.random.default_rng(5).normal(size=real.cubes.shape)
    mean = real.cubes.mean(axis=(2, 3), keepdims=True)

    def spoilt(severity: float) -> ArraySet:
        if kind == "blur":
            return changed(real, gaussian_filter(real.cubes, (0, 0, severity, severity)) if severity else real.cubes)
        return changed(real, real.cubes + 0.02 * severity * (noise if kind == "noise" else real.cubes - mean))

    values = [compared(PowerSpectrum(), real, spoilt(severity)).value for severity in (0, 0.3, 0.6, 1.0, 2.0)]
    assert values == sorted(values)
    assert values[0] == 0


def test_the_distance_is_the_root_mean_square_of_mean_decibels() -> None:
    real, generated = texture_set(5, size=48, seed=6), texture_set(7, size=48, seed=7)
    a, b = (described(cubes, "power") for cubes in (real, generated))
    used = (a["power/modes"] > 0).all(axis=0)
    difference = (b["power/db"].mean(axis=0) - a["power/db"].mean(axis=0))[:, used]
    assert compared(PowerSpectrum(), real, generated).value == pytest.approx(np.sqrt((difference**2).mean()), rel=1e-5)


def test_gain_turns_and_a_larger_surround_change_nothing() -> None:
    base = texture_set(3, size=40, seed=8)
    plain = described(base, "power")["power/db"]
    room = ((0, 0), (9, 4), (2, 30))
    masks = base.masks
    others = {
        "gain": changed(base, 700 * base.cubes),
        "flip": changed(base, base.cubes[..., ::-1], **{k: m[..., ::-1] for k, m in masks.items()}),
        "turn": changed(
            base, np.rot90(base.cubes, axes=(2, 3)), **{k: np.rot90(m, axes=(1, 2)) for k, m in masks.items()}
        ),
        "surround": changed(
            base, np.pad(base.cubes, ((0, 0), *room)), **{k: np.pad(m, room) for k, m in masks.items()}
        ),
    }
    order = np.argsort(plain[:, 0, -1])
    for name, other in others.items():
        rows = described(other, "power")["power/db"]
        assert rows[np.argsort(rows[:, 0, -1])] == pytest.approx(plain[order], abs=2e-3), name


def test_what_lies_outside_the_field_is_never_read() -> None:
    field, cubes = disc(48), np.random.default_rng(9).normal(1, 0.1, (2, 3, 48, 48))
    one = rows_of(cubes, field)
    two = rows_of(np.where(field, cubes, 1e6), field)
    np.testing.assert_array_equal(one["db"], two["db"])


def test_a_dead_pixel_costs_next_to_nothing_and_a_stop_stays_outside() -> None:
    cubes = 0.5 + 0.02 * power_law(6, 64, 2).reshape(3, 2, 64, 64)
    field, stopped = disc(64), disc(64) & ~disc(64, 6)
    dead = field.copy()
    dead[[20, 33, 47], [40, 12, 30]] = False
    whole, holed = (rows_of(cubes, each) for each in (field, dead))
    known = whole["modes"][0] > 0
    assert np.abs(whole["db"] - holed["db"])[..., known].max() < 0.7
    closed, _ = fill_small_holes(cubes[0].astype(np.float32), stopped)
    np.testing.assert_array_equal(closed, stopped)


def test_cubes_of_other_sizes_agree_where_both_resolve() -> None:
    # Cut to its middle, the same noise-like texture has the same density in cycles per pixel.
    pictures = 0.5 + 0.05 * power_law(40, 128, 2)
    large, small = pictures.reshape(20, 2, 128, 128), pictures.reshape(20, 2, 128, 128)[:, :, 32:96, 40:104]
    parts = compared(PowerSpectrum(), ArraySet(large, wavelengths=[1.0, 2.0]), ArraySet(small, wavelengths=[1.0, 2.0]))
    assert min(parts.details["frequencies"]) >= 3 / 64
    fine = np.array(parts.details["frequencies"]) > 0.1
    assert np.abs(np.array(parts.details["signed_by_frequency"])[fine]).max() < 0.5


def test_constant_and_black_cubes_give_finite_rows() -> None:
    for value in (0.0, 0.7):
        rows = rows_of(np.full((1, 2, 32, 32), value))
        assert rows["db"] == pytest.approx(-100, abs=1e-3)
    few = np.zeros((32, 32), dtype=bool)
    few[3, 4] = True
    assert (rows_of(np.ones((1, 2, 32, 32)), few)["modes"] == 0).all()
    assert np.isfinite(rows_of(np.ones((1, 2, 32, 32)), few)["db"]).all()
    assert np.isnan(rows_of(np.ones((1, 2, 32, 32)), np.zeros((32, 32), dtype=bool))["db"]).all()


def test_fields_that_resolve_nothing_are_not_computable() -> None:
    tiny = ArraySet(np.random.default_rng(0).random((4, 2, 2, 3)), wavelengths=[1.0, 2.0])
    with pytest.raises(NotComputable, match="too small"):
        compared(PowerSpectrum(), tiny, tiny)
