"""``band-covariance``: planted correlations, the distance computed by hand, and constant bands."""

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
from tests.helpers.described_sets import compare_sets, replace_cubes
from tests.helpers.sets import make_texture_set

Array = NDArray[Any]


def make_correlated_set(matrix: Any, *, n: int = 4, size: int = 32, seed: int = 0) -> ArraySet:
    """Return cubes whose pixels have exactly the correlations of ``matrix``."""
    root = np.linalg.cholesky(np.asarray(matrix, dtype=np.float64))
    cubes = []
    for noise in np.random.default_rng(seed).normal(size=(n, len(root), size * size)):
        centered = noise - noise.mean(axis=1, keepdims=True)
        white = np.linalg.solve(np.linalg.cholesky(centered @ centered.T / size**2), centered)
        cubes.append((root @ white).reshape(len(root), size, size))
    return ArraySet(5 + np.stack(cubes), wavelengths=500 + 10.0 * np.arange(len(root)))


def make_equal_correlations(r: float, bands: int = 3) -> Array:
    return np.full((bands, bands), r) + (1 - r) * np.eye(bands)


def compute_z(r: Any) -> Array:
    return np.arctanh((1 - CORRELATION_SHRINKAGE) * np.asarray(r, dtype=np.float64))


def test_band_covariance_fulfills_the_contract_of_metrics() -> None:
    check_metric(BandCovariance)


def test_correlations_are_those_of_the_pixels_and_0_for_a_constant_band() -> None:
    pixels = np.random.default_rng(1).normal(size=(4, 200)) + 0.5 * np.random.default_rng(2).normal(size=200)
    pixels[2] = 0.7
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = np.nan_to_num(np.corrcoef(pixels))[band_pair_indices(4)]
    correlations = compute_correlations(pixels.mean(axis=1), np.cov(pixels, bias=True)[np.triu_indices(4)])
    assert correlations == pytest.approx(expected, abs=1e-12)


def test_fishers_z_is_finite_and_its_inverse_exact() -> None:
    r = np.linspace(-1, 1, 21)
    assert inverse_fisher_z(fisher_z(r)) == pytest.approx(r)
    assert np.isfinite(fisher_z(r)).all()


def test_each_pair_counts_for_both_of_its_bands() -> None:
    assert compute_rms_by_band(np.array([3.0, 0.0, 4.0]), 3) == pytest.approx(np.sqrt(np.array([9, 25, 16]) / 2))


def test_a_known_change_of_correlation_gives_the_distance_by_hand() -> None:
    matrix = make_equal_correlations(0.5)
    matrix[0, 1] = matrix[1, 0] = 0.9
    parts = compare_sets(
        BandCovariance(), make_correlated_set(make_equal_correlations(0.5)), make_correlated_set(matrix, seed=1)
    )
    assert parts.value == pytest.approx((compute_z(0.9) - compute_z(0.5)) / np.sqrt(3), rel=1e-3)
    scores = parts.details["structures"]["fov"]
    assert scores["correlation"] == pytest.approx(0.4 / np.sqrt(3), rel=1e-3)
    assert scores["top_pair"]["bands"] == [500, 510]
    assert scores["top_pair"]["samples"] == pytest.approx(0.9, rel=1e-3)
    assert scores["neighbors"] == pytest.approx((compute_z(0.9) - compute_z(0.5)) / 2, rel=1e-3)
    assert scores["by_wavelength"][2] == pytest.approx(0, abs=1e-3)


def test_the_score_grows_with_the_change() -> None:
    real = make_correlated_set(make_equal_correlations(0.2))
    values = [
        compare_sets(BandCovariance(), real, make_correlated_set(make_equal_correlations(r), seed=1)).value
        for r in (0.2, 0.3, 0.5, 0.8, 0.99)
    ]
    assert values == sorted(values)
    assert values[0] == pytest.approx(0, abs=1e-4)


def test_gain_offset_flips_and_surround_change_nothing() -> None:
    real, generated = make_texture_set(8, seed=1), make_texture_set(8, seed=2)
    plain = compare_sets(BandCovariance(), real, generated).value
    gain = np.linspace(0.5, 2, 6)[:, None, None]
    room = ((0, 0), (4, 0), (7, 1))
    others = {
        "gain and offset by band": replace_cubes(generated, generated.cubes * gain + 0.3 * gain),
        "flip": replace_cubes(
            generated, generated.cubes[..., ::-1], **{k: m[..., ::-1] for k, m in generated.masks.items()}
        ),
        "surround": replace_cubes(
            generated,
            np.pad(generated.cubes, ((0, 0), *room)),
            **{k: np.pad(m, room) for k, m in generated.masks.items()},
        ),
    }
    for name, other in others.items():
        assert compare_sets(BandCovariance(), real, other).value == pytest.approx(plain, rel=1e-4), name


def test_flipping_one_band_is_detected_though_every_band_has_the_same_values() -> None:
    real = make_texture_set(8, seed=3, field=False)
    cubes = real.cubes.copy()
    cubes[:, 2] = cubes[:, 2, ::-1]
    parts = compare_sets(BandCovariance(), real, replace_cubes(real, cubes))
    assert parts.value > 10 * compare_sets(BandCovariance(), real, make_texture_set(8, seed=4, field=False)).value
    assert int(np.argmax(parts.details["structures"]["fov"]["by_wavelength"])) == 2


def test_a_dead_band_has_a_finite_score() -> None:
    real = make_texture_set(8, seed=5, field=False)
    cubes = real.cubes.copy()
    cubes[:, 3] = 0.4
    parts = compare_sets(BandCovariance(), real, replace_cubes(real, cubes))
    assert np.isfinite(parts.value)
    assert int(np.argmax(parts.details["structures"]["fov"]["by_wavelength"])) == 3
    both = compare_sets(BandCovariance(), replace_cubes(real, cubes), replace_cubes(real, cubes))
    assert both.value == 0


def test_structures_of_both_sets_are_scored_in_addition_to_the_field() -> None:
    parts = compare_sets(BandCovariance(), make_texture_set(8, seed=6), make_texture_set(8, seed=7))
    assert set(parts.details["structures"]) == {"fov", "bright", "dark"}
    assert parts.value == parts.details["structures"]["fov"]["value"]


def test_sets_without_correlations_are_not_computable() -> None:
    single_band = ArraySet(np.random.default_rng(0).random((4, 1, 8, 8)), wavelengths=[500.0])
    with pytest.raises(NotComputable, match="2 bands"):
        compare_sets(BandCovariance(), single_band, single_band)
    few_pixels = ArraySet(np.random.default_rng(0).random((4, 3, 2, 3)), wavelengths=np.arange(3.0))
    with pytest.raises(NotComputable, match="8 valid pixels"):
        compare_sets(BandCovariance(), few_pixels, few_pixels)
