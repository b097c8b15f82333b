"""``spectral-angle``: known angles, known scatter, and spectra of norm 0."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hseval.core.cubes import ArraySet
from hseval.metrics.angles import normalize_spectra, orthogonal_variance, spectral_angle
from hseval.metrics.spectral_angle import SpectralAngle
from hseval.testing import check_metric
from hseval.utils.errors import NotComputable
from tests.helpers.described_sets import compare_sets, replace_cubes
from tests.helpers.sets import make_texture_set

Array = NDArray[Any]


def make_uniform_set(*spectra: Any, size: int = 4) -> ArraySet:
    """Return cubes of one spectrum each, with all pixels valid."""
    values = np.asarray(spectra, dtype=np.float64)
    return ArraySet(
        np.broadcast_to(values[:, :, None, None], (*values.shape, size, size)), wavelengths=np.arange(values.shape[1])
    )


def test_spectral_angle_fulfills_the_contract_of_metrics() -> None:
    check_metric(SpectralAngle)


@pytest.mark.parametrize("degrees", [0.0, 1e-5, 1.0, 45.0, 90.0, 179.9, 180.0])
def test_angles_are_exact_however_small_or_large(degrees: float) -> None:
    rotated = [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]
    assert float(spectral_angle(np.array([3.0, 0.0]), 7 * np.array(rotated))) == pytest.approx(
        degrees, rel=1e-9, abs=1e-12
    )


def test_a_spectrum_of_norm_0_has_no_angle_and_leaves_others_unchanged() -> None:
    angles = spectral_angle(np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([1.0, 1.0]))
    assert angles[0] == pytest.approx(45)
    assert np.isnan(angles[1])
    assert np.isnan(normalize_spectra(np.zeros(3))).all()


def test_the_orthogonal_variance_is_that_of_pixels_minus_their_projection_on_the_mean() -> None:
    pixels = np.random.default_rng(0).normal(2.0, [[0.3], [0.1], [0.7]], (3, 500))
    mean, cov = pixels.mean(axis=1), np.cov(pixels, bias=True)
    direction = mean / np.linalg.norm(mean)
    deviations = pixels - mean[:, None]
    orthogonal = deviations - direction[:, None] * (direction @ deviations)
    assert float(orthogonal_variance(mean, cov[np.triu_indices(3)])) == pytest.approx(
        np.square(orthogonal).sum(axis=0).mean()
    )


def test_the_headline_is_the_angle_between_mean_spectra() -> None:
    real = make_uniform_set([1, 0, 0], [1, 0, 0], [1, 0, 0])
    generated = make_uniform_set([1, 1, 0], [2, 2, 0], [0.5, 0.5, 0])
    parts = compare_sets(SpectralAngle(), real, generated)
    assert parts.value == pytest.approx(45, abs=1e-5)
    scores = parts.details["structures"]["fov"]
    assert scores["turned"] == pytest.approx(np.degrees([math.sqrt(0.5) - 1, math.sqrt(0.5), 0]), abs=1e-5)
    assert scores["by_wavelength"] == pytest.approx(np.abs(scores["turned"]))
    assert parts.details["caveat"].startswith("no structure is in both sets")


def test_structures_have_equal_weight_whatever_their_size() -> None:
    cubes, small = np.ones((4, 2, 8, 8)), np.zeros((4, 8, 8), dtype=bool)
    small[:, 0, 0] = True
    masks = {"small": small, "large": ~small}
    real = ArraySet(cubes, wavelengths=np.arange(2.0), masks=masks)
    cubes = cubes.copy()
    cubes[:, 0, 0, 0] = 0  # 45 degrees off in one pixel
    parts = compare_sets(SpectralAngle(), real, ArraySet(cubes, wavelengths=np.arange(2.0), masks=masks))
    assert parts.details["structures"]["small"]["value"] == pytest.approx(45)
    assert parts.value == pytest.approx(22.5)


def test_the_scatter_within_cubes_is_the_planted_angle() -> None:
    cubes = np.ones((3, 2, 4, 4))
    cubes[:, 0, ::2], cubes[:, 1, ::2] = 1.1, 0.9  # orthogonal to the mean by 0.1 sqrt 2; its norm is sqrt 2
    cubes[:, 0, 1::2], cubes[:, 1, 1::2] = 0.9, 1.1
    scattered = ArraySet(cubes, wavelengths=np.arange(2.0))
    scores = compare_sets(SpectralAngle(), scattered, scattered).details["structures"]["fov"]
    assert scores["within"]["reference"] == pytest.approx(math.degrees(math.atan(0.1)), rel=1e-5)
    assert scores["within_ratio"] == pytest.approx(1)
    assert scores["between"]["samples"] == pytest.approx(0, abs=1e-5)


def test_the_scatter_between_cubes_is_that_of_their_means() -> None:
    tilted = [[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in (43.0, 45.0, 47.0)]
    real, generated = make_uniform_set(*tilted), make_uniform_set([1, 1], [1, 1], [1, 1])
    parts = compare_sets(SpectralAngle(), real, generated)
    scores = parts.details["structures"]["fov"]
    assert scores["between"]["reference"] == pytest.approx(math.sqrt(8 / 3), rel=1e-4)
    assert scores["between"]["samples"] == pytest.approx(0, abs=1e-5)
    assert parts.value == pytest.approx(0, abs=1e-5)


def test_gain_rotations_and_a_larger_surround_change_nothing() -> None:
    real, generated = make_texture_set(8, seed=1), make_texture_set(8, seed=2)
    plain = compare_sets(SpectralAngle(), real, generated).value
    room = ((0, 0), (5, 3), (2, 9))
    others = {
        "gain": replace_cubes(generated, 3.5 * generated.cubes),
        "flip": replace_cubes(
            generated, generated.cubes[..., ::-1], **{k: m[..., ::-1] for k, m in generated.masks.items()}
        ),
        "turn": replace_cubes(
            generated,
            np.rot90(generated.cubes, axes=(2, 3)),
            **{k: np.rot90(m, axes=(1, 2)) for k, m in generated.masks.items()},
        ),
        "surround": replace_cubes(
            generated,
            np.pad(generated.cubes, ((0, 0), *room)),
            **{k: np.pad(m, room) for k, m in generated.masks.items()},
        ),
    }
    for name, other in others.items():
        assert compare_sets(SpectralAngle(), real, other).value == pytest.approx(plain, rel=1e-5), name


def test_the_score_grows_with_the_tilt_of_the_spectra() -> None:
    real = make_texture_set(8, seed=3)
    tilt = np.linspace(-1, 1, 6)[:, None, None]
    values = [
        compare_sets(SpectralAngle(), real, replace_cubes(real, real.cubes * (1 + severity * tilt))).value
        for severity in (0, 0.01, 0.03, 0.1, 0.3)
    ]
    assert values == sorted(values)
    assert values[0] == pytest.approx(0, abs=1e-5)


def test_cubes_that_are_black_in_a_structure_are_left_out_and_counted() -> None:
    real = make_uniform_set([1, 0], [1, 0], [1, 0], [1, 0])
    generated = make_uniform_set([1, 1], [0, 0], [1, 1], [1, 1])
    parts = compare_sets(SpectralAngle(), real, generated)
    assert parts.value == pytest.approx(45, abs=1e-5)
    assert parts.details["zero_norm"] == {"reference": 0, "samples": 1}
    assert parts.details["structures"]["fov"]["cubes"] == {"reference": 4, "samples": 3}


def test_sets_without_an_angle_are_not_computable() -> None:
    with pytest.raises(NotComputable, match="2 bands"):
        compare_sets(SpectralAngle(), make_uniform_set([1], [2]), make_uniform_set([1], [2]))
    with pytest.raises(NotComputable, match="no pixel in any cube of the samples"):
        compare_sets(SpectralAngle(), make_uniform_set([1, 1], [1, 2]), make_uniform_set([0, 0], [0, 0]))
    with pytest.raises(NotComputable, match="norm 0"):
        compare_sets(SpectralAngle(), make_uniform_set([1, 1], [1, 2]), make_uniform_set([1, -1], [-1, 1]))


def test_the_ratio_of_scatters_is_the_samples_by_the_reference_s() -> None:
    cubes = np.ones((3, 2, 4, 4))
    cubes[:, 0, ::2], cubes[:, 1, ::2] = 1.1, 0.9
    cubes[:, 0, 1::2], cubes[:, 1, 1::2] = 0.9, 1.1
    real, wider = (ArraySet(1 + gain * (cubes - 1), wavelengths=np.arange(2.0)) for gain in (1, 3))
    scores = compare_sets(SpectralAngle(), real, wider).details["structures"]["fov"]
    assert scores["within_ratio"] == pytest.approx(math.atan(0.3) / math.atan(0.1), rel=1e-5)
