"""``prdc``: the package of its authors as an oracle, closed forms, ties, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import prdc
import pytest
from numpy.typing import NDArray

from hseval.core.feature_table import FeatureTable
from hseval.core.hookspecs import Needs, ScoreParts
from hseval.metrics import knn_coverage as balls
from hseval.metrics import knn_coverage as by_products
from hseval.metrics import knn_coverage as products
from hseval.metrics.knn_coverage import Prdc, compute_knn_radii, compute_prdc
from hseval.metrics.prdc import PrecisionRecall
from hseval.testing import check_metric
from hseval.utils.errors import HsevalError, NotComputable
from hseval.utils.nearest_neighbors import NearestNeighbors

Array = NDArray[Any]


def features(n: int, d: int = 8, *, seed: int = 0, scale: float = 1.0, mean: float = 0.0) -> Array:
    return (np.random.default_rng(seed).normal(size=(n, d)) * scale + mean).astype(np.float32)


def rows(values: Array, extractor: str = "scattering") -> FeatureTable:
    names = np.array([f"cube-{i}" for i in range(len(values))])
    return FeatureTable({extractor: np.asarray(values, dtype=np.float32)}, names, names, names, np.arange(4.0))


def compare(real: Array, generated: Array, **options: Any) -> ScoreParts:
    metric = PrecisionRecall(PrecisionRecall.Options(**options))
    return metric.compare(real=rows(real), generated=rows(generated), rng=np.random.default_rng(0))


def brute_force(real: Array, generated: Array, k: int) -> Prdc:
    """Return the four numbers from all distances, each by float64 differences."""
    real, generated = real.astype(np.float64), generated.astype(np.float64)

    def distances(a: Array, b: Array) -> Array:
        return np.asarray(np.sqrt(np.einsum("nmd,nmd->nm", a[:, None] - b, a[:, None] - b)))

    ball_real, ball_generated = (np.sort(distances(each, each), axis=1)[:, k] for each in (real, generated))
    across = distances(real, generated)
    in_real = across < ball_real[:, None]
    return Prdc(
        float(in_real.any(axis=0).mean()),
        float((across < ball_generated).any(axis=1).mean()),
        float(in_real.sum(axis=0).mean()) / k,
        float(in_real.any(axis=1).mean()),
    )


def test_prdc_keeps_the_contract_of_metrics() -> None:
    check_metric(PrecisionRecall)


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize(
    ("n", "m", "d", "changed"), [(200, 200, 8, (1, 0)), (300, 170, 64, (1.1, 0.3)), (90, 400, 2, (0.5, 1))]
)
def test_the_numbers_are_those_of_the_package(k: int, n: int, m: int, d: int, changed: tuple[float, float]) -> None:
    real, generated = features(n, d), features(m, d, seed=1, scale=changed[0], mean=changed[1])
    assert compute_prdc(real=real, generated=generated, k=k)._asdict() == pytest.approx(
        prdc.compute_prdc(real, generated, k), abs=1e-12
    )


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_ties_and_offsets_are_decided_as_float64_differences_decide(offset: float) -> None:
    # On a grid almost every radius is met exactly by other points, and float32 products can't tell.
    grid = np.random.default_rng(0).integers(0, 4, (300, 3)).astype(np.float32) + np.float32(offset)
    real, generated = grid[:160], grid[140:]
    assert compute_prdc(real=real, generated=generated, k=5) == brute_force(real, generated, 5)


def test_strips_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real, generated = features(150), features(130, seed=1)
    whole = compute_prdc(real=real, generated=generated)
    monkeypatch.setattr(balls, "STRIP_ROWS", 7)
    monkeypatch.setattr(balls, "BLOCK_BYTES", 1)
    monkeypatch.setattr(products, "PAIRS_PER_CHUNK", 3)
    assert compute_prdc(real=real, generated=generated) == whole == brute_force(real, generated, 5)


def test_radii_are_the_distances_to_the_kth_other_row() -> None:
    values = np.r_[features(60), features(6), features(6)]  # the last rows are there three times
    for k in (1, 2, 5, 71):
        expected = NearestNeighbors(values).find_nearest(values, k=k, exclude=np.arange(72))[0][:, -1]
        assert np.array_equal(compute_knn_radii(values, k), expected)


@pytest.mark.parametrize("kind", ["features", "grid", "clusters", "repeated", "same", "far"])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_radii_by_products_are_those_of_a_search(monkeypatch: pytest.MonkeyPatch, kind: str, k: int) -> None:
    monkeypatch.setattr(by_products, "MIN_ROWS_FOR_PRODUCTS", 300)
    monkeypatch.setattr(by_products, "FOLD_COUNT", 1)
    monkeypatch.setattr(by_products, "BLOCK_ROWS", 130)
    values = {
        "features": features(600, 24),
        "grid": np.random.default_rng(0).integers(0, 4, (600, 3)).astype(np.float32),  # nearly all distances tie
        # Within a cluster distances are a millionth of the rows' lengths: nothing to float32 products.
        "clusters": np.repeat(features(75, 6, scale=1e3), 8, axis=0) + 1e-3 * features(600, 6).astype(np.float64),
        "repeated": np.repeat(features(100, 6), 6, axis=0),
        "same": np.zeros((600, 4), np.float32),
        "far": features(600, 24).astype(np.float64) + 1e7,
    }[kind]
    expected = NearestNeighbors(values).find_nearest(values, k=k, exclude=np.arange(600))[0][:, -1]
    assert np.array_equal(compute_knn_radii(values, k), expected)
    found = by_products._compute_radii_by_products(values, k)
    assert (found is None) == (kind == "same")  # every pair lies below every bound: too many to hold
    assert found is None or np.array_equal(found, expected)


def test_radii_far_from_the_origin_are_those_of_float64() -> None:
    values = features(80).astype(np.float64) + 1e7
    gaps = np.sort(np.sqrt(((values[:, None] - values) ** 2).sum(axis=-1)), axis=1)
    assert compute_knn_radii(values, 4) == pytest.approx(gaps[:, 4], rel=1e-12)


def test_the_same_set_covers_itself() -> None:
    real = features(100)
    found = compute_prdc(real=real, generated=real)
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    assert found.density == 1  # in its own ball and in k - 1 others' on average: the k-th lies on the rim


def test_sets_far_apart_share_nothing() -> None:
    assert compute_prdc(real=features(50), generated=features(50, seed=1, mean=100)) == Prdc(0, 0, 0, 0)


def test_the_expected_coverage_of_an_equal_distribution_is_the_published_one() -> None:
    # Naeem et al. 2020, equation 9: 1 - (m - 1) ... (m - k) / (2 m - 1) ... (2 m - k) for n = m.
    n, k = 40, 3
    expected = 1 - np.prod([(n - i) / (2 * n - i) for i in range(1, k + 1)])
    found = [
        compute_prdc(real=features(n, seed=2 * i), generated=features(n, seed=2 * i + 1), k=k).coverage
        for i in range(150)
    ]
    assert np.mean(found) == pytest.approx(expected, abs=4 * np.std(found) / 150**0.5)


def test_rotations_and_permutations_change_nothing() -> None:
    real, generated = features(90), features(80, seed=1, mean=0.4)
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(8, 8)))
    value = compute_prdc(real=real, generated=generated)
    assert compute_prdc(real=real.astype(np.float64) @ turn, generated=generated.astype(np.float64) @ turn) == value
    assert compute_prdc(real=real[::-1], generated=np.roll(generated, 3, axis=0)) == pytest.approx(value)


def test_precision_and_recall_are_each_others_mirror() -> None:
    real, generated = features(90), features(80, seed=1, scale=0.4)
    one, other = compute_prdc(real=real, generated=generated), compute_prdc(real=generated, generated=real)
    assert (one.precision, one.recall) == pytest.approx((other.recall, other.precision))
    assert one.precision > one.recall  # narrow samples: all plausible, and little of the variety


def test_lost_modes_lower_coverage_step_by_step_and_leave_precision() -> None:
    modes = [features(50, seed=i, scale=0.1, mean=10 * i) for i in range(4)]
    fresh = [features(50, seed=9 + i, scale=0.1, mean=10 * i) for i in range(4)]
    found = [compare(np.concatenate(modes), np.concatenate(fresh[:kept])) for kept in (4, 3, 2, 1)]
    values = [parts.value for parts in found]
    assert values == sorted(values, reverse=True)
    assert values[1:] == pytest.approx([0.75, 0.5, 0.25], abs=0.05)
    precision = [parts.details["precision"] for parts in found]
    assert precision == pytest.approx([precision[0]] * 4, abs=0.06)


def test_the_headline_is_coverage_and_all_four_are_told() -> None:
    parts = compare(features(60), features(60, seed=1))
    assert parts.value == parts.details["coverage"] == parts.details["shown"]["coverage"]
    assert {"precision", "recall", "density"} < set(parts.details["shown"])
    assert parts.details["k"] == 5


def test_extractor_and_k_are_options() -> None:
    assert PrecisionRecall(PrecisionRecall.Options(extractor="torchvision")).needs == Needs(features=("torchvision",))
    assert compare(features(30), features(30, seed=1), k=2).value <= compare(features(30), features(30, seed=1)).value
    with pytest.raises(ValueError, match="k is 0"):
        PrecisionRecall.Options(k=0)


@pytest.mark.parametrize(("n", "m", "side"), [(5, 9, "reference"), (9, 5, "sample")])
def test_no_more_cubes_than_k_are_not_computable(n: int, m: int, side: str) -> None:
    with pytest.raises(NotComputable, match=f"at least 6 {side} cubes, found 5"):
        compare(features(n), features(m))
    with pytest.raises(HsevalError, match="more than k = 5"):
        compute_prdc(real=features(n), generated=features(m))


def test_collapsed_constant_and_broken_features() -> None:
    assert compare(features(20), np.full((20, 8), 50.0)).value == 0
    broken = features(9)
    broken[2, 3] = np.nan
    with pytest.raises(NotComputable, match="not finite for 1 cubes"):
        compare(features(9), broken)
    with pytest.raises(NotComputable, match="do not vary"):
        compare(np.ones((9, 8)), features(9))
