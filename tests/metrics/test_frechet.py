"""The Frechet distance against closed forms and against the textbook's formula in high precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hseval.metrics import frechet
from hseval.metrics.frechet import frechet_distance, frechet_terms, trace_sqrt_product
from hseval.utils.errors import HsevalError

Array = NDArray[Any]

SHAPES = [(7, 40), (40, 40), (41, 40), (60, 40), (400, 40), (2, 5), (50, 1)]


def sample_gaussian(n: int, d: int, *, seed: int, scale: float = 1.0) -> Array:
    return np.random.default_rng(seed).normal(size=(n, d)) * scale


def sample_exact_gaussian(mean: Any, stds: Array, *, n: int, seed: int) -> Array:
    """Return samples (n, d), n > d, whose mean and (diagonal) covariance are exact."""
    white = sample_gaussian(n, len(stds), seed=seed)
    white = np.linalg.qr(white - white.mean(axis=0))[0] * np.sqrt(n - 1)
    return mean + white * stds


def compute_by_textbook(real: Array, generated: Array) -> float:
    """Return the distance by the formula, with square roots of symmetric matrices by eigendecomposition."""

    def compute_root(matrix: Array) -> Array:
        values, vectors = np.linalg.eigh(matrix)
        return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T

    first, second = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (real, generated))
    root = compute_root(first)
    mean = ((real.mean(axis=0) - generated.mean(axis=0)) ** 2).sum()
    return mean + np.trace(first) + np.trace(second) - 2 * np.trace(compute_root(root @ second @ root))


def compute_trace(features: Array) -> float:
    return features.var(axis=0, ddof=1).sum()


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_equal_sets_are_at_distance_zero(n: int, d: int) -> None:
    features = sample_gaussian(n, d, seed=0, scale=np.logspace(-4, 4, d)) + 50
    assert 0 <= frechet_distance(real=features, generated=features.copy()) <= 1e-6 * compute_trace(features)


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_a_shift_alone_gives_its_squared_length(n: int, d: int) -> None:
    features = sample_gaussian(n, d, seed=0)
    shift = sample_gaussian(1, d, seed=1) * 3
    assert frechet_distance(real=features, generated=features + shift) == pytest.approx((shift**2).sum(), rel=1e-6)


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_a_gain_alone_gives_the_closed_form(n: int, d: int) -> None:
    features = sample_gaussian(n, d, seed=0)
    features -= features.mean(axis=0)
    expected = (1.7 - 1) ** 2 * compute_trace(features)  # S and 1.7^2 S commute
    assert frechet_distance(real=features, generated=1.7 * features) == pytest.approx(expected, rel=1e-6)


def test_diagonal_gaussians_give_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    stds = rng.uniform(0.01, 3, (2, 30))
    means = rng.normal(size=(2, 30))
    real, generated = (sample_exact_gaussian(means[i], stds[i], n=90 + i, seed=i) for i in range(2))
    expected = ((means[0] - means[1]) ** 2).sum() + ((stds[0] - stds[1]) ** 2).sum()
    terms = frechet_terms(real=real, generated=generated)
    assert terms.distance == pytest.approx(expected, rel=1e-6)
    assert terms.mean == pytest.approx(((means[0] - means[1]) ** 2).sum(), rel=1e-6)
    assert terms.covariance == pytest.approx(((stds[0] - stds[1]) ** 2).sum(), rel=1e-6)


def test_one_dimensional_gaussians_give_the_closed_form() -> None:
    real, generated = sample_gaussian(100, 1, seed=0), sample_gaussian(80, 1, seed=1, scale=2.5) + 4
    expected = (real.mean() - generated.mean()) ** 2 + (real.std(ddof=1) - generated.std(ddof=1)) ** 2
    assert frechet_distance(real=real, generated=generated) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(8, 9), (8, 90), (90, 8), (31, 29), (30, 30), (31, 90), (90, 120)])
def test_any_mix_of_sizes_agrees_with_the_textbook(n: int, m: int) -> None:
    mixing = sample_gaussian(30, 30, seed=5)
    real, generated = sample_gaussian(n, 30, seed=0) @ mixing, sample_gaussian(m, 30, seed=1, scale=1.3) @ mixing + 0.2
    # The textbook formula's error is the root of rounding; 1e-7 is far above it.
    assert frechet_distance(real=real, generated=generated) == pytest.approx(
        compute_by_textbook(real, generated), rel=1e-7
    )


@pytest.mark.parametrize(("n", "d"), [(30, 60), (200, 60)])
def test_float32_features_far_from_the_origin_keep_their_distance(n: int, d: int) -> None:
    rng = np.random.default_rng(0)
    near = [rng.integers(-40, 40, (n, d)) / 64 for _ in range(2)]  # exact in float32 with the offset added
    far = [(x + 10_000).astype(np.float32) for x in near]
    expected = frechet_distance(real=near[0], generated=near[1])
    assert frechet_distance(real=far[0], generated=far[1]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("rank", [1, 5, 39])
def test_singular_covariances_with_many_samples_give_the_closed_form(rank: int) -> None:
    d, n = 40, 300
    rotation = np.linalg.qr(sample_gaussian(d, d, seed=9))[0]
    stds = np.where(np.arange(d) < rank, np.logspace(3, -2, d), 0)
    real, generated = (
        sample_exact_gaussian(0, stds, n=n, seed=0) @ rotation,
        sample_exact_gaussian(0, stds * 1.5, n=n, seed=1) @ rotation,
    )
    expected = 0.25 * (stds**2).sum()
    assert frechet_distance(real=real, generated=generated) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(real=real, generated=real) <= 1e-6 * compute_trace(real)


def test_constant_features_count_by_their_means_alone() -> None:
    real, generated = sample_gaussian(100, 12, seed=0), sample_gaussian(120, 12, seed=1)
    without = frechet_distance(real=real, generated=generated)
    wider = frechet_distance(real=np.c_[real, np.full(100, 3.0)], generated=np.c_[generated, np.full(120, 5.0)])
    assert wider == pytest.approx(without + 4, rel=1e-9)


def test_the_eigenvalues_are_used_where_they_are_precise_and_not_where_they_are_not() -> None:
    precise = sample_gaussian(300, 40, seed=0) / 17
    assert frechet._trace_sqrt_by_eigenvalues(precise.T @ precise, precise.T @ precise) is not None
    skewed = precise * np.logspace(8, -8, 40)
    assert frechet._trace_sqrt_by_eigenvalues(skewed.T @ skewed, skewed.T @ skewed) is None
    assert trace_sqrt_product(skewed, skewed) == pytest.approx((skewed**2).sum(), rel=1e-9)
    # Each of 100 eigenvalues of 0 may add half the root of the rounding error, 7e-9: in all 7e-8 of a trace of 1.
    nearly_singular = np.diag([1.0] + [1e-20] * 100)
    assert frechet._trace_sqrt_by_eigenvalues(nearly_singular, nearly_singular) is None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 30), st.integers(2, 30), st.integers(1, 20))
@example(24, 17, 2, 2)  # as many rows as features: singular after centering
def test_the_distance_is_symmetric_nonnegative_and_invariant_under_rotation(seed: int, n: int, m: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    real, generated = rng.normal(size=(n, d)) * rng.lognormal(0, 2, d), rng.normal(size=(m, d)) + rng.normal(size=d)
    distance = frechet_distance(real=real, generated=generated)
    scale = compute_trace(real) + compute_trace(generated) + distance
    rotation = np.linalg.qr(rng.normal(size=(d, d)))[0]
    assert distance >= 0
    assert frechet_distance(real=generated, generated=real) == pytest.approx(distance, abs=1e-9 * scale)
    assert frechet_distance(real=real @ rotation, generated=generated @ rotation) == pytest.approx(
        distance, abs=1e-8 * scale
    )
    shuffled = frechet_distance(real=real[rng.permutation(n)], generated=generated[::-1])
    assert shuffled == pytest.approx(distance, abs=1e-9 * scale)


def test_inputs_are_left_as_they_are() -> None:
    real, generated = sample_gaussian(20, 5, seed=0), sample_gaussian(20, 5, seed=1)
    before = real.copy(), generated.copy()
    frechet_distance(real=real, generated=generated)
    np.testing.assert_array_equal(real, before[0])
    np.testing.assert_array_equal(generated, before[1])


@pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["real", "generated"])
def test_features_that_are_not_finite_are_refused_with_the_side_and_count(junk: float, side: str) -> None:
    sets = {"real": sample_gaussian(20, 5, seed=0), "generated": sample_gaussian(20, 5, seed=1)}
    sets[side][3, 2] = sets[side][7, 0] = junk
    with pytest.raises(HsevalError, match=f"^{side}: 2 of 20 feature vectors"):
        frechet_distance(**sets)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(HsevalError, match="5 features per cube, generated has 6"):
        frechet_distance(real=sample_gaussian(20, 5, seed=0), generated=sample_gaussian(20, 6, seed=0))
    with pytest.raises(HsevalError, match=r"generated: 1 feature vector,"):
        frechet_distance(real=sample_gaussian(20, 5, seed=0), generated=sample_gaussian(1, 5, seed=0))
    with pytest.raises(HsevalError, match="expected \\(cubes, features\\)"):
        frechet_distance(real=sample_gaussian(20, 5, seed=0)[0], generated=sample_gaussian(20, 5, seed=0))
