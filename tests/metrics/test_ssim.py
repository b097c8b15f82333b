"""MS-SSIM against pytorch-msssim and a plain implementation, and its response to noise and blur."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pytorch_msssim import ms_ssim as pytorch_ms_ssim
from scipy.ndimage import correlate1d, gaussian_filter

from hseval.metrics.ssim.maps import gaussian_window
from hseval.metrics.ssim.ssim import compute_block_terms, count_scales, get_scale_weights, ms_ssim, pairwise_ms_ssim
from hseval.utils.errors import HsevalError, NotComputable

Array = NDArray[Any]

C1, C2 = 0.01**2, 0.03**2


def make_textures(n: int, bands: int, height: int, width: int, *, seed: int = 0, smooth: float = 2.0) -> Array:
    """Return cubes in 0 ... 1 that share half of their structure."""
    rng = np.random.default_rng(seed)
    noise = rng.random((n + 1, bands, height, width))
    cubes = gaussian_filter(noise, (0, 0, smooth, smooth))
    cubes = cubes[1:] + cubes[:1]
    return ((cubes - cubes.min()) / (cubes.max() - cubes.min())).astype(np.float32)


def make_disc(size: int, radius: float) -> Array:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return y**2 + x**2 <= radius**2


def pad(array: Array, top: int, bottom: int, left: int, right: int) -> Array:
    edges = [(0, 0)] * (array.ndim - 2) + [(top, bottom), (left, right)]
    return np.pad(array, edges)


def make_exact_window(bands: int) -> torch.Tensor:
    """Return the window in float64 for pytorch-msssim, whose own is rounded to float32."""
    return torch.from_numpy(gaussian_window(11)).view(1, 1, 1, 11).repeat(bands, 1, 1, 1)


def compute_plain_ms_ssim(a: Array, b: Array, scales: int, *, depth: int = 1, volume: bool = False) -> float:
    """Return MS-SSIM of two full float64 cubes of even sides by its definition, with a window of ``depth`` bands."""

    def filter_maps(maps: Array) -> Array:
        for axis, size in ((0, depth), (1, 11), (2, 11)):
            maps = correlate1d(maps, gaussian_window(size), axis=axis)
            maps = maps.take(range(size // 2, maps.shape[axis] - size // 2), axis=axis)
        return maps

    axes = (0, 1, 2) if volume else (1, 2)
    value = 1.0
    for scale, weight in enumerate(get_scale_weights(scales)):
        mean_a, mean_b = filter_maps(a), filter_maps(b)
        covariance = filter_maps(a * b) - mean_a * mean_b
        maps = (2 * covariance + C2) / (filter_maps(a * a) - mean_a**2 + filter_maps(b * b) - mean_b**2 + C2)
        if scale == scales - 1:
            maps = maps * (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
        value = value * np.maximum(maps.mean(axis=axes), 0) ** weight
        if scale < scales - 1:
            a, b = (x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2).mean(axis=(2, 4)) for x in (a, b))
    return float(np.mean(value))


@pytest.mark.parametrize("shape", [(2, 3, 161, 161), (1, 1, 176, 203), (2, 2, 215, 180), (1, 5, 192, 192)])
def test_full_images_agree_with_pytorch_msssim(shape: tuple[int, ...]) -> None:
    a, b = make_textures(shape[0], *shape[1:]), make_textures(*shape, seed=1)
    expected = pytorch_ms_ssim(torch.from_numpy(a), torch.from_numpy(b), 1.0, size_average=False).numpy()
    np.testing.assert_allclose(ms_ssim(a, b, data_range=1.0), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(161, 161), (163, 190)])
def test_float64_agrees_with_pytorch_msssim_to_rounding(size: int) -> None:
    a, b = make_textures(2, 2, *size).astype(np.float64), make_textures(2, 2, *size, seed=1).astype(np.float64)
    expected = pytorch_ms_ssim(
        *map(torch.from_numpy, (a, b)), 1.0, size_average=False, win=make_exact_window(2)
    ).numpy()
    np.testing.assert_allclose(ms_ssim(a, b, data_range=1.0), expected, atol=1e-12, rtol=0)


def test_all_pairs_agree_with_pytorch_msssim_and_with_single_pairs() -> None:
    cubes = make_textures(5, 3, 171, 164)
    left, right = np.triu_indices(5, 1)
    matrix = pairwise_ms_ssim(cubes, data_range=1.0)
    expected = pytorch_ms_ssim(torch.from_numpy(cubes[left]), torch.from_numpy(cubes[right]), 1.0, size_average=False)
    np.testing.assert_allclose(matrix[left, right], expected.numpy(), atol=1e-5, rtol=0)
    np.testing.assert_allclose(matrix[left, right], ms_ssim(cubes[left], cubes[right], data_range=1.0), atol=1e-6)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_array_equal(np.diag(matrix), 1)


@pytest.mark.parametrize(("size", "scales"), [(161, 5), (160, 4), (81, 4), (80, 3), (41, 3), (21, 2), (20, 1), (10, 0)])
def test_the_number_of_scales_follows_from_the_shorter_side(size: int, scales: int) -> None:
    assert count_scales((size, 300)) == count_scales((300, size)) == scales


@pytest.mark.parametrize(("size", "scales"), [(88, 4), (64, 3), (44, 3), (22, 2), (18, 1), (11, 1)])
def test_small_images_have_fewer_scales_with_weights_that_sum_to_one(size: int, scales: int) -> None:
    a, b = (make_textures(1, 2, size, size, seed=seed).astype(np.float64) for seed in (3, 4))
    assert get_scale_weights(scales).sum() == pytest.approx(1, abs=1e-12)
    assert ms_ssim(a, b, data_range=1.0)[0] == pytest.approx(compute_plain_ms_ssim(a[0], b[0], scales), abs=1e-12)


def test_images_smaller_than_a_window_are_refused_with_their_size() -> None:
    with pytest.raises(NotComputable, match=r"at least 11 x 11 px.*found 10 x 64"):
        ms_ssim(*[make_textures(1, 1, 10, 64)] * 2, data_range=1.0)


@pytest.mark.parametrize(("bands", "window"), [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (8, 5)])
def test_the_3d_form_agrees_with_a_plain_implementation(bands: int, window: int) -> None:
    a, b = (make_textures(1, bands, 48, 64, seed=seed).astype(np.float64) for seed in (5, 6))
    slope = np.linspace(0, 1, bands)[:, None, None]
    a, b = a + slope, b + slope
    value = ms_ssim(a, b, data_range=1.0, volume=True)[0]
    assert value == pytest.approx(compute_plain_ms_ssim(a[0], b[0], 3, depth=window, volume=True), abs=1e-12)
    single = ms_ssim(a.astype(np.float32), b.astype(np.float32), data_range=1.0, volume=True)
    np.testing.assert_allclose(single, ms_ssim(a, b, data_range=1.0, volume=True), atol=1e-6)


def test_both_forms_of_a_block_agree_with_all_pairs_at_any_number_of_scales() -> None:
    cubes = make_textures(4, 6, 50, 62)
    left, right = np.triu_indices(4, 1)
    plane, volume = compute_block_terms(cubes, data_range=1.0)
    for scales in (1, 2, 3):
        for terms, is_volume in ((plane, False), (volume, True)):
            expected = pairwise_ms_ssim(cubes, data_range=1.0, volume=is_volume, scales=scales)[left, right]
            np.testing.assert_allclose(terms.combine(scales).mean(axis=1), expected, atol=1e-6)


@pytest.mark.parametrize("volume", [False, True])
def test_a_data_range_by_band_is_the_same_as_bands_scaled_to_one_range(volume: bool) -> None:
    a, b = make_textures(2, 4, 48, 48), make_textures(2, 4, 48, 48, seed=1)
    gains = np.array([1.0, 20.0, 0.01, 3000.0], dtype=np.float32)
    scaled = ms_ssim(a * gains[:, None, None], b * gains[:, None, None], data_range=gains, volume=volume)
    np.testing.assert_allclose(scaled, ms_ssim(a, b, data_range=1.0, volume=volume), atol=1e-6)


def test_a_large_offset_costs_no_precision() -> None:
    a, b = make_textures(1, 2, 64, 64), make_textures(1, 2, 64, 64, seed=1)
    offset = 4096.0  # float32 resolves 1 / 2048 there: values are rounded first, so that both types are exact
    a, b = ((x * 64).round() / 64 for x in (a, b))
    single = ms_ssim(a + offset, b + offset, data_range=1.0)
    exact = ms_ssim((a + offset).astype(np.float64), (b + offset).astype(np.float64), data_range=1.0)
    np.testing.assert_allclose(single, exact, atol=1e-5)


@pytest.mark.parametrize("volume", [False, True])
def test_identical_images_score_one_and_order_does_not_matter(volume: bool) -> None:
    a, b = make_textures(2, 5, 64, 50), make_textures(2, 5, 64, 50, seed=1)
    np.testing.assert_allclose(ms_ssim(a, a, data_range=1.0, volume=volume), 1, atol=1e-6)
    forward, backward = ms_ssim(a, b, data_range=1.0, volume=volume), ms_ssim(b, a, data_range=1.0, volume=volume)
    np.testing.assert_allclose(forward, backward, atol=1e-7)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(11, 40), st.integers(11, 40), st.integers(1, 6))
def test_values_lie_between_zero_and_one(seed: int, height: int, width: int, bands: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, 2, bands, height, width), dtype=np.float32)
    for volume in (False, True):
        values = ms_ssim(a, b, data_range=1.0, volume=volume)
        assert np.all((values >= 0) & (values <= 1 + 1e-6))


def test_negative_contrast_terms_are_clamped_and_never_become_nan() -> None:
    a = make_textures(1, 2, 176, 176)
    inverted = ms_ssim(a, 1 - a, data_range=1.0)
    np.testing.assert_array_equal(inverted, 0)


@pytest.mark.parametrize("volume", [False, True])
def test_similarity_falls_with_noise_and_with_blur(volume: bool) -> None:
    cube = make_textures(1, 5, 64, 64, smooth=1.0)
    noise = np.random.default_rng(0).normal(size=cube.shape).astype(np.float32)
    noisy = [
        ms_ssim(cube, cube + severity * noise, data_range=1.0, volume=volume)[0]
        for severity in (0, 0.02, 0.05, 0.1, 0.2)
    ]
    blurred = [
        ms_ssim(cube, gaussian_filter(cube, (0, 0, severity, severity)), data_range=1.0, volume=volume)[0]
        for severity in (0, 0.5, 1.0, 2.0, 4.0)
    ]
    assert np.all(np.diff(noisy) < 0)
    assert np.all(np.diff(blurred) < 0)


@pytest.mark.parametrize("volume", [False, True])
@pytest.mark.parametrize("edges", [(0, 0, 0, 1), (1, 0, 0, 0), (3, 8, 5, 2), (40, 0, 17, 31)])
def test_a_black_surround_of_any_size_changes_nothing(edges: tuple[int, int, int, int], volume: bool) -> None:
    cubes, fields = make_textures(3, 5, 90, 90), np.stack([make_disc(90, radius) for radius in (44, 42, 39)])
    cubes = cubes * fields[:, None]
    wide, wide_fields = pad(cubes, *edges), pad(fields, *edges)
    bare = pairwise_ms_ssim(cubes, data_range=1.0, fields=fields, volume=volume)
    np.testing.assert_allclose(
        pairwise_ms_ssim(wide, data_range=1.0, fields=wide_fields, volume=volume), bare, atol=1e-6
    )
    pair = ms_ssim(cubes[:1], cubes[1:2], data_range=1.0, field_a=fields[:1], field_b=fields[1:2], volume=volume)
    surrounded = ms_ssim(
        wide[:1], wide[1:2], data_range=1.0, field_a=wide_fields[:1], field_b=wide_fields[1:2], volume=volume
    )
    np.testing.assert_allclose(surrounded, pair, atol=1e-6)


def test_a_full_field_with_a_black_surround_scores_as_the_bare_image() -> None:
    a, b = make_textures(2, 2, 53, 61), make_textures(2, 2, 53, 61, seed=1)
    field = pad(np.ones((2, 53, 61), dtype=bool), 9, 4, 2, 7)
    wide = ms_ssim(pad(a, 9, 4, 2, 7), pad(b, 9, 4, 2, 7), data_range=1.0, field_a=field, field_b=field)
    np.testing.assert_allclose(wide, ms_ssim(a, b, data_range=1.0), atol=1e-6)


@pytest.mark.parametrize("volume", [False, True])
def test_pixels_outside_the_fields_are_never_counted(volume: bool) -> None:
    cubes, fields = make_textures(3, 5, 80, 80), np.stack([make_disc(80, 39)] * 3)
    fields[:, 38:42, 38:42] = False  # a stop of the instrument
    clean = pairwise_ms_ssim(cubes, data_range=1.0, fields=fields, volume=volume)
    for junk in (np.nan, np.inf, 1e6):
        dirty = np.where(fields[:, None], cubes, np.float32(junk))
        np.testing.assert_allclose(
            pairwise_ms_ssim(dirty, data_range=1.0, fields=fields, volume=volume), clean, atol=1e-6
        )
    dirty = np.where(fields[:, None], cubes, np.float32(np.nan))
    np.testing.assert_allclose(pairwise_ms_ssim(dirty, data_range=1.0, volume=volume), clean, atol=1e-6)


def test_one_nan_in_one_band_invalidates_the_pixel_in_all() -> None:
    cubes = make_textures(2, 3, 40, 40)
    field = np.ones((2, 40, 40), dtype=bool)
    field[0, 12, 30] = False
    dirty = cubes.copy()
    dirty[0, 1, 12, 30] = np.nan
    np.testing.assert_allclose(
        pairwise_ms_ssim(dirty, data_range=1.0), pairwise_ms_ssim(cubes, data_range=1.0, fields=field), atol=1e-7
    )


def test_the_map_is_averaged_over_the_windows_inside_both_fields() -> None:
    a, b = (make_textures(1, 1, 40, 40, seed=seed).astype(np.float64) for seed in (0, 1))
    field_a, field_b = np.zeros((2, 1, 40, 40), dtype=bool)
    field_a[:, 2:30, 4:], field_b[:, :33, :27] = True, True
    value = ms_ssim(a, b, data_range=1.0, field_a=field_a, field_b=field_b, scales=1)
    assert value[0] == pytest.approx(compute_plain_ms_ssim(a[0, :, 2:30, 4:27], b[0, :, 2:30, 4:27], 1), abs=1e-12)


def test_fields_too_small_for_a_coarse_scale_reduce_the_scales_of_the_whole_set() -> None:
    a, b = make_textures(2, 2, 100, 100), make_textures(2, 2, 100, 100, seed=1)
    wide, narrow = np.ones((100, 100), dtype=bool), np.zeros((100, 100), dtype=bool)
    narrow[:, 20:50] = True  # room for 11 px at 1 and at 1/2 of the size
    field = np.stack([wide, narrow])
    mixed = ms_ssim(a, b, data_range=1.0, field_a=field)
    np.testing.assert_allclose(mixed[:1], ms_ssim(a[:1], b[:1], data_range=1.0, scales=2), atol=1e-6)
    assert np.isfinite(mixed).all()


def test_a_pair_without_a_common_window_is_nan_and_does_not_affect_others() -> None:
    a, b = make_textures(2, 2, 64, 64), make_textures(2, 2, 64, 64, seed=1)
    field = np.ones((2, 64, 64), dtype=bool)
    field[1] = False
    field[1, 20:28, 20:28] = True
    values = ms_ssim(a, b, data_range=1.0, field_a=field)
    np.testing.assert_allclose(values[0], ms_ssim(a[:1], b[:1], data_range=1.0)[0], atol=1e-6)
    assert np.isnan(values[1])


def test_a_set_without_a_common_window_is_refused() -> None:
    a, b = make_textures(2, 2, 64, 64), make_textures(2, 2, 64, 64, seed=1)
    corners = np.zeros((2, 64, 64), dtype=bool)
    corners[0, :8, :8] = corners[1, 56:, 56:] = True
    with pytest.raises(NotComputable, match="no window of 11 px"):
        ms_ssim(a, b, data_range=1.0, field_a=corners)
    with pytest.raises(NotComputable, match="no pixel"):
        ms_ssim(a, b, data_range=1.0, field_a=corners, field_b=corners[::-1])


def test_splitting_the_work_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cubes, fields = make_textures(5, 6, 60, 70), np.stack([make_disc(70, 34)[5:65]] * 5)
    whole = {volume: pairwise_ms_ssim(cubes, data_range=1.0, fields=fields, volume=volume) for volume in (False, True)}
    monkeypatch.setattr("hseval.metrics.ssim.maps.MAX_RUN_VALUES", 5000)
    monkeypatch.setattr("hseval.metrics.ssim.ssim.MAX_BATCH_VALUES", 1)
    for volume, expected in whole.items():
        parts = pairwise_ms_ssim(cubes, data_range=1.0, fields=fields, volume=volume)
        np.testing.assert_allclose(parts, expected, atol=1e-6)


@pytest.mark.parametrize("data_range", [0.0, -1.0, np.nan, np.array([1.0, 0.0])])
def test_a_data_range_that_is_not_above_zero_is_refused(data_range: Any) -> None:
    with pytest.raises(HsevalError, match="data range"):
        ms_ssim(*[make_textures(1, 2, 20, 20)] * 2, data_range=data_range)


def test_cubes_of_other_shapes_are_refused() -> None:
    with pytest.raises(HsevalError, match="shapes"):
        ms_ssim(make_textures(1, 2, 20, 20), make_textures(1, 2, 20, 21), data_range=1.0)
