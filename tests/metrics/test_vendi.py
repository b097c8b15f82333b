"""``vendi``: closed forms, invariances, and the inputs that have no score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hseval.core.feature_table import FeatureTable
from hseval.core.protocols import Needs, ScoreParts
from hseval.metrics.vendi import Vendi
from hseval.metrics.vendi_score import compute_rms_distance, cosine_similarity, gaussian_kernel, vendi_score
from hseval.testing import check_metric
from hseval.utils.errors import HsevalError, NotComputable

Array = NDArray[Any]


def make_features(n: int, d: int = 12, *, seed: int = 0, scale: float = 1.0, mean: float = 0.0) -> Array:
    return np.random.default_rng(seed).normal(size=(n, d)) * scale + mean


def make_table(values: Array, extractor: str = "scattering") -> FeatureTable:
    names = np.array([f"cube-{i}" for i in range(len(values))])
    return FeatureTable({extractor: np.asarray(values, dtype=np.float32)}, names, names, names, np.arange(4.0))


def compare(real: Array, generated: Array, **options: Any) -> ScoreParts:
    return Vendi(Vendi.Options(**options)).compare(
        real=make_table(real), generated=make_table(generated), rng=np.random.default_rng(0)
    )


def test_vendi_fulfills_the_contract_of_metrics() -> None:
    check_metric(Vendi)


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_equal_vectors_count_as_one_and_orthogonal_ones_separately(n: int) -> None:
    assert vendi_score(np.ones((n, n))) == pytest.approx(1)
    assert vendi_score(np.eye(n)) == pytest.approx(n)
    assert vendi_score(cosine_similarity(3 * np.eye(n))) == pytest.approx(n)
    assert vendi_score(gaussian_kernel(np.ones((n, 5)), 1.0)) == pytest.approx(1)
    assert vendi_score(gaussian_kernel(1e3 * np.eye(n), 1.0)) == pytest.approx(n)


@pytest.mark.parametrize("counts", [(5, 5), (1, 9), (2, 3, 5)])
def test_disjoint_classes_count_by_the_entropy_of_their_shares(counts: tuple[int, ...]) -> None:
    # Friedman and Dieng 2023, lemma 3.1 and section 3: the exponential of Shannon's entropy.
    shares = np.array(counts) / sum(counts)
    expected = np.exp(-(shares * np.log(shares)).sum())
    classes = np.repeat(np.eye(len(counts)), counts, axis=0)
    assert vendi_score(cosine_similarity(classes)) == pytest.approx(expected)


@pytest.mark.parametrize("similarity", [0.1, 0.5, 0.9])
def test_equally_similar_vectors_have_the_closed_form(similarity: float) -> None:
    n = 8
    matrix = np.full((n, n), similarity) + (1 - similarity) * np.eye(n)
    large, small = (1 + (n - 1) * similarity) / n, (1 - similarity) / n
    expected = np.exp(-large * np.log(large) - (n - 1) * small * np.log(small))
    assert vendi_score(matrix) == pytest.approx(expected)


def test_the_score_follows_from_the_covariance_of_unit_vectors_too() -> None:
    units = make_features(40, 3)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    shares = np.linalg.eigvalsh(units.T @ units / 40)
    assert vendi_score(cosine_similarity(units)) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


def test_the_gaussian_kernel_follows_its_definition_even_far_from_the_origin() -> None:
    values = make_features(6)
    expected = np.exp(-((values[:, None] - values) ** 2).sum(axis=-1) / 4)
    assert gaussian_kernel(values, 2.0) == pytest.approx(expected, rel=1e-10)
    assert gaussian_kernel(values + 1e6, 2.0) == pytest.approx(expected, rel=1e-6)


def test_the_typical_distance_is_the_root_mean_square_over_pairs() -> None:
    values = make_features(9)
    squared = ((values[:, None] - values) ** 2).sum(axis=-1)[np.triu_indices(9, 1)]
    assert compute_rms_distance(values) == pytest.approx(np.sqrt(squared.mean()))


@pytest.mark.parametrize("kernel", ["gaussian", "cosine"])
def test_rotations_and_permutations_change_nothing(kernel: str) -> None:
    compute_similarity = {"gaussian": lambda values: gaussian_kernel(values, 5.0), "cosine": cosine_similarity}[kernel]
    values = make_features(30)
    rotation, _ = np.linalg.qr(make_features(12, 12, seed=2))
    value = vendi_score(compute_similarity(values))
    assert vendi_score(compute_similarity(values @ rotation)) == pytest.approx(value)
    assert vendi_score(compute_similarity(np.roll(values, 7, axis=0))) == pytest.approx(value)


def test_narrower_samples_count_as_fewer_and_wider_as_more() -> None:
    real = make_features(60)
    values = [compare(real, make_features(60, seed=1, scale=scale)).value for scale in (0.1, 0.3, 1.0, 2.0, 4.0)]
    assert values == sorted(values)
    assert values[2] == pytest.approx(compare(real, make_features(60, seed=2)).value, rel=0.1)


def test_similarities_in_float32_are_computed_with_in_float64() -> None:
    rounded = gaussian_kernel(np.random.default_rng(0).normal(size=(40, 3)), 2.0).astype(np.float32)
    assert vendi_score(rounded) == pytest.approx(vendi_score(rounded.astype(np.float64)), rel=1e-12)


def test_repeated_samples_count_once() -> None:
    real, few = make_features(60), make_features(6, seed=1)
    assert compare(real, np.tile(few, (10, 1))).value == pytest.approx(compare(real, few).value)


def test_a_common_offset_changes_nothing_with_the_gaussian_kernel_and_collapses_the_cosine() -> None:
    real, shifted = make_features(60), make_features(60, seed=1, mean=20)
    gaussian, cosine = (compare(real, shifted, kernel=kernel) for kernel in ("gaussian", "cosine"))
    assert gaussian.value == pytest.approx(compare(real, make_features(60, seed=1)).value, rel=1e-5)
    assert cosine.value < 1.1 < 0.2 * cosine.details["of_reference"]


def test_splits_share_the_scale_and_length_scale_of_the_full_reference() -> None:
    metric = Vendi()
    real, generated, train = metric.relate(
        real=make_table(make_features(40)), generated=make_table(make_features(40, seed=1)), train=None
    )
    half = np.arange(20)
    parts = metric.compare(real=real.select(half), generated=generated.select(half), rng=np.random.default_rng(0))
    whole = metric.compare(real=real, generated=generated, rng=np.random.default_rng(0))
    assert train is None
    assert parts.details["reach"] == whole.details["reach"]
    assert parts.value < whole.value


def test_extractor_and_kernel_are_in_the_details() -> None:
    assert Vendi(Vendi.Options(extractor="torchvision")).needs == Needs(features=("torchvision",))
    details = compare(make_features(20), make_features(20, seed=1), kernel="cosine").details
    assert (details["kernel"], details["extractor"], details["samples"]) == ("cosine", "scattering", 20)


@pytest.mark.parametrize(("n", "m", "side"), [(1, 9, "reference"), (9, 1, "sample")])
def test_too_few_cubes_are_not_computable(n: int, m: int, side: str) -> None:
    with pytest.raises(NotComputable, match=f"at least 2 {side} cubes, found 1"):
        compare(make_features(n), make_features(m))


def test_constant_samples_count_as_one_and_invalid_features_are_refused() -> None:
    assert compare(make_features(9), np.full((9, 12), 7.0)).value == pytest.approx(1)
    invalid = make_features(9)
    invalid[2, 3] = np.nan
    with pytest.raises(NotComputable, match=r"not finite for 1 cube$"):
        compare(make_features(9), invalid)
    with pytest.raises(NotComputable, match="do not vary"):
        compare(np.ones((9, 12)), make_features(9))


@pytest.mark.parametrize(
    "matrix", [np.ones((2, 3)), np.ones(4), np.full((3, 3), np.nan), 2 * np.eye(3), np.ones((0, 0))]
)
def test_an_invalid_similarity_matrix_is_refused(matrix: Array) -> None:
    with pytest.raises(HsevalError, match="similarities"):
        vendi_score(matrix)
