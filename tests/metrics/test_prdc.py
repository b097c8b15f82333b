"""``prdc``: its authors' package as an oracle, closed forms, ties, and the inputs that have no score."""

from __future__ import annotations

from typing import Any

import numpy as np
import prdc
import pytest
from numpy.typing import NDArray

from hseval.core.feature_table import FeatureTable
from hseval.core.protocols import Needs, ScoreParts
from hseval.metrics import knn_coverage
from hseval.metrics.knn_coverage import Prdc, compute_knn_radii, compute_prdc
from hseval.metrics.prdc import PrecisionRecall
from hseval.testing import check_metric
from hseval.utils.errors import HsevalError, NotComputable
from hseval.utils.nearest_neighbors import NearestNeighbors, compute_rounding_bound

Array = NDArray[Any]


def make_features(n: int, d: int = 8, *, seed: int = 0, scale: float = 1.0, mean: float = 0.0) -> Array:
    return (np.random.default_rng(seed).normal(size=(n, d)) * scale + mean).astype(np.float32)


def make_table(values: Array, extractor: str = "scattering") -> FeatureTable:
    names = np.array([f"cube-{i}" for i in range(len(values))])
    return FeatureTable({extractor: np.asarray(values, dtype=np.float32)}, names, names, names, np.arange(4.0))


def compare(real: Array, generated: Array, **options: Any) -> ScoreParts:
    metric = PrecisionRecall(PrecisionRecall.Options(**options))
    return metric.compare(real=make_table(real), generated=make_table(generated), rng=np.random.default_rng(0))


def compute_by_brute_force(real: Array, generated: Array, k: int) -> Prdc:
    """Return precision, recall, density and coverage from all distances, by float64 differences."""
    real, generated = real.astype(np.float64), generated.astype(np.float64)

    def compute_distances(a: Array, b: Array) -> Array:
        return np.asarray(np.sqrt(np.einsum("nmd,nmd->nm", a[:, None] - b, a[:, None] - b)))

    radii_real, radii_generated = (
        np.sort(compute_distances(features, features), axis=1)[:, k] for features in (real, generated)
    )
    across = compute_distances(real, generated)
    in_real = across < radii_real[:, None]
    return Prdc(
        float(in_real.any(axis=0).mean()),
        float((across < radii_generated).any(axis=1).mean()),
        float(in_real.sum(axis=0).mean()) / k,
        float(in_real.any(axis=1).mean()),
    )


def test_prdc_fulfills_the_contract_of_metrics() -> None:
    check_metric(PrecisionRecall)


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize(
    ("n", "m", "d", "change"),
    [(200, 200, 8, {}), (300, 170, 64, {"scale": 1.1, "mean": 0.3}), (90, 400, 2, {"scale": 0.5, "mean": 1})],
)
def test_the_scores_are_those_of_the_package(k: int, n: int, m: int, d: int, change: dict[str, float]) -> None:
    real, generated = make_features(n, d), make_features(m, d, seed=1, **change)
    assert compute_prdc(real=real, generated=generated, k=k)._asdict() == pytest.approx(
        prdc.compute_prdc(real, generated, k), abs=1e-12
    )


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_ties_and_offsets_agree_with_float64_differences(offset: float) -> None:
    # On a grid almost every radius is a tie with other points, which float32 products can't resolve.
    grid = np.random.default_rng(0).integers(0, 4, (300, 3)).astype(np.float32) + np.float32(offset)
    real, generated = grid[:160], grid[140:]
    assert compute_prdc(real=real, generated=generated, k=5) == compute_by_brute_force(real, generated, 5)


def test_strips_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real, generated = make_features(150), make_features(130, seed=1)
    whole = compute_prdc(real=real, generated=generated)
    monkeypatch.setattr(knn_coverage, "STRIP_ROWS", 7)
    monkeypatch.setattr(knn_coverage, "BLOCK_BYTES", 1)
    monkeypatch.setattr(knn_coverage, "PAIRS_PER_CHUNK", 3)
    assert compute_prdc(real=real, generated=generated) == whole == compute_by_brute_force(real, generated, 5)


def test_radii_are_the_distances_to_the_kth_other_row() -> None:
    values = np.r_[make_features(60), make_features(6), make_features(6)]  # the last rows occur three times
    for k in (1, 2, 5, 71):
        expected = NearestNeighbors(values).find_nearest(values, k=k, exclude=np.arange(72))[0][:, -1]
        assert np.array_equal(compute_knn_radii(values, k), expected)


@pytest.mark.parametrize("kind", ["features", "grid", "clusters", "repeated", "same", "far"])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_radii_by_products_are_those_of_a_search(monkeypatch: pytest.MonkeyPatch, kind: str, k: int) -> None:
    monkeypatch.setattr(knn_coverage, "MIN_ROWS_FOR_PRODUCTS", 300)
    monkeypatch.setattr(knn_coverage, "FOLD_COUNT", 1)
    monkeypatch.setattr(knn_coverage, "BLOCK_ROWS", 130)
    values = {
        "features": make_features(600, 24),
        "grid": np.random.default_rng(0).integers(0, 4, (600, 3)).astype(np.float32),  # nearly all distances tie
        # Within a cluster distances are a millionth of the rows' norms: lost in float32 products.
        "clusters": np.repeat(make_features(75, 6, scale=1e3), 8, axis=0)
        + 1e-3 * make_features(600, 6).astype(np.float64),
        "repeated": np.repeat(make_features(100, 6), 6, axis=0),
        "same": np.zeros((600, 4), np.float32),
        "far": make_features(600, 24).astype(np.float64) + 1e7,
    }[kind]
    expected = NearestNeighbors(values).find_nearest(values, k=k, exclude=np.arange(600))[0][:, -1]
    assert np.array_equal(compute_knn_radii(values, k), expected)
    radii = knn_coverage._compute_radii_by_products(values, k)
    assert (radii is None) == (kind == "same")  # every pair lies below every bound: too many to store
    assert radii is None or np.array_equal(radii, expected)


def test_radii_far_from_the_origin_are_those_of_float64() -> None:
    values = make_features(80).astype(np.float64) + 1e7
    distances = np.sort(np.sqrt(((values[:, None] - values) ** 2).sum(axis=-1)), axis=1)
    assert compute_knn_radii(values, 4) == pytest.approx(distances[:, 4], rel=1e-12)


def test_the_slack_of_a_comparison_grows_with_the_farthest_row_on_the_other_side() -> None:
    near, far = np.array([[0.0, 3.0]]), np.array([[0.0, 0.0], [0.0, 1000.0], [1.0, 0.0]])
    left, other = (knn_coverage.build_left_factor(rows, np.zeros(2)) for rows in (near, far))
    expected = 2 * compute_rounding_bound(np.array([3.0]), 1000.0, 4)
    assert knn_coverage.compute_slack(left, other) == pytest.approx(expected)


def test_the_same_set_covers_itself() -> None:
    real = make_features(100)
    scores = compute_prdc(real=real, generated=real)
    assert (scores.precision, scores.recall, scores.coverage) == (1, 1, 1)
    assert scores.density == 1  # in its own ball and in k - 1 others on average: the k-th neighbor lies on the boundary


def test_all_scores_of_distant_sets_are_0() -> None:
    assert compute_prdc(real=make_features(50), generated=make_features(50, seed=1, mean=100)) == Prdc(0, 0, 0, 0)


def test_the_expected_coverage_of_equal_distributions_is_the_published_one() -> None:
    # Naeem et al. 2020, equation 9: 1 - (m - 1) ... (m - k) / (2 m - 1) ... (2 m - k) for n = m.
    n, k = 40, 3
    expected = 1 - np.prod([(n - i) / (2 * n - i) for i in range(1, k + 1)])
    coverages = [
        compute_prdc(real=make_features(n, seed=2 * i), generated=make_features(n, seed=2 * i + 1), k=k).coverage
        for i in range(150)
    ]
    assert np.mean(coverages) == pytest.approx(expected, abs=4 * np.std(coverages) / 150**0.5)


def test_rotations_and_permutations_change_nothing() -> None:
    real, generated = make_features(90), make_features(80, seed=1, mean=0.4)
    rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(8, 8)))
    value = compute_prdc(real=real, generated=generated)
    assert (
        compute_prdc(real=real.astype(np.float64) @ rotation, generated=generated.astype(np.float64) @ rotation)
        == value
    )
    assert compute_prdc(real=real[::-1], generated=np.roll(generated, 3, axis=0)) == pytest.approx(value)


def test_swapping_the_sets_swaps_precision_and_recall() -> None:
    real, generated = make_features(90), make_features(80, seed=1, scale=0.4)
    scores, swapped = compute_prdc(real=real, generated=generated), compute_prdc(real=generated, generated=real)
    assert (scores.precision, scores.recall) == pytest.approx((swapped.recall, swapped.precision))
    assert scores.precision > scores.recall  # narrow samples: high fidelity, low diversity


def test_lost_modes_lower_coverage_step_by_step_and_leave_precision() -> None:
    modes = [make_features(50, seed=i, scale=0.1, mean=10 * i) for i in range(4)]
    fresh = [make_features(50, seed=9 + i, scale=0.1, mean=10 * i) for i in range(4)]
    scores = [compare(np.concatenate(modes), np.concatenate(fresh[:n_modes])) for n_modes in (4, 3, 2, 1)]
    values = [parts.value for parts in scores]
    assert values == sorted(values, reverse=True)
    assert values[1:] == pytest.approx([0.75, 0.5, 0.25], abs=0.05)
    precision = [parts.details["precision"] for parts in scores]
    assert precision == pytest.approx([precision[0]] * 4, abs=0.06)


def test_the_headline_is_coverage_and_all_four_are_shown() -> None:
    parts = compare(make_features(60), make_features(60, seed=1))
    assert parts.value == parts.details["coverage"] == parts.details["shown"]["coverage"]
    assert {"precision", "recall", "density"} < set(parts.details["shown"])
    assert parts.details["k"] == 5


def test_extractor_and_k_are_options() -> None:
    assert PrecisionRecall(PrecisionRecall.Options(extractor="torchvision")).needs == Needs(features=("torchvision",))
    assert (
        compare(make_features(30), make_features(30, seed=1), k=2).value
        <= compare(make_features(30), make_features(30, seed=1)).value
    )
    with pytest.raises(ValueError, match="k is 0"):
        PrecisionRecall.Options(k=0)


@pytest.mark.parametrize(("n", "m", "side"), [(5, 9, "reference"), (9, 5, "sample")])
def test_no_more_cubes_than_k_are_not_computable(n: int, m: int, side: str) -> None:
    with pytest.raises(NotComputable, match=f"at least 6 {side} cubes, found 5"):
        compare(make_features(n), make_features(m))
    with pytest.raises(HsevalError, match="more than k = 5"):
        compute_prdc(real=make_features(n), generated=make_features(m))


def test_collapsed_samples_score_0_and_invalid_features_are_refused() -> None:
    assert compare(make_features(20), np.full((20, 8), 50.0)).value == 0
    invalid = make_features(9)
    invalid[2, 3] = np.nan
    with pytest.raises(NotComputable, match=r"not finite for 1 cube$"):
        compare(make_features(9), invalid)
    with pytest.raises(NotComputable, match="do not vary"):
        compare(np.ones((9, 8)), make_features(9))
