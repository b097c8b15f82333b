"""``kid``: torch-fidelity as an oracle, invariances, and the inputs that have no score."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

from hseval.core.feature_table import FeatureTable
from hseval.core.protocols import Needs, ScoreParts
from hseval.metrics.kid import Kid
from hseval.metrics.polynomial_mmd import polynomial_mmd
from hseval.metrics.standardized_features import fit_scale, standardize
from hseval.testing import check_metric
from hseval.utils.errors import HsevalError, NotComputable

Array = NDArray[Any]


def make_features(n: int, d: int = 12, *, seed: int = 0, scale: float = 1.0, mean: float = 0.0) -> Array:
    return np.random.default_rng(seed).normal(size=(n, d)) * scale + mean


def make_table(values: Array, extractor: str = "scattering") -> FeatureTable:
    names = np.array([f"cube-{i}" for i in range(len(values))])
    hashes = np.array([str(hash(row.tobytes())) for row in values])
    return FeatureTable({extractor: np.asarray(values, dtype=np.float32)}, names, hashes, names, np.arange(4.0))


def compare(real: FeatureTable, generated: FeatureTable, **options: Any) -> ScoreParts:
    return Kid(Kid.Options(**options)).compare(real=real, generated=generated, rng=np.random.default_rng(0))


def compute_by_torch_fidelity(real: Array, generated: Array) -> float:
    """Return KID over a single subset of all features, which does not depend on the random draw."""
    options = {"kid_subsets": 1, "kid_subset_size": len(real), "verbose": False, "rng_seed": 0}
    metrics = kid_features_to_metric(torch.from_numpy(real), torch.from_numpy(generated), **options)
    return float(metrics[KEY_METRIC_KID_MEAN])


def test_kid_fulfills_the_contract_of_metrics() -> None:
    check_metric(Kid)


@pytest.mark.parametrize("seed", range(3))
def test_the_estimate_is_that_of_torch_fidelity(seed: int) -> None:
    real, generated = make_features(80, 30, seed=seed), make_features(80, 30, seed=9, scale=1.3, mean=0.2)
    assert polynomial_mmd(real=real, generated=generated).squared_mmd == pytest.approx(
        compute_by_torch_fidelity(real, generated), rel=1e-10
    )


def test_the_metric_is_torch_fidelitys_on_features_standardized_by_the_reference() -> None:
    real, generated = make_table(make_features(60)), make_table(make_features(60, seed=1, scale=1.5, mean=0.3))
    a, b = (table["scattering"].astype(np.float64) for table in (real, generated))
    scale = fit_scale(a)
    expected = compute_by_torch_fidelity(standardize(a, scale), standardize(b, scale))
    assert compare(real, generated).value == pytest.approx(expected, rel=1e-10)


def test_sets_of_different_size_follow_the_definition_pair_by_pair() -> None:
    real, generated = make_features(5, 3), make_features(7, 3, seed=1)

    def compute_kernel(x: Array, y: Array) -> float:
        return float((x @ y / 3 + 1) ** 3)

    within = [
        np.mean([compute_kernel(x, y) for x, y in itertools.permutations(features, 2)])
        for features in (real, generated)
    ]
    across = np.mean([compute_kernel(x, y) for x in real for y in generated])
    terms = polynomial_mmd(real=real, generated=generated)
    assert terms == pytest.approx((*within, across))
    assert terms.squared_mmd == pytest.approx(sum(within) - 2 * across)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real, generated = make_features(50), make_features(41, seed=1)
    whole = polynomial_mmd(real=real, generated=generated)
    monkeypatch.setattr("hseval.metrics.polynomial_mmd.BLOCK_ROWS", 7)
    assert polynomial_mmd(real=real, generated=generated) == pytest.approx(whole, rel=1e-12)


def test_the_estimate_is_unbiased_for_small_samples() -> None:
    pairs = [(make_features(6, 4, seed=2 * i), make_features(9, 4, seed=2 * i + 1)) for i in range(400)]
    estimates = [polynomial_mmd(real=real, generated=generated).squared_mmd for real, generated in pairs]
    assert abs(np.mean(estimates)) < 3 * np.std(estimates) / 20
    assert min(estimates) < 0


def test_rotations_permutations_and_swapping_the_sets_change_nothing() -> None:
    real, generated = make_features(40), make_features(30, seed=1, mean=0.5)
    rotation, _ = np.linalg.qr(make_features(12, 12, seed=2))
    value = polynomial_mmd(real=real, generated=generated).squared_mmd
    assert polynomial_mmd(real=real @ rotation, generated=generated @ rotation).squared_mmd == pytest.approx(value)
    assert polynomial_mmd(real=real[::-1], generated=np.roll(generated, 3, axis=0)).squared_mmd == pytest.approx(value)
    assert polynomial_mmd(real=generated, generated=real).squared_mmd == pytest.approx(value)


@pytest.mark.parametrize("change", ["mean", "scale"])
def test_a_larger_difference_scores_worse(change: str) -> None:
    real = make_table(make_features(100))
    severities = {"mean": (0.0, 0.3, 0.6, 1.2), "scale": (1.0, 1.5, 2.0, 3.0)}[change]
    values = [
        compare(real, make_table(make_features(100, seed=1, **{change: severity}))).value for severity in severities
    ]
    assert values == sorted(values)
    assert abs(values[0]) < 0.02 * values[-1]


def test_sets_beyond_the_largest_are_split_into_subsets_of_equal_size() -> None:
    real, generated = make_table(make_features(90)), make_table(make_features(70, seed=1, mean=0.4))
    whole, parts = compare(real, generated), compare(real, generated, largest=30)
    assert (whole.details["subsets"], parts.details["subsets"], parts.details["subset_size"]) == (1, 3, 23)
    assert parts.value == pytest.approx(whole.value, rel=0.5)
    order = np.random.default_rng(3).permutation(90)
    assert compare(real.select(order), generated, largest=30).value == pytest.approx(parts.value, rel=1e-9)


def test_a_subset_is_never_larger_than_the_smaller_set() -> None:
    assert (
        compare(make_table(make_features(3)), make_table(make_features(2, seed=1)), largest=2).details["subset_size"]
        == 2
    )


def test_another_extractor_is_an_option() -> None:
    assert Kid(Kid.Options(extractor="torchvision")).needs == Needs(features=("torchvision",))


@pytest.mark.parametrize(("n", "m", "side"), [(1, 9, "reference"), (9, 1, "sample")])
def test_too_few_cubes_are_not_computable(n: int, m: int, side: str) -> None:
    with pytest.raises(NotComputable, match=f"at least 2 {side} cubes, found 1"):
        compare(make_table(make_features(n)), make_table(make_features(m)))


def test_constant_and_invalid_features_are_not_computable() -> None:
    invalid = make_features(9)
    invalid[2, 3] = np.nan
    with pytest.raises(NotComputable, match=r"not finite for 1 cube$"):
        compare(make_table(make_features(9)), make_table(invalid))
    with pytest.raises(NotComputable, match="do not vary"):
        compare(make_table(np.ones((9, 12))), make_table(make_features(9)))


@pytest.mark.parametrize("invalid", [np.ones((1, 3)), np.ones(4), np.full((4, 3), np.inf), np.ones((4, 2))])
def test_invalid_features_are_refused(invalid: Array) -> None:
    with pytest.raises(HsevalError, match="generated"):
        polynomial_mmd(real=make_features(5, 3), generated=invalid)
