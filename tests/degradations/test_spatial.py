"""Spatial degradations against closed forms and independent implementations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from hseval.core.cubes import ArraySet, Cube
from hseval.degradations import find_degradation
from hseval.degradations.blur import discrete_gaussian
from hseval.degradations.patches import find_valid_patches
from hseval.degradations.registration import shift_bands
from hseval.degradations.vessels import compute_dark_line_depth, make_line_element
from tests.helpers.degraded import degrade_cube, make_textured_cube

Array = NDArray[Any]
EVERYWHERE = np.ones((40, 40), dtype=bool)


def make_noise(bands: int = 3, size: int = 40, seed: int = 0) -> Array:
    return (1 + 0.1 * np.random.default_rng(seed).standard_normal((bands, size, size))).astype(np.float32)


@pytest.mark.parametrize("sigma", [0.1, 0.4, 1.2, 3.0])
def test_the_discrete_gaussian_has_the_requested_variance(sigma: float) -> None:
    kernel = discrete_gaussian(sigma).astype(np.float64)
    positions = np.arange(len(kernel)) - len(kernel) // 2
    assert kernel.sum() == pytest.approx(1, rel=1e-6)
    assert kernel @ positions**2 == pytest.approx(sigma**2, rel=2e-3)


def test_blur_is_scipys_gaussian_in_the_middle_and_preserves_constants_to_the_rim() -> None:
    data = make_noise()
    blurred = degrade_cube("blur", Cube(data), 2.0).data
    expected = ndimage.gaussian_filter(data.astype(np.float64), (0, 2, 2), truncate=6)
    np.testing.assert_allclose(blurred[:, 14:-14, 14:-14], expected[:, 14:-14, 14:-14], atol=2e-3)
    field = make_textured_cube().masks["fov"]
    flat = Cube(np.where(field, np.float32(2), np.float32(0))[None].repeat(3, axis=0), {"fov": field})
    np.testing.assert_allclose(degrade_cube("blur", flat, 3.0).data[:, field], 2, rtol=1e-5)


def test_whole_blocks_at_full_severity_are_their_mean_over_valid_pixels() -> None:
    data, field = make_noise(2, 20), np.ones((20, 20), dtype=bool)
    field[:3, :3] = False
    blocks = degrade_cube("blocks", Cube(data, {"fov": field}), 100.0).data
    corner = np.zeros_like(field)
    corner[:8, :8] = True
    np.testing.assert_allclose(blocks[0, corner & field], data[0, corner & field].mean(), rtol=1e-6)
    np.testing.assert_allclose(blocks[1, 16:, 8:16], data[1, 16:, 8:16].mean(), rtol=1e-6)
    half = degrade_cube("blocks", Cube(data, {"fov": field}), 50.0).data
    np.testing.assert_allclose(half, (data + blocks) / 2, rtol=1e-6)


def test_noise_has_the_declared_standard_deviation_and_no_correlation() -> None:
    levels = np.array([1.0, 10.0, 0.1], dtype=np.float32)[:, None, None]
    data = np.broadcast_to(levels, (3, 80, 80)).copy()
    noise = (degrade_cube("noise", Cube(data), 3.0).data - data) / levels
    np.testing.assert_allclose(noise.std(axis=(1, 2)), 0.03, rtol=0.05)
    assert abs(np.corrcoef(noise[:, :, 1:].ravel(), noise[:, :, :-1].ravel())[0, 1]) < 0.03
    assert not find_degradation("noise").is_set_wide  # type: ignore[attr-defined]


def test_stripes_are_one_gain_a_column_and_band() -> None:
    data = make_noise(4, 60) + 1
    gains = degrade_cube("striping", Cube(data), 3.0).data / data
    assert np.ptp(gains, axis=1).max() < 1e-5
    assert gains[:, 0].std() == pytest.approx(0.03, rel=0.2)


@pytest.mark.parametrize(("down", "right"), [(0, 2), (3, 0), (-2, 1)])
def test_bands_shifted_by_whole_pixels_are_rolled(down: int, right: int) -> None:
    data = make_noise()
    shifts = np.array([[0, 0], [down, right], [-down, -right]], dtype=np.float64)
    shifted = shift_bands(data, EVERYWHERE, shifts)
    for band, (y, x) in enumerate(shifts.astype(int)):
        middle = np.s_[4:-4, 4:-4]
        np.testing.assert_allclose(shifted[band][middle], np.roll(data[band], (y, x), (0, 1))[middle], atol=1e-5)


def test_bands_shifted_by_fractions_of_a_pixel_are_the_shifted_wave() -> None:
    y, x = np.mgrid[:64, :64]

    def make_wave(down: float, right: float) -> Array:
        return np.asarray(np.sin(0.5 * (y - down)) + np.cos(0.7 * (x - right)), dtype=np.float32)

    data = np.stack([make_wave(0, 0)] * 2)
    shifted = shift_bands(data, np.ones((64, 64), dtype=bool), np.array([[0.3, 0.0], [0.5, -0.25]]))
    expected = np.stack([make_wave(0.3, 0), make_wave(0.5, -0.25)])
    np.testing.assert_allclose(shifted[:, 12:-12, 12:-12], expected[:, 12:-12, 12:-12], atol=0.02)


def test_first_and_last_band_are_separated_by_the_severity_and_the_middle_one_stays() -> None:
    spot = np.zeros((5, 40, 40), dtype=np.float32)
    spot[:, 20, 20] = 1
    spot = ndimage.gaussian_filter(spot, (0, 2, 2))
    shifted = degrade_cube("misregistration", Cube(spot), 4.0).data
    centers = np.array([ndimage.center_of_mass(np.clip(band, 1e-4, None) - 1e-4) for band in shifted])
    np.testing.assert_allclose(centers[2], 20, atol=0.02)
    assert np.hypot(*(centers[4] - centers[0])) == pytest.approx(4, abs=0.05)
    np.testing.assert_allclose(centers[3] - centers[2], (centers[4] - centers[0]) / 4, atol=0.02)


def test_shuffled_patches_are_the_same_patches_elsewhere() -> None:
    data = make_noise(2)
    corners = find_valid_patches(EVERYWHERE, 8).tolist()
    assert len(corners) == 25

    def cut_patches(images: Array) -> list[bytes]:
        return [images[:, y : y + 8, x : x + 8].tobytes() for y, x in corners]

    all_moved = cut_patches(degrade_cube("shuffled-patches", Cube(data), 100.0).data)
    assert sorted(all_moved) == sorted(cut_patches(data))
    assert sum(a == b for a, b in zip(all_moved, cut_patches(data), strict=True)) == 1  # the odd one
    shares = []
    for seed in range(200):
        shuffled = cut_patches(degrade_cube("shuffled-patches", Cube(data), 5.0, seed=seed).data)
        shares.append(np.mean([a != b for a, b in zip(shuffled, cut_patches(data), strict=True)]))
    assert np.mean(shares) == pytest.approx(0.05 * 24 / 25, abs=0.01)


def test_patches_shrink_in_small_cubes_and_tiny_cubes_are_refused() -> None:
    data = make_noise(2, 12)
    assert not np.array_equal(degrade_cube("shuffled-patches", Cube(data), 50.0).data, data)
    tiny = ArraySet(np.ones((1, 2, 6, 30)))
    assert find_degradation("shuffled-patches").explain_unmet_need(tiny) == "needs cubes of at least 8 px, found 6 x 30"


def draw_lines(widths: tuple[int, ...], *, turned: bool = False) -> tuple[Array, list[Array]]:
    """Return a bright image with dark lines of the given widths, and a mask of each."""
    image, masks = np.ones((80, 80), dtype=np.float32), []
    for index, width in enumerate(widths):
        mask = np.zeros((80, 80), dtype=bool)
        mask[:, 15 + 25 * index : 15 + 25 * index + width] = True
        mask = ndimage.rotate(mask.astype(float), 30, reshape=False, order=1) > 0.5 if turned else mask
        image[mask] = 0.5
        masks.append(mask)
    return image[None], masks


@pytest.mark.parametrize("turned", [False, True], ids=["upright", "turned"])
def test_dark_lines_up_to_the_requested_width_are_removed(turned: bool) -> None:
    image, (thin, wide) = draw_lines((2, 6), turned=turned)
    degraded = degrade_cube("small-vessels", Cube(image), 3.0).data
    remaining = degraded[0][wide & ~ndimage.binary_dilation(thin, iterations=4)]
    assert (degraded[0][thin] > 0.99).mean() > 0.8
    assert (remaining == 0.5).mean() > 0.9
    np.testing.assert_allclose(
        (degrade_cube("small-vessels", Cube(image), 8.0).data[0][wide] > 0.99).mean(), 1, atol=0.2
    )


def test_a_severity_below_one_pixel_fades_lines_of_one_pixel() -> None:
    image, (line,) = draw_lines((1,))
    faded = degrade_cube("small-vessels", Cube(image), 0.4).data
    np.testing.assert_allclose(faded[0][line], 0.7, atol=1e-6)
    np.testing.assert_array_equal(faded[0][~line], 1)


def test_noise_and_single_dark_pixels_are_no_lines() -> None:
    image = np.ones((1, 40, 40), dtype=np.float32)
    image[0, 20, 20] = 0
    assert not compute_dark_line_depth(image, EVERYWHERE, 3).any()
    rough, line = make_noise(1), make_noise(1)
    line[0, :, 20] -= 0.5
    filled = compute_dark_line_depth(line, EVERYWHERE, 1)[0]
    assert filled[:, 20].mean() > 0.25
    plain_closing = ndimage.grey_closing(rough[0], size=(2, 2)) - rough[0]
    assert compute_dark_line_depth(rough, EVERYWHERE, 1).mean() < 0.5 * plain_closing.mean()


def test_bright_lines_are_preserved() -> None:
    image, _ = draw_lines((2, 4))
    np.testing.assert_array_equal(degrade_cube("small-vessels", Cube(2 - image), 5.0).data, 2 - image)


@pytest.mark.parametrize("angle", np.pi * np.arange(8) / 8)
def test_segments_are_straight_connected_and_symmetric(angle: float) -> None:
    offsets = np.argwhere(make_line_element(9, angle)) - 4
    assert len(offsets) == 9 and np.array_equal(np.sort(-offsets, axis=0), np.sort(offsets, axis=0))
    across = offsets @ [np.cos(angle), -np.sin(angle)]
    assert np.abs(across).max() <= 0.71
