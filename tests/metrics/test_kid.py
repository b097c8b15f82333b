"""``kid``: torch-fidelity as an oracle, what the estimate does not depend on, and what it refuses."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

from hseval.core.feature_table import FeatureTable
from hseval.core.hookspecs import Needs, ScoreParts
from hseval.metrics.kid import Kid
from hseval.metrics.polynomial_mmd import polynomial_mmd
from hseval.metrics.standardized_features import fit_scale, standardize
from hseval.testing import check_metric
from hseval.utils.errors import HsevalError, NotComputable

Array = NDArray[Any]


def features(n: int, d: int = 12, *, seed: int = 0, scale: float = 1.0, mean: float = 0.0) -> Array:
    return np.random.default_rng(seed).normal(size=(n, d)) * scale + mean


def rows(values: Array, extractor: str = "scattering") -> FeatureTable:
    names = np.array([f"cube-{i}" for i in range(len(values))])
    hashes = np.array([str(hash(row.tobytes())) for row in values])
    return FeatureTable({extractor: np.asarray(values, dtype=np.float32)}, names, hashes, names, np.arange(4.0))


def compare(real: FeatureTable, generated: FeatureTable, **options: Any) -> ScoreParts:
    return Kid(Kid.Options(**options)).compare(real=real, generated=generated, rng=np.random.default_rng(0))


def torch_fidelity(real: Array, generated: Array) -> float:
    """Return KID over one subset of everything, which is the whole estimate whatever is drawn."""
    given = {"kid_subsets": 1, "kid_subset_size": len(real), "verbose": False, "rng_seed": 0}
    found = kid_features_to_metric(torch.from_numpy(real), torch.from_numpy(generated), **given)
    return float(found[KEY_METRIC_KID_MEAN])


def test_kid_keeps_the_contract_of_metrics() -> None:
    check_metric(Kid)


@pytest.mark.parametrize("seed", range(3))
def test_the_estimate_is_that_of_torch_fidelity(seed: int) -> None:
    real, generated = features(80, 30, seed=seed), features(80, 30, seed=9, scale=1.3, mean=0.2)
    assert polynomial_mmd(real=real, generated=generated).squared_mmd == pytest.approx(
        torch_fidelity(real, generated), rel=1e-10
    )


def test_the_metric_is_torch_fidelitys_on_features_standardised_by_the_reference() -> None:
    real, generated = (rows(each) for each in (features(60), features(60, seed=1, scale=1.5, mean=0.3)))
    a, b = (each["scattering"].astype(np.float64) for each in (real, generated))
    scale = fit_scale(a)
    expected = torch_fidelity(standardize(a, scale), standardize(b, scale))
    assert compare(real, generated).value == pytest.approx(expected, rel=1e-10)


def test_sides_of_different_size_follow_the_definition_pair_by_pair() -> None:
    real, generated = features(5, 3), features(7, 3, seed=1)

    def kernel(x: Array, y: Array) -> float:
        return float((x @ y / 3 + 1) ** 3)

    within = [np.mean([kernel(x, y) for x, y in itertools.permutations(side, 2)]) for side in (real, generated)]
    across = np.mean([kernel(x, y) for x in real for y in generated])
    terms = polynomial_mmd(real=real, generated=generated)
    assert terms == pytest.approx((*within, across))
    assert terms.squared_mmd == pytest.approx(sum(within) - 2 * across)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real, generated = features(50), features(41, seed=1)
    whole = polynomial_mmd(real=real, generated=generated)
    monkeypatch.setattr("hseval.metrics.polynomial_mmd.BLOCK_ROWS", 7)
    assert polynomial_mmd(real=real, generated=generated) == pytest.approx(whole, rel=1e-12)


def test_the_estimate_is_unbiased_in_small_samples() -> None:
    draws = [polynomial_mmd(real=features(6, 4, seed=2 * i), generated=features(9, 4, seed=2 * i + 1)).squared_mmd
             for i in range(400)]  # fmt: skip
    assert abs(np.mean(draws)) < 3 * np.std(draws) / 20
    assert min(draws) < 0


def test_rotations_permutations_and_the_order_of_sides_change_nothing() -> None:
    real, generated = features(40), features(30, seed=1, mean=0.5)
    turn, _ = np.linalg.qr(features(12, 12, seed=2))
    value = polynomial_mmd(real=real, generated=generated).squared_mmd
    assert polynomial_mmd(real=real @ turn, generated=generated @ turn).squared_mmd == pytest.approx(value)
    assert polynomial_mmd(real=real[::-1], generated=np.roll(generated, 3, axis=0)).squared_mmd == pytest.approx(value)
    assert polynomial_mmd(real=generated, generated=real).squared_mmd == pytest.approx(value)


@pytest.mark.parametrize("change", ["mean", "scale"])
def test_a_larger_difference_scores_worse(change: str) -> None:
    real = rows(features(100))
    severities = {"mean": (0.0, 0.3, 0.6, 1.2), "scale": (1.0, 1.5, 2.0, 3.0)}[change]
    values = [compare(real, rows(features(100, seed=1, **{change: severity}))).value for severity in severities]
    assert values == sorted(values)
    assert abs(values[0]) < 0.02 * values[-1]


def test_sets_beyond_the_largest_are_dealt_into_disjoint_subsets_of_equal_size() -> None:
    real, generated = rows(features(90)), rows(features(70, seed=1, mean=0.4))
    whole, parts = compare(real, generated), compare(real, generated, largest=30)
    assert (whole.details["subsets"], parts.details["subsets"], parts.details["subset_size"]) == (1, 3, 23)
    assert parts.value == pytest.approx(whole.value, rel=0.5)
    order = np.random.default_rng(3).permutation(90)
    assert compare(real.select(order), generated, largest=30).value == pytest.approx(parts.value, rel=1e-9)


def test_the_subset_is_never_larger_than_what_there_is() -> None:
    assert compare(rows(features(3)), rows(features(2, seed=1)), largest=2).details["subset_size"] == 2


def test_another_extractor_is_an_option() -> None:
    assert Kid(Kid.Options(extractor="torchvision")).needs == Needs(features=("torchvision",))


@pytest.mark.parametrize(("n", "m", "side"), [(1, 9, "reference"), (9, 1, "sample")])
def test_too_few_cubes_are_not_computable(n: int, m: int, side: str) -> None:
    with pytest.raises(NotComputable, match=f"at least 2 {side} cubes, found 1"):
        compare(rows(features(n)), rows(features(m)))


def test_constant_and_broken_features_are_not_computable() -> None:
    broken = features(9)
    broken[2, 3] = np.nan
    with pytest.raises(NotComputable, match="not finite for 1 cubes"):
        compare(rows(features(9)), rows(broken))
    with pytest.raises(NotComputable, match="do not vary"):
        compare(rows(np.ones((9, 12))), rows(features(9)))


@pytest.mark.parametrize("wrong", [np.ones((1, 3)), np.ones(4), np.full((4, 3), np.inf), np.ones((4, 2))])
def test_the_numerics_refuse_what_has_no_value(wrong: Array) -> None:
    with pytest.raises(HsevalError, match="generated"):
        polynomial_mmd(real=features(5, 3), generated=wrong)
