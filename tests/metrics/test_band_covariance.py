"""``band-covariance``: planted correlations, the distance by hand, and bands that do not vary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hseval.core.cubes import ArraySet
from hseval.metrics.band_covariance import BandCovariance
from hseval.metrics.correlations import (
    CORRELATION_SHRINKAGE,
    band_pair_indices,
    compute_correlations,
    compute_rms_by_band,
    fisher_z,
    inverse_fisher_z,
)
from hseval.testing import check_metric
from hseval.utils.errors import NotComputable
from tests.helpers.described_sets import changed, compared
from tests.helpers.sets import texture_set

Array = NDArray[Any]


def correlated(matrix: Any, *, n: int = 4, size: int = 32, seed: int = 0) -> ArraySet:
    """Return cubes whose pixels have exactly the correlations of ``matrix``."""
    wanted = np.linalg.cholesky(np.asarray(matrix, dtype=np.float64))
    cubes = []
    for each in np.random.default_rng(seed).normal(size=(n, len(wanted), size * size)):
        away = each - each.mean(axis=1, keepdims=True)
        white = np.linalg.solve(np.linalg.cholesky(away @ away.T / size**2), away)
        cubes.append((wanted @ white).reshape(len(wanted), size, size))
    return ArraySet(5 + np.stack(cubes), wavelengths=500 + 10.0 * np.arange(len(wanted)))


def equal(r: float, bands: int = 3) -> Array:
    return np.full((bands, bands), r) + (1 - r) * np.eye(bands)


def z(r: Any) -> Array:
    return np.arctanh((1 - CORRELATION_SHRINKAGE) * np.asarray(r, dtype=np.float64))


def test_it_keeps_the_contract_of_metrics() -> None:
    check_metric(BandCovariance)


def test_correlations_are_those_of_the_pixels_and_0_where_a_band_does_not_vary() -> None:
    pixels = np.random.default_rng(1).normal(size=(4, 200)) + 0.5 * np.random.default_rng(2).normal(size=200)
    pixels[2] = 0.7
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = np.nan_to_num(np.corrcoef(pixels))[band_pair_indices(4)]
    found = compute_correlations(pixels.mean(axis=1), np.cov(pixels, bias=True)[np.triu_indices(4)])
    assert found == pytest.approx(expected, abs=1e-12)


def test_fisher_and_back_are_inverse_and_bounded() -> None:
    r = np.linspace(-1, 1, 21)
    assert inverse_fisher_z(fisher_z(r)) == pytest.approx(r)
    assert np.isfinite(fisher_z(r)).all()


def test_by_band_spreads_pairs_over_their_two_bands() -> None:
    assert compute_rms_by_band(np.array([3.0, 0.0, 4.0]), 3) == pytest.approx(np.sqrt(np.array([9, 25, 16]) / 2))


def test_a_known_change_of_correlation_gives_the_distance_by_hand() -> None:
    matrix = equal(0.5)
    matrix[0, 1] = matrix[1, 0] = 0.9
    parts = compared(BandCovariance(), correlated(equal(0.5)), correlated(matrix, seed=1))
    assert parts.value == pytest.approx((z(0.9) - z(0.5)) / np.sqrt(3), rel=1e-3)
    found = parts.details["structures"]["fov"]
    assert found["correlation"] == pytest.approx(0.4 / np.sqrt(3), rel=1e-3)
    assert found["top_pair"]["bands"] == [500, 510]
    assert found["top_pair"]["samples"] == pytest.approx(0.9, rel=1e-3)
    assert found["neighbours"] == pytest.approx((z(0.9) - z(0.5)) / 2, rel=1e-3)
    assert found["by_wavelength"][2] == pytest.approx(0, abs=1e-3)


def test_it_grows_with_the_change() -> None:
    real = correlated(equal(0.2))
    values = [compared(BandCovariance(), real, correlated(equal(r), seed=1)).value for r in (0.2, 0.3, 0.5, 0.8, 0.99)]
    assert values == sorted(values)
    assert values[0] == pytest.approx(0, abs=1e-4)


def test_gain_offset_turns_and_surround_change_nothing() -> None:
    real, generated = texture_set(8, seed=1), texture_set(8, seed=2)
    plain = compared(BandCovariance(), real, generated).value
    gain = np.linspace(0.5, 2, 6)[:, None, None]
    room = ((0, 0), (4, 0), (7, 1))
    others = {
        "gain and offset by band": changed(generated, generated.cubes * gain + 0.3 * gain),
        "flip": changed(generated, generated.cubes[..., ::-1], **{k: m[..., ::-1] for k, m in generated.masks.items()}),
        "surround": changed(
            generated,
            np.pad(generated.cubes, ((0, 0), *room)),
            **{k: np.pad(m, room) for k, m in generated.masks.items()},
        ),
    }
    for name, other in others.items():
        assert compared(BandCovariance(), real, other).value == pytest.approx(plain, rel=1e-4), name


def test_shuffling_one_band_is_seen_though_every_band_keeps_its_values() -> None:
    real = texture_set(8, seed=3, field=False)
    cubes = real.cubes.copy()
    cubes[:, 2] = cubes[:, 2, ::-1]
    parts = compared(BandCovariance(), real, changed(real, cubes))
    assert parts.value > 10 * compared(BandCovariance(), real, texture_set(8, seed=4, field=False)).value
    assert int(np.argmax(parts.details["structures"]["fov"]["by_wavelength"])) == 2


def test_a_dead_band_is_scored_and_gives_a_finite_number() -> None:
    real = texture_set(8, seed=5, field=False)
    cubes = real.cubes.copy()
    cubes[:, 3] = 0.4
    parts = compared(BandCovariance(), real, changed(real, cubes))
    assert np.isfinite(parts.value)
    assert int(np.argmax(parts.details["structures"]["fov"]["by_wavelength"])) == 3
    both = compared(BandCovariance(), changed(real, cubes), changed(real, cubes))
    assert both.value == 0


def test_structures_of_both_sides_are_scored_beside_the_field() -> None:
    parts = compared(BandCovariance(), texture_set(8, seed=6), texture_set(8, seed=7))
    assert set(parts.details["structures"]) == {"fov", "bright", "dark"}
    assert parts.value == parts.details["structures"]["fov"]["value"]


def test_what_has_no_correlations_is_not_computable() -> None:
    one = ArraySet(np.random.default_rng(0).random((4, 1, 8, 8)), wavelengths=[500.0])
    with pytest.raises(NotComputable, match="2 bands"):
        compared(BandCovariance(), one, one)
    few = ArraySet(np.random.default_rng(0).random((4, 3, 2, 3)), wavelengths=np.arange(3.0))
    with pytest.raises(NotComputable, match="8 valid pixels"):
        compared(BandCovariance(), few, few)
