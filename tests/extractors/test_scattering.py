"""The default extractor: what it has to detect, and what must not change it."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from hseval.extractors.scattering import Scattering, ScatteringOptions
from hseval.extractors.spectral_windows import compute_interpolation_weights
from hseval.utils.errors import HsevalError

WAVELENGTHS = np.linspace(450.0, 900.0, 10)
SIZE, COUNT = 32, 40


def make_smooth_field(rng: np.random.Generator, size: int, slope: float) -> np.ndarray:
    """Return a random field (size, size) of unit standard deviation with spectrum k^-slope."""
    k = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    k[0, 0] = np.inf
    field = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(size, size))) * k**-slope, s=(size, size))
    return field / field.std()


def make_line(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return a thin soft line (size, size) at a random place and angle, depth 1."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    angle, offset = rng.uniform(0, np.pi), rng.uniform(-0.3, 0.3)
    return np.exp(-(((x * np.cos(angle) + y * np.sin(angle) - offset) * size / 0.7) ** 2))


def make_scene(index: int, size: int = SIZE, wavelengths: np.ndarray = WAVELENGTHS, lines: float = 1.0) -> np.ndarray:
    """Return one cube (band, size, size): two pigments in patches, thin lines of a third, sensor noise."""
    rng = np.random.default_rng([11, index])
    pigments = np.stack(
        [
            np.exp(-(wavelengths - 450) / 250),
            np.exp(-(((wavelengths - 560) / 45) ** 2)),
            np.exp(-(((wavelengths - 570) / 60) ** 2)) + 0.1,
        ]
    )
    amounts = np.exp(rng.normal(0, 0.2, 3))
    patches = [1 + 0.2 * make_smooth_field(rng, size, 1.4) for _ in range(2)]
    thin = lines * sum(make_line(rng, size) for _ in range(5))
    density = np.tensordot(pigments.T * amounts, np.stack([*patches, thin]), axes=1)
    return (0.6 * np.exp(-0.5 * density) + rng.normal(0, 0.003, density.shape)).astype(np.float32)


@functools.cache
def make_scenes(lines: float = 1.0, first: int = 0) -> np.ndarray:
    return np.stack([make_scene(first + i, lines=lines) for i in range(COUNT)])


def compute_features(
    cubes: np.ndarray, valid: np.ndarray | None = None, wavelengths: np.ndarray = WAVELENGTHS
) -> np.ndarray:
    valid = np.ones((len(cubes), *cubes.shape[2:]), dtype=bool) if valid is None else valid
    return Scattering()(cubes, wavelengths=wavelengths, masks={"fov": valid})


def make_round_field(size: int, *, stop: float = 1.5) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return (np.hypot(y, x) < size / 2) & (np.hypot(y, x) > stop)


def compute_distance(real: np.ndarray, generated: np.ndarray) -> float:
    """Return the squared Frechet distance of features in the real ones' standard deviations (by singular values)."""
    scale = np.maximum(real.std(axis=0), 0.01 * np.median(real.std(axis=0)))
    a, b = real / scale, generated / scale
    centered_real, centered_generated = (
        (features - features.mean(axis=0)) / np.sqrt(len(features) - 1) for features in (a, b)
    )
    overlap = np.linalg.svd(centered_real @ centered_generated.T, compute_uv=False).sum()
    shift = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
    return float(shift + (centered_real**2).sum() + (centered_generated**2).sum() - 2 * overlap)


# ---------------------------------------------------------------- what must not change it


def test_the_surround_changes_nothing_whatever_its_values() -> None:
    cubes, valid = make_scenes()[:3], np.repeat(make_round_field(SIZE)[None], 3, axis=0)
    alone = compute_features(np.where(valid[:, None], cubes, np.nan), valid)
    pad = ((0, 0), (5, 17), (9, 2))
    wide = np.pad(np.where(valid[:, None], cubes, 0), ((0, 0), *pad))
    assert np.array_equal(compute_features(wide, np.pad(valid, pad)), alone)
    wild = np.where(valid[:, None], cubes, 1e5).astype(np.float32)
    assert np.array_equal(compute_features(wild, valid), alone)


def test_the_rims_own_pixels_change_nothing() -> None:
    valid = np.repeat(make_round_field(SIZE, stop=0)[None], 2, axis=0)
    cubes = make_scenes()[:2].copy()
    before = compute_features(cubes, valid)
    cubes[:, :, 0] = 0  # rim pixels, half black: the first row of the disc
    np.testing.assert_array_equal(compute_features(cubes, valid), before)


def test_features_do_not_depend_on_batch_order_or_threads() -> None:
    cubes = make_scenes()[:5]
    together = compute_features(cubes)
    alone = np.concatenate([compute_features(cubes[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(alone, together, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(compute_features(cubes[::-1])[::-1], together, rtol=1e-5, atol=1e-5)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        np.testing.assert_allclose(compute_features(cubes), together, rtol=1e-5, atol=1e-5)
    finally:
        torch.set_num_threads(threads)


def test_the_number_of_features_depends_on_options_and_bands_alone() -> None:
    widths = set()
    for size in (16, 24, 64):
        for valid in (np.ones((1, size, size), dtype=bool), make_round_field(size)[None]):
            features = compute_features(make_scene(0, size)[None], valid)
            assert np.isfinite(features).all()
            widths.add(features.shape[1])
    assert len(widths) == 1


@pytest.mark.parametrize("bands", [1, 2, 3])
def test_few_bands_are_described_too(bands: int) -> None:
    assert np.isfinite(compute_features(make_scenes()[:2, :bands], wavelengths=WAVELENGTHS[:bands])).all()


def test_degenerate_cubes_give_finite_features() -> None:
    cube = make_scene(0)
    dead, single = cube.copy(), np.zeros_like(cube)
    dead[4] = 0
    single[:, 7, 9] = 1
    cubes = np.stack([dead, single, 0 * cube, 0 * cube + 0.3, -cube, cube + 1e4, cube * 1e-9, cube * 1e9])
    assert np.isfinite(compute_features(cubes)).all()


def test_one_valid_pixel_gives_finite_features_and_none_gives_nan() -> None:
    valid = np.zeros((2, SIZE, SIZE), dtype=bool)
    valid[0, 3, 4] = True
    features = compute_features(make_scenes()[:2], valid)
    assert np.isfinite(features[0]).all()
    assert np.isnan(features[1]).all()


def test_the_units_of_values_change_only_the_first_feature() -> None:
    cubes = make_scenes()[:4]
    before, after = compute_features(cubes), compute_features(1000 * cubes)
    np.testing.assert_allclose(after[:, 0] - before[:, 0], np.log(1000), rtol=1e-5)
    np.testing.assert_allclose(after[:, 1:], before[:, 1:], atol=2e-3)


def test_splitting_a_band_in_two_changes_little() -> None:
    cubes = make_scenes()[:16]
    doubled = np.insert(cubes, 5, cubes[:, 4], axis=1)
    wavelengths = np.insert(WAVELENGTHS, 5, WAVELENGTHS[4] + 0.01)
    options = ScatteringOptions(nodes=8)  # fewer than bands in both, so that the columns are the same
    single, split = (
        Scattering(options)(x, wavelengths=w, masks={"fov": np.ones((16, SIZE, SIZE), dtype=bool)})
        for x, w in ((cubes, WAVELENGTHS), (doubled, wavelengths))
    )
    assert np.abs(split - single).max() < 0.02 * single.std(axis=0).max()


def test_a_shifted_view_of_a_scene_is_far_nearer_than_another_scene() -> None:
    wide = np.stack([make_scene(i, 96) for i in range(6)])
    features, shifted = compute_features(wide[..., :80, :80]), compute_features(wide[..., 3:83, 5:85])
    scale = features.std(axis=0) + 1e-3
    shift_distance = np.linalg.norm((shifted - features) / scale, axis=1).mean()
    scene_distance = np.linalg.norm((features - np.roll(features, 1, axis=0)) / scale, axis=1).mean()
    assert shift_distance < 0.35 * scene_distance


def test_options_out_of_range_are_refused_by_name() -> None:
    with pytest.raises(HsevalError, match="scales = 9, expected 1 to 5"):
        ScatteringOptions(scales=9)


# ---------------------------------------------------------------- what it has to detect


def shift_spectra(cubes: np.ndarray, nm: float) -> np.ndarray:
    return np.einsum("tb,nbyx->ntyx", compute_interpolation_weights(WAVELENGTHS, WAVELENGTHS - nm), cubes).astype(
        np.float32
    )


def blur(cubes: np.ndarray, sigma: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(cubes, (0, 0, sigma, sigma), mode="reflect"))


def add_noise(cubes: np.ndarray, std: float) -> np.ndarray:
    return cubes + np.float32(std) * np.random.default_rng(5).normal(size=cubes.shape).astype(np.float32)


def swap_bands(cubes: np.ndarray, share: float) -> np.ndarray:
    changed = cubes.copy()
    some = slice(0, round(share * len(cubes)))
    changed[some, 3], changed[some, 4] = cubes[some, 4], cubes[some, 3]
    return changed


def misregister_band(cubes: np.ndarray, pixels: float) -> np.ndarray:
    from scipy.ndimage import shift

    changed = cubes.copy()
    changed[:, 4] = shift(cubes[:, 4], (0, 0, pixels), order=3, mode="nearest")
    return changed


def add_stripes(cubes: np.ndarray, gain: float) -> np.ndarray:
    columns = np.random.default_rng(6).normal(size=(len(cubes), cubes.shape[1], 1, SIZE))
    return (cubes * (1 + gain * columns)).astype(np.float32)


def fade_band(cubes: np.ndarray, share: float) -> np.ndarray:
    changed = cubes.copy()
    changed[:, 5] *= 1 - share
    return changed


def blend_blocks(cubes: np.ndarray, share: float) -> np.ndarray:
    means = cubes.reshape(*cubes.shape[:2], SIZE // 4, 4, SIZE // 4, 4).mean(axis=(3, 5))
    return (1 - share) * cubes + share * means.repeat(4, axis=2).repeat(4, axis=3)


SEVERITIES = {
    shift_spectra: (1, 2, 4, 8),
    blur: (0.4, 0.6, 1, 2),
    add_noise: (0.002, 0.004, 0.01, 0.03),
    swap_bands: (0.1, 0.25, 0.5, 1),
    misregister_band: (0.1, 0.2, 0.5, 1),
    add_stripes: (0.005, 0.01, 0.03, 0.1),
    fade_band: (0.02, 0.05, 0.2, 1),
    blend_blocks: (0.1, 0.2, 0.5, 1),
}


@functools.cache
def compute_real_features() -> np.ndarray:
    return compute_features(make_scenes(first=1000))


@pytest.mark.parametrize("degrade", SEVERITIES, ids=lambda function: function.__name__)
def test_the_distance_grows_with_every_severity(degrade) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    scenes, real = make_scenes(), compute_real_features()
    changed = [scenes, *(degrade(scenes, severity) for severity in SEVERITIES[degrade])]
    response = [compute_distance(real, compute_features(cubes)) for cubes in changed]
    assert all(np.diff(response) > 0), response


def test_the_distance_grows_as_thin_lines_are_lost() -> None:
    response = [
        compute_distance(compute_real_features(), compute_features(make_scenes(lines=share)))
        for share in (1.0, 0.9, 0.75, 0.5, 0.0)
    ]
    assert all(np.diff(response) > 0), response


def test_the_distance_grows_as_a_set_collapses() -> None:
    features = compute_features(make_scenes())
    response = [
        compute_distance(compute_real_features(), features[np.arange(COUNT) % count])
        for count in (COUNT, 30, 20, 10, 3)
    ]
    assert all(np.diff(response) > 0), response
