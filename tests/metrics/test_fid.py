"""``fid``: standardization by the reference, and the inputs that have no score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hseval.core.feature_table import FeatureTable
from hseval.core.protocols import Needs, ScoreParts
from hseval.metrics.fid import Fid
from hseval.metrics.frechet import frechet_distance
from hseval.metrics.standardized_features import MIN_STD_RATIO, fit_scale, standardize
from hseval.testing import check_metric
from hseval.utils.errors import NotComputable

Array = NDArray[Any]


def make_table(features: Array, extractor: str = "scattering") -> FeatureTable:
    names = np.array([f"cube-{i}" for i in range(len(features))])
    return FeatureTable({extractor: np.asarray(features, dtype=np.float32)}, names, names, names, np.arange(4.0))


def make_features(n: int, d: int = 12, *, seed: int = 0, scale: float = 1.0, mean: Any = 0.0) -> Array:
    return np.random.default_rng(seed).normal(size=(n, d)) * scale + mean


def compare(real: FeatureTable, generated: FeatureTable, metric: Fid | None = None, **options: Any) -> ScoreParts:
    metric = metric or Fid(Fid.Options(**options))
    return metric.compare(real=real, generated=generated, rng=np.random.default_rng(0))


def test_fid_fulfills_the_contract_of_metrics() -> None:
    check_metric(Fid)


def test_the_value_is_the_distance_of_features_standardized_by_the_reference() -> None:
    real, generated = make_table(make_features(60)), make_table(make_features(50, seed=1, scale=1.5, mean=0.3))
    a, b = (x["scattering"].astype(np.float64) for x in (real, generated))
    mean, std = a.mean(axis=0), a.std(axis=0, ddof=1)
    parts = compare(real, generated)
    assert parts.value == pytest.approx(frechet_distance(real=(a - mean) / std, generated=(b - mean) / std))
    assert parts.value == pytest.approx(parts.details["mean_term"] + parts.details["covariance_term"])
    assert parts.details["dimension"] == 12
    assert parts.details["extractor"] == "scattering"


def test_gains_and_offsets_of_single_features_change_nothing() -> None:
    rng = np.random.default_rng(3)
    gains, offsets = rng.lognormal(0, 1, 12), rng.normal(size=12)
    real, generated = make_features(60), make_features(50, seed=1, scale=1.2)
    plain = compare(make_table(real), make_table(generated)).value
    assert compare(make_table(real * gains + offsets), make_table(generated * gains + offsets)).value == pytest.approx(
        plain, rel=1e-4
    )


def test_a_collapsed_generator_scores_worse_than_pooled_deviations_would_show() -> None:
    real, generated = make_table(make_features(80)), make_table(make_features(80, seed=1, scale=6.0))
    parts = compare(real, generated)
    assert parts.value > 0.5 * 12 * (6 - 1) ** 2


def test_a_side_that_has_no_standardized_features_gets_them_with_the_other() -> None:
    real, generated = make_table(make_features(40)), make_table(make_features(30, seed=1, mean=0.5))
    related_real, related_generated, _ = Fid().relate(real=real, generated=generated, train=None)
    plain = compare(real, generated).value
    assert compare(related_real, generated).value == pytest.approx(plain)
    assert compare(real, related_generated).value == pytest.approx(plain)


def test_splits_share_the_scale_of_the_full_reference() -> None:
    real, generated = make_table(make_features(40)), make_table(make_features(40, seed=1))
    metric = Fid()
    whole, samples, train = metric.relate(real=real, generated=generated, train=generated)
    half = np.arange(20)
    scale = fit_scale(real["scattering"].astype(np.float64))
    expected = frechet_distance(
        real=standardize(real["scattering"][half], scale), generated=standardize(generated["scattering"][half], scale)
    )
    assert compare(whole.select(half), samples.select(half), metric).value == pytest.approx(expected, rel=1e-9)
    assert compare(real.select(half), generated.select(half)).value != pytest.approx(expected, rel=1e-3)
    assert "standardized/scattering" in train.columns
    assert metric.relate(real=real, generated=generated, train=None)[2] is None


@pytest.mark.parametrize("wobble", [0.0, 1e-12, 1e-7, 1e-3])
def test_a_nearly_constant_feature_neither_explodes_nor_is_dropped(wobble: float) -> None:
    rng = np.random.default_rng(0)
    real, generated = make_features(60), make_features(60, seed=1)
    real[:, 4], generated[:, 4] = 0.5 + wobble * rng.normal(size=60), 0.5 + 0.05 * rng.normal(size=60)
    base = compare(make_table(np.delete(real, 4, axis=1)), make_table(np.delete(generated, 4, axis=1))).value
    value = compare(make_table(real), make_table(generated)).value
    assert base < value < base + 2 * (0.05 / MIN_STD_RATIO) ** 2


def test_the_least_standard_deviation_ignores_constant_features() -> None:
    real = np.c_[np.full((30, 50), 7.0), make_features(30, 5)]
    scale = fit_scale(real)
    typical = np.median(real[:, 50:].std(axis=0, ddof=1))
    np.testing.assert_allclose(scale.std[:50], MIN_STD_RATIO * typical)
    np.testing.assert_allclose(scale.std[50:], real[:, 50:].std(axis=0, ddof=1))


def test_the_feature_that_differs_most_is_named_with_its_share() -> None:
    real, generated = make_features(200), make_features(200, seed=1)
    generated[:, 7] += 5
    details = compare(make_table(real), make_table(generated)).details
    assert details["top_feature"] == 7
    assert 0.9 < details["top_feature_share"] <= 1


def test_another_extractor_is_an_option() -> None:
    metric = Fid(Fid.Options(extractor="torchvision"))
    assert metric.needs == Needs(features=("torchvision",))
    real, generated = (make_table(make_features(20, seed=seed), "torchvision") for seed in (0, 1))
    assert compare(real, generated, metric).details["extractor"] == "torchvision"


@pytest.mark.parametrize(("n", "m", "side"), [(1, 9, "reference"), (9, 1, "sample"), (0, 9, "reference")])
def test_too_few_cubes_are_not_computable(n: int, m: int, side: str) -> None:
    with pytest.raises(NotComputable, match=f"at least 2 {side} cubes"):
        compare(make_table(make_features(n)), make_table(make_features(m)))


def test_a_reference_of_identical_cubes_is_not_computable() -> None:
    with pytest.raises(NotComputable, match="do not vary"):
        compare(make_table(np.ones((9, 12))), make_table(make_features(9)))


def test_features_that_are_not_finite_are_not_computable() -> None:
    generated = make_features(9)
    generated[2, 3] = np.nan
    with pytest.raises(NotComputable, match=r"not finite for 1 cube$"):
        compare(make_table(make_features(9)), make_table(generated))
