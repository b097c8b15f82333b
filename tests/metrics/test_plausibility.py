"""``plausibility``: planted values, residuals of spectra and noise are measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hseval.core.cubes import ArraySet
from hseval.metrics.plausibility import Plausibility
from hseval.metrics.plausibility_numerics import (
    compute_energy_moments,
    compute_residual_energy,
    compute_residual_projector,
    compute_z_scores,
    share_above,
    share_below,
    unpack_symmetric,
)
from hseval.testing import check_metric
from hseval.utils.errors import HsevalError, NotComputable
from tests.helpers.described_sets import compare_sets, replace_cubes
from tests.helpers.sets import make_texture_set

Array = NDArray[Any]


def make_mixtures(n: int, *, seed: int, noise: float = 0.002, size: int = 24) -> ArraySet:
    """Return cubes of 5 bands that are mixtures of two spectra, with a little noise."""
    rng = np.random.default_rng(seed)
    ends = np.array([[1.0, 0.8, 0.6, 0.5, 0.4], [0.2, 0.3, 0.5, 0.8, 1.0]])
    shares = rng.uniform(0.2, 1.0, (n, 2, size, size))
    cubes = np.einsum("npyx,pb->nbyx", shares, ends) + noise * rng.normal(size=(n, 5, size, size))
    return ArraySet(cubes, wavelengths=500 + 20.0 * np.arange(5))


def compute_parts(real: ArraySet, generated: ArraySet) -> dict[str, Any]:
    parts: dict[str, Any] = compare_sets(Plausibility(), real, generated).details["parts"]
    return parts


def test_plausibility_fulfills_the_contract_of_metrics() -> None:
    check_metric(Plausibility)


def test_shares_below_and_above_are_interpolated_between_quantiles() -> None:
    probabilities, values = np.array([0.0, 0.25, 0.75, 1.0]), np.array([[[0.0, 1.0, 3.0, 4.0]]])
    for threshold, expected in ((-1, 0), (0, 0), (0.5, 0.125), (1, 0.25), (2, 0.5), (4, 1), (9, 1)):
        assert share_below(values, probabilities, np.array([threshold]))[0, 0] == pytest.approx(expected), threshold
        if threshold not in (0, 4):  # at the ends "below" and "above" both exclude the value itself
            assert share_above(values, probabilities, np.array([threshold]))[0, 0] == pytest.approx(1 - expected), (
                threshold
            )
    assert share_above(values, probabilities, np.array([4.0]))[0, 0] == 0


def test_equal_values_are_neither_below_nor_above_themselves() -> None:
    probabilities, values = np.array([0.0, 0.5, 1.0]), np.full((1, 1, 3), 2.0)
    assert (
        share_below(values, probabilities, np.array([2.0]))[0, 0]
        == share_above(values, probabilities, np.array([2.0]))[0, 0]
        == 0
    )


def test_energy_moments_are_those_of_the_pixels() -> None:
    pixels = np.random.default_rng(0).normal(1, 0.5, (3, 400))
    cov = np.cov(pixels, bias=True)[np.triu_indices(3)]
    shares, mean_square = compute_energy_moments(pixels.mean(axis=1)[None], cov[None])
    expected = pixels @ pixels.T / 400
    assert unpack_symmetric(shares[0], 3) == pytest.approx(expected / np.trace(expected))
    assert mean_square == pytest.approx(np.square(pixels).mean())
    assert (compute_energy_moments(np.zeros((1, 3)), np.zeros((1, 6)))[0] == 0).all()


def test_the_subspace_contains_the_requested_energy_and_never_all_dimensions() -> None:
    moment = np.diag([0.9, 0.09, 0.009, 0.001])
    for energy, expected_rank in ((0.5, 1), (0.95, 2), (0.995, 3), (0.9999, 3)):
        projector, rank = compute_residual_projector(moment, energy)
        assert rank == expected_rank
        residual = compute_residual_energy(moment[np.triu_indices(4)][None], projector)[0]
        assert residual == pytest.approx(1 - np.diag(moment)[:expected_rank].sum())


def test_z_scores_of_nearly_equal_cubes_are_bounded() -> None:
    real = np.full((4, 1), 2.0)
    assert compute_z_scores(real=real, generated=np.array([[2.01]]), min_std=0.1)[0, 0] == pytest.approx(0.1)
    assert compute_z_scores(real=np.arange(4.0), generated=np.array([1.5]), min_std=0.1)[0] == 0


@pytest.mark.parametrize("share", [0.0004, 0.02, 0.3])
def test_planted_negative_values_are_counted(share: float) -> None:
    real = make_mixtures(8, seed=1, size=100)
    cubes = make_mixtures(8, seed=2, size=100).cubes.copy()
    planted = np.random.default_rng(3).permutation(10_000)[: round(share * 10_000)]
    cubes.reshape(8, 5, -1)[:, 2, planted] = -0.1
    scores = compute_parts(real, replace_cubes(real, cubes))["range"]
    tolerance = 100 / 512 if share > 0.002 else 0.1
    assert scores["negative"]["samples"] == pytest.approx(100 * share / 5, abs=tolerance / 5)
    assert scores["negative"]["samples"] > 0 == scores["negative"]["reference"]
    expected_outside = 0.2  # % of a cube's values lie outside the range by definition
    assert scores["by_wavelength"]["samples"][2] == pytest.approx(100 * share, abs=tolerance + expected_outside)
    assert int(np.argmax(scores["by_wavelength"]["samples"])) == 2


def test_the_residual_is_0_in_the_subspace_and_the_planted_amount_outside() -> None:
    real, generated = make_mixtures(6, seed=4, noise=0.0), make_mixtures(6, seed=5, noise=0.0)
    options = Plausibility.Options(energy=1 - 1e-6)
    scores = compare_sets(Plausibility(options), real, generated).details["parts"]["unmixing"]
    assert scores["rank"] == 2
    assert scores["residual"]["samples"] < 0.1  # % of the signal: rounding of float32 features
    ends = np.array([[1.0, 0.8, 0.6, 0.5, 0.4], [0.2, 0.3, 0.5, 0.8, 1.0]])
    orthogonal = np.linalg.svd(ends)[2][4]  # a spectrum orthogonal to every mixture of the two
    energy = np.square(generated.cubes).sum(axis=1).mean()
    degraded = replace_cubes(generated, generated.cubes + 0.1 * np.sqrt(energy) * orthogonal[:, None, None])
    scores = compare_sets(Plausibility(options), real, degraded).details["parts"]["unmixing"]
    assert scores["residual"]["samples"] == pytest.approx(100 * 0.1 / np.sqrt(1.01), rel=0.02)
    assert scores["by_wavelength"]["samples"] == pytest.approx(
        100 * 0.1 / np.sqrt(1.01) * np.sqrt(5) * np.abs(orthogonal), rel=0.02
    )


def test_noise_is_compared_with_the_reference_band_by_band() -> None:
    real, generated = (make_texture_set(8, size=48, seed=seed) for seed in (6, 7))
    sigma = 0.02
    cubes = generated.cubes.copy()
    cubes[:, 3] += np.random.default_rng(8).normal(0, sigma, cubes[:, 3].shape)
    scores = compute_parts(real, replace_cubes(generated, cubes))["noise"]
    assert int(np.argmax(scores["ratio_by_wavelength"])) == 3
    assert scores["ratio_by_wavelength"][3] > 1.5
    others = np.delete(scores["ratio_by_wavelength"], 3)
    assert others == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("kind", ["noise", "smooth", "negative", "alien", "bright"])
def test_the_headline_grows_with_the_severity(kind: str) -> None:
    real, base = make_mixtures(10, seed=9, noise=0.02), make_mixtures(10, seed=10, noise=0.02)
    clean = make_mixtures(10, seed=10, noise=0.0).cubes
    rng = np.random.default_rng(11)
    noise, uniform = rng.normal(size=base.cubes.shape), rng.random(base.cubes.shape)
    alternating = np.array([1, -1, 1, -1, 1])[:, None, None]

    def degrade(severity: float) -> Array:
        return {
            "noise": base.cubes + 0.1 * severity * noise,
            "smooth": clean + (1 - 0.9 * severity) * (base.cubes - clean),
            "negative": np.where(uniform < 0.5 * severity, -0.1, base.cubes),
            "alien": base.cubes + 0.3 * severity * alternating,
            "bright": base.cubes * (1 + severity),
        }[kind]

    values = [
        compare_sets(Plausibility(), real, replace_cubes(base, degrade(severity))).value
        for severity in (0.05, 0.15, 0.4, 1.0)
    ]
    assert values == sorted(values)
    assert values[-1] > 2 * compare_sets(Plausibility(), real, base).value


def test_real_cubes_are_about_one_deviation_from_real_cubes() -> None:
    value = compare_sets(Plausibility(), make_texture_set(40, seed=12), make_texture_set(40, seed=13)).value
    assert 0.4 < value < 1.6


def test_a_surround_and_a_common_gain_change_nothing() -> None:
    real, generated = make_texture_set(8, seed=14), make_texture_set(8, seed=15)
    plain = compare_sets(Plausibility(), real, generated).value
    room = ((0, 0), (4, 1), (0, 6))
    padded = replace_cubes(
        generated, np.pad(generated.cubes, ((0, 0), *room)), **{k: np.pad(m, room) for k, m in generated.masks.items()}
    )
    assert compare_sets(Plausibility(), real, padded).value == pytest.approx(plain, rel=1e-5)
    scaled = [replace_cubes(cube_set, 40 * cube_set.cubes) for cube_set in (real, generated)]
    assert compare_sets(Plausibility(), *scaled).value == pytest.approx(plain, rel=1e-3)


def test_black_samples_count_as_outliers() -> None:
    real = make_mixtures(8, seed=16)
    cubes = make_mixtures(8, seed=17).cubes.copy()
    cubes[:3] = 0
    parts = compare_sets(Plausibility(), real, replace_cubes(real, cubes))
    assert parts.details["strange"] in (3 / 8, 4 / 8)  # of the samples: the black ones, and perhaps one more
    assert np.isfinite(parts.value)


def test_fields_too_small_for_noise_are_left_out_and_counted() -> None:
    real, generated = make_mixtures(8, seed=18), make_mixtures(8, seed=19)
    field = np.ones((8, 24, 24), dtype=bool)
    field[0], field[0, 3:5, 3:9] = False, True
    parts = compare_sets(Plausibility(), real, replace_cubes(generated, generated.cubes, fov=field))
    assert parts.details["too_small"] == {"reference": 0, "samples": 1}
    tiny = ArraySet(np.random.default_rng(0).random((4, 3, 2, 5)), wavelengths=np.arange(3.0))
    with pytest.raises(NotComputable, match="noise to measure, found 0"):
        compare_sets(Plausibility(), tiny, tiny)


def test_one_band_few_cubes_and_invalid_options_are_refused() -> None:
    single_band = ArraySet(np.random.default_rng(0).random((4, 1, 8, 8)), wavelengths=[500.0])
    with pytest.raises(NotComputable, match="2 bands"):
        compare_sets(Plausibility(), single_band, single_band)
    two_cubes = make_mixtures(2, seed=20)
    with pytest.raises(NotComputable, match="at least 3 reference cubes"):
        compare_sets(Plausibility(), two_cubes, two_cubes)
    with pytest.raises(ValueError, match="energy is 1"):
        Plausibility(Plausibility.Options(energy=1.0))
    from hseval.core.plugin_manager import get_plugins

    with pytest.raises(HsevalError, match="metric 'plausibility': energy is 2"):
        get_plugins().build("metric", "plausibility", {"energy": "2"})
