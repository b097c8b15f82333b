"""``plausibility``: planted values are counted, spectra in the subspace leave nothing, noise is held against noise."""

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
from tests.helpers.described_sets import changed, compared
from tests.helpers.sets import texture_set

Array = NDArray[Any]


def unmixed(n: int, *, seed: int, noise: float = 0.002, size: int = 24) -> ArraySet:
    """Return cubes of 5 bands that are mixtures of two spectra, with a little noise."""
    rng = np.random.default_rng(seed)
    ends = np.array([[1.0, 0.8, 0.6, 0.5, 0.4], [0.2, 0.3, 0.5, 0.8, 1.0]])
    shares = rng.uniform(0.2, 1.0, (n, 2, size, size))
    cubes = np.einsum("npyx,pb->nbyx", shares, ends) + noise * rng.normal(size=(n, 5, size, size))
    return ArraySet(cubes, wavelengths=500 + 20.0 * np.arange(5))


def parts_of(real: ArraySet, generated: ArraySet) -> dict[str, Any]:
    found: dict[str, Any] = compared(Plausibility(), real, generated).details["parts"]
    return found


def test_it_keeps_the_contract_of_metrics() -> None:
    check_metric(Plausibility)


def test_shares_below_and_above_are_read_between_quantiles() -> None:
    at, values = np.array([0.0, 0.25, 0.75, 1.0]), np.array([[[0.0, 1.0, 3.0, 4.0]]])
    for threshold, expected in ((-1, 0), (0, 0), (0.5, 0.125), (1, 0.25), (2, 0.5), (4, 1), (9, 1)):
        assert share_below(values, at, np.array([threshold]))[0, 0] == pytest.approx(expected), threshold
        if threshold not in (0, 4):  # at the ends "below" and "above" both leave out the value itself
            assert share_above(values, at, np.array([threshold]))[0, 0] == pytest.approx(1 - expected), threshold
    assert share_above(values, at, np.array([4.0]))[0, 0] == 0


def test_equal_values_are_neither_below_nor_above_themselves() -> None:
    at, values = np.array([0.0, 0.5, 1.0]), np.full((1, 1, 3), 2.0)
    assert share_below(values, at, np.array([2.0]))[0, 0] == share_above(values, at, np.array([2.0]))[0, 0] == 0


def test_energy_moments_are_those_of_the_pixels() -> None:
    pixels = np.random.default_rng(0).normal(1, 0.5, (3, 400))
    cov = np.cov(pixels, bias=True)[np.triu_indices(3)]
    shares, mean_square = compute_energy_moments(pixels.mean(axis=1)[None], cov[None])
    expected = pixels @ pixels.T / 400
    assert unpack_symmetric(shares[0], 3) == pytest.approx(expected / np.trace(expected))
    assert mean_square == pytest.approx(np.square(pixels).mean())
    assert (compute_energy_moments(np.zeros((1, 3)), np.zeros((1, 6)))[0] == 0).all()


def test_the_subspace_holds_the_energy_asked_for_and_leaves_a_dimension() -> None:
    moment = np.diag([0.9, 0.09, 0.009, 0.001])
    for energy, rank in ((0.5, 1), (0.95, 2), (0.995, 3), (0.9999, 3)):
        projector, found = compute_residual_projector(moment, energy)
        assert found == rank
        left = compute_residual_energy(moment[np.triu_indices(4)][None], projector)[0]
        assert left == pytest.approx(1 - np.diag(moment)[:rank].sum())


def test_deviations_do_not_grow_out_of_cubes_that_are_all_alike() -> None:
    real = np.full((4, 1), 2.0)
    assert compute_z_scores(real=real, generated=np.array([[2.01]]), min_std=0.1)[0, 0] == pytest.approx(0.1)
    assert compute_z_scores(real=np.arange(4.0), generated=np.array([1.5]), min_std=0.1)[0] == 0


@pytest.mark.parametrize("share", [0.0004, 0.02, 0.3])
def test_planted_negative_values_are_counted(share: float) -> None:
    real = unmixed(8, seed=1, size=100)
    cubes = unmixed(8, seed=2, size=100).cubes.copy()
    planted = np.random.default_rng(3).permutation(10_000)[: round(share * 10_000)]
    cubes.reshape(8, 5, -1)[:, 2, planted] = -0.1
    found = parts_of(real, changed(real, cubes))["range"]
    within = 100 / 512 if share > 0.002 else 0.1
    assert found["negative"]["samples"] == pytest.approx(100 * share / 5, abs=within / 5)
    assert found["negative"]["samples"] > 0 == found["negative"]["reference"]
    usual = 0.2  # % of any cube's values may lie outside the range, by its definition
    assert found["by_wavelength"]["samples"][2] == pytest.approx(100 * share, abs=within + usual)
    assert int(np.argmax(found["by_wavelength"]["samples"])) == 2


def test_spectra_in_the_subspace_leave_no_residual_and_others_what_was_planted() -> None:
    real, generated = unmixed(6, seed=4, noise=0.0), unmixed(6, seed=5, noise=0.0)
    options = Plausibility.Options(energy=1 - 1e-6)
    found = compared(Plausibility(options), real, generated).details["parts"]["unmixing"]
    assert found["rank"] == 2
    assert found["residual"]["samples"] < 0.1  # % of the signal: what float32 rows leave
    ends = np.array([[1.0, 0.8, 0.6, 0.5, 0.4], [0.2, 0.3, 0.5, 0.8, 1.0]])
    alien = np.linalg.svd(ends)[2][4]  # a spectrum that no mixture of the two has any of
    energy = np.square(generated.cubes).sum(axis=1).mean()
    spoilt = changed(generated, generated.cubes + 0.1 * np.sqrt(energy) * alien[:, None, None])
    found = compared(Plausibility(options), real, spoilt).details["parts"]["unmixing"]
    assert found["residual"]["samples"] == pytest.approx(100 * 0.1 / np.sqrt(1.01), rel=0.02)
    assert found["by_wavelength"]["samples"] == pytest.approx(
        100 * 0.1 / np.sqrt(1.01) * np.sqrt(5) * np.abs(alien), rel=0.02
    )


def test_noise_is_held_against_the_references_band_by_band() -> None:
    real, generated = (texture_set(8, size=48, seed=seed) for seed in (6, 7))
    sigma = 0.02
    cubes = generated.cubes.copy()
    cubes[:, 3] += np.random.default_rng(8).normal(0, sigma, cubes[:, 3].shape)
    found = parts_of(real, changed(generated, cubes))["noise"]
    assert int(np.argmax(found["ratio_by_wavelength"])) == 3
    assert found["ratio_by_wavelength"][3] > 1.5
    others = np.delete(found["ratio_by_wavelength"], 3)
    assert others == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("kind", ["noise", "smooth", "negative", "alien", "bright"])
def test_the_headline_grows_with_the_severity(kind: str) -> None:
    real, base = unmixed(10, seed=9, noise=0.02), unmixed(10, seed=10, noise=0.02)
    clean = unmixed(10, seed=10, noise=0.0).cubes
    rng = np.random.default_rng(11)
    noise, where = rng.normal(size=base.cubes.shape), rng.random(base.cubes.shape)
    alien = np.array([1, -1, 1, -1, 1])[:, None, None]

    def spoilt(severity: float) -> Array:
        return {
            "noise": base.cubes + 0.1 * severity * noise,
            "smooth": clean + (1 - 0.9 * severity) * (base.cubes - clean),
            "negative": np.where(where < 0.5 * severity, -0.1, base.cubes),
            "alien": base.cubes + 0.3 * severity * alien,
            "bright": base.cubes * (1 + severity),
        }[kind]

    values = [
        compared(Plausibility(), real, changed(base, spoilt(severity))).value for severity in (0.05, 0.15, 0.4, 1.0)
    ]
    assert values == sorted(values)
    assert values[-1] > 2 * compared(Plausibility(), real, base).value


def test_real_cubes_are_about_one_deviation_from_real_cubes() -> None:
    value = compared(Plausibility(), texture_set(40, seed=12), texture_set(40, seed=13)).value
    assert 0.4 < value < 1.6


def test_a_surround_and_a_common_gain_change_nothing() -> None:
    real, generated = texture_set(8, seed=14), texture_set(8, seed=15)
    plain = compared(Plausibility(), real, generated).value
    room = ((0, 0), (4, 1), (0, 6))
    padded = changed(
        generated, np.pad(generated.cubes, ((0, 0), *room)), **{k: np.pad(m, room) for k, m in generated.masks.items()}
    )
    assert compared(Plausibility(), real, padded).value == pytest.approx(plain, rel=1e-5)
    gained = [changed(each, 40 * each.cubes) for each in (real, generated)]
    assert compared(Plausibility(), *gained).value == pytest.approx(plain, rel=1e-3)


def test_black_samples_are_scored_as_far_from_real() -> None:
    real = unmixed(8, seed=16)
    cubes = unmixed(8, seed=17).cubes.copy()
    cubes[:3] = 0
    parts = compared(Plausibility(), real, changed(real, cubes))
    assert parts.details["strange"] >= 3 / 8
    assert np.isfinite(parts.value)


def test_fields_too_small_for_noise_are_left_out_and_told() -> None:
    real, generated = unmixed(8, seed=18), unmixed(8, seed=19)
    field = np.ones((8, 24, 24), dtype=bool)
    field[0], field[0, 3:5, 3:9] = False, True
    parts = compared(Plausibility(), real, changed(generated, generated.cubes, fov=field))
    assert parts.details["too_small"] == {"reference": 0, "samples": 1}
    tiny = ArraySet(np.random.default_rng(0).random((4, 3, 2, 5)), wavelengths=np.arange(3.0))
    with pytest.raises(NotComputable, match="noise to measure, found 0"):
        compared(Plausibility(), tiny, tiny)


def test_what_says_nothing_is_refused() -> None:
    one = ArraySet(np.random.default_rng(0).random((4, 1, 8, 8)), wavelengths=[500.0])
    with pytest.raises(NotComputable, match="2 bands"):
        compared(Plausibility(), one, one)
    two = unmixed(2, seed=20)
    with pytest.raises(NotComputable, match="at least 3 reference cubes"):
        compared(Plausibility(), two, two)
    with pytest.raises(ValueError, match="energy is 1"):
        Plausibility(Plausibility.Options(energy=1.0))
    from hseval.core.plugin_manager import get_plugins

    with pytest.raises(HsevalError, match="metric 'plausibility': energy is 2"):
        get_plugins().build("metric", "plausibility", {"energy": "2"})
