"""``spectral-angle``: known angles, known spreads, and what a spectrum of norm 0 does."""

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
from tests.helpers.described_sets import changed, compared
from tests.helpers.sets import texture_set

Array = NDArray[Any]


def flat(*spectra: Any, size: int = 4) -> ArraySet:
    """Return cubes that hold one spectrum each, in a field that is all valid."""
    values = np.asarray(spectra, dtype=np.float64)
    return ArraySet(
        np.broadcast_to(values[:, :, None, None], (*values.shape, size, size)), wavelengths=np.arange(values.shape[1])
    )


def test_it_keeps_the_contract_of_metrics() -> None:
    check_metric(SpectralAngle)


@pytest.mark.parametrize("degrees", [0.0, 1e-5, 1.0, 45.0, 90.0, 179.9, 180.0])
def test_angles_are_exact_however_small_or_large(degrees: float) -> None:
    turned = [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]
    assert float(spectral_angle(np.array([3.0, 0.0]), 7 * np.array(turned))) == pytest.approx(
        degrees, rel=1e-9, abs=1e-12
    )


def test_a_spectrum_of_norm_0_has_no_angle_and_spoils_no_other() -> None:
    found = spectral_angle(np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([1.0, 1.0]))
    assert found[0] == pytest.approx(45)
    assert np.isnan(found[1])
    assert np.isnan(normalize_spectra(np.zeros(3))).all()


def test_the_variance_across_a_spectrum_is_that_of_pixels_less_their_part_along_it() -> None:
    pixels = np.random.default_rng(0).normal(2.0, [[0.3], [0.1], [0.7]], (3, 500))
    mean, cov = pixels.mean(axis=1), np.cov(pixels, bias=True)
    direction = mean / np.linalg.norm(mean)
    away = pixels - mean[:, None]
    rest = away - direction[:, None] * (direction @ away)
    assert float(orthogonal_variance(mean, cov[np.triu_indices(3)])) == pytest.approx(
        np.square(rest).sum(axis=0).mean()
    )


def test_the_headline_is_the_angle_between_mean_spectra() -> None:
    real = flat([1, 0, 0], [1, 0, 0], [1, 0, 0])
    generated = flat([1, 1, 0], [2, 2, 0], [0.5, 0.5, 0])
    parts = compared(SpectralAngle(), real, generated)
    assert parts.value == pytest.approx(45, abs=1e-5)
    found = parts.details["structures"]["fov"]
    assert found["turned"] == pytest.approx(np.degrees([math.sqrt(0.5) - 1, math.sqrt(0.5), 0]), abs=1e-5)
    assert found["by_wavelength"] == pytest.approx(np.abs(found["turned"]))
    assert parts.details["caveat"].startswith("no structure is on both sides")


def test_structures_weigh_the_same_however_large_they_are() -> None:
    cubes, small = np.ones((4, 2, 8, 8)), np.zeros((4, 8, 8), dtype=bool)
    small[:, 0, 0] = True
    masks = {"small": small, "large": ~small}
    real = ArraySet(cubes, wavelengths=np.arange(2.0), masks=masks)
    cubes = cubes.copy()
    cubes[:, 0, 0, 0] = 0  # 45 degrees off in one pixel
    parts = compared(SpectralAngle(), real, ArraySet(cubes, wavelengths=np.arange(2.0), masks=masks))
    assert parts.details["structures"]["small"]["value"] == pytest.approx(45)
    assert parts.value == pytest.approx(22.5)


def test_the_spread_within_cubes_is_the_planted_angle() -> None:
    cubes = np.ones((3, 2, 4, 4))
    cubes[:, 0, ::2], cubes[:, 1, ::2] = 1.1, 0.9  # across the mean by 0.1 sqrt 2, whose norm is sqrt 2
    cubes[:, 0, 1::2], cubes[:, 1, 1::2] = 0.9, 1.1
    spread = ArraySet(cubes, wavelengths=np.arange(2.0))
    found = compared(SpectralAngle(), spread, spread).details["structures"]["fov"]
    assert found["within"]["reference"] == pytest.approx(math.degrees(math.atan(0.1)), rel=1e-5)
    assert found["within_ratio"] == pytest.approx(1)
    assert found["between"]["samples"] == pytest.approx(0, abs=1e-5)


def test_the_spread_between_cubes_is_that_of_their_means() -> None:
    tilted = [[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in (43.0, 45.0, 47.0)]
    real, generated = flat(*tilted), flat([1, 1], [1, 1], [1, 1])
    parts = compared(SpectralAngle(), real, generated)
    found = parts.details["structures"]["fov"]
    assert found["between"]["reference"] == pytest.approx(math.sqrt(8 / 3), rel=1e-4)
    assert found["between"]["samples"] == pytest.approx(0, abs=1e-5)
    assert parts.value == pytest.approx(0, abs=1e-5)


def test_gain_turns_and_a_larger_surround_change_nothing() -> None:
    real, generated = texture_set(8, seed=1), texture_set(8, seed=2)
    plain = compared(SpectralAngle(), real, generated).value
    room = ((0, 0), (5, 3), (2, 9))
    others = {
        "gain": changed(generated, 3.5 * generated.cubes),
        "flip": changed(generated, generated.cubes[..., ::-1], **{k: m[..., ::-1] for k, m in generated.masks.items()}),
        "turn": changed(
            generated,
            np.rot90(generated.cubes, axes=(2, 3)),
            **{k: np.rot90(m, axes=(1, 2)) for k, m in generated.masks.items()},
        ),
        "surround": changed(
            generated,
            np.pad(generated.cubes, ((0, 0), *room)),
            **{k: np.pad(m, room) for k, m in generated.masks.items()},
        ),
    }
    for name, other in others.items():
        assert compared(SpectralAngle(), real, other).value == pytest.approx(plain, rel=1e-5), name


def test_it_grows_with_the_tilt_of_the_spectra() -> None:
    real = texture_set(8, seed=3)
    tilt = np.linspace(-1, 1, 6)[:, None, None]
    values = [
        compared(SpectralAngle(), real, changed(real, real.cubes * (1 + severity * tilt))).value
        for severity in (0, 0.01, 0.03, 0.1, 0.3)
    ]
    assert values == sorted(values)
    assert values[0] == pytest.approx(0, abs=1e-5)


def test_cubes_that_are_black_in_a_structure_are_left_out_and_counted() -> None:
    real = flat([1, 0], [1, 0], [1, 0], [1, 0])
    generated = flat([1, 1], [0, 0], [1, 1], [1, 1])
    parts = compared(SpectralAngle(), real, generated)
    assert parts.value == pytest.approx(45, abs=1e-5)
    assert parts.details["zero_norm"] == {"reference": 0, "samples": 1}
    assert parts.details["structures"]["fov"]["cubes"] == {"reference": 4, "samples": 3}


def test_what_has_no_angle_is_not_computable() -> None:
    with pytest.raises(NotComputable, match="2 bands"):
        compared(SpectralAngle(), flat([1], [2]), flat([1], [2]))
    with pytest.raises(NotComputable, match="no pixel in any cube of the samples"):
        compared(SpectralAngle(), flat([1, 1], [1, 2]), flat([0, 0], [0, 0]))
    with pytest.raises(NotComputable, match="norm 0"):
        compared(SpectralAngle(), flat([1, 1], [1, 2]), flat([1, -1], [-1, 1]))
