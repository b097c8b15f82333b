import numpy as np
import pytest
from scipy.stats import entropy, norm

from hseval.metrics.divergence import (
    count_per_bin,
    gaussian_kl,
    jensen_shannon,
    kl_divergence,
    pool_gaussians,
    quantile_edges,
    smooth_frequencies,
)


def test_quantile_edges_cut_the_atoms_into_equal_parts() -> None:
    atoms = np.random.default_rng(0).permutation(320).astype(np.float32)
    edges = quantile_edges(atoms, 64)
    assert edges.tolist() == list(range(4, 319, 5))
    assert (count_per_bin(atoms[None], edges) == 5).all()


def test_edges_of_few_discrete_values_coincide_with_empty_bins_between_them() -> None:
    atoms = np.repeat(np.array([1.0, 2.0, 3.0]), [10, 80, 10])
    edges = quantile_edges(atoms, 10)
    assert edges.tolist() == [1.0, *[2.0] * 8]
    assert count_per_bin(atoms[None], edges).tolist() == [[10, 80, 0, 0, 0, 0, 0, 0, 0, 10]]


def test_no_value_is_dropped_however_extreme() -> None:
    values = np.array([[-1e30, 0.5, 1e30], [5.0, 6.0, 7.0]])
    counts = count_per_bin(values, np.array([0.0, 1.0]))
    assert counts.tolist() == [[1, 1, 1], [0, 0, 3]]


def test_a_value_equal_to_an_edge_falls_below_it() -> None:
    assert count_per_bin(np.array([[1.0]]), np.array([1.0, 2.0])).tolist() == [[1, 0, 0]]


def test_counts_agree_with_numpys_histogram() -> None:
    values = np.random.default_rng(1).normal(size=(3, 500))
    edges = quantile_edges(values.ravel(), 16) + 1e-9  # away from the atoms: numpy's bins are closed at the other end
    expected = [np.histogram(row, [-np.inf, *edges, np.inf])[0] for row in values]
    assert np.array_equal(count_per_bin(values, edges), expected)


def test_half_a_count_is_added_to_each_bin() -> None:
    assert smooth_frequencies(np.array([1.0, 0.0]), 9.0).tolist() == [0.95, 0.05]


def test_kl_agrees_with_scipy_and_is_zero_for_equal_histograms() -> None:
    p, q = np.random.default_rng(2).dirichlet(np.ones(10), (2, 4))
    assert np.allclose(kl_divergence(p, q), entropy(p, q, axis=-1), rtol=1e-12)
    assert (kl_divergence(p, p) == 0).all()


def test_an_empty_bin_of_p_adds_nothing() -> None:
    assert kl_divergence(np.array([1.0, 0.0]), np.array([0.5, 0.5])) == pytest.approx(np.log(2), rel=1e-15)


def test_jensen_shannon_is_symmetric_and_ln_2_between_disjoint_histograms() -> None:
    p, q = np.random.default_rng(3).dirichlet(np.ones(10), 2)
    assert jensen_shannon(p, q) == pytest.approx(float(jensen_shannon(q, p)), rel=1e-14)
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(np.log(2), rel=1e-15)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (1.5, 1.0), (0.0, 3.0), (-0.7, 0.4)])
def test_gaussian_kl_meets_the_closed_form_in_one_dimension(shift: float, scale: float) -> None:
    divergence = gaussian_kl(np.zeros(1), np.eye(1), np.full(1, shift), np.full((1, 1), scale**2))
    assert divergence == pytest.approx(np.log(scale) + (1 + shift**2) / (2 * scale**2) - 0.5, rel=1e-12, abs=1e-15)


def test_gaussian_kl_is_unchanged_by_an_affine_map_of_both_sides() -> None:
    rng = np.random.default_rng(4)
    a, b, turn = rng.normal(size=(3, 4, 4))
    mean_p, mean_q = rng.normal(size=(2, 4))
    cov_p, cov_q = a @ a.T + np.eye(4), b @ b.T + np.eye(4)
    plain = gaussian_kl(mean_p, cov_p, mean_q, cov_q)
    mapped = gaussian_kl(turn @ mean_p + 1, turn @ cov_p @ turn.T, turn @ mean_q + 1, turn @ cov_q @ turn.T)
    assert mapped == pytest.approx(plain, rel=1e-9)


def test_gaussian_kl_of_a_singular_covariance_is_nan() -> None:
    assert np.isnan(gaussian_kl(np.zeros(2), np.zeros((2, 2)), np.zeros(2), np.eye(2)))


def test_binned_kl_of_two_gaussians_tends_to_the_closed_form_from_below() -> None:
    exact = gaussian_kl(np.zeros(1), np.eye(1), np.full(1, 0.5), np.full((1, 1), 1.44))
    divergences = []
    for bins in (16, 64, 1024, 16384):
        edges = norm.ppf(np.arange(1, bins) / bins)
        q = np.diff(norm.cdf((edges - 0.5) / 1.2), prepend=0.0, append=1.0)
        divergences.append(float(kl_divergence(np.full(bins, 1 / bins), q)))
    assert divergences == sorted(divergences)
    assert divergences[-1] < exact
    assert divergences[-1] == pytest.approx(exact, rel=1e-4)


def test_pooling_cubes_of_one_size_gives_the_moments_of_all_their_pixels() -> None:
    cubes = np.random.default_rng(5).normal(size=(4, 3, 50)) + np.arange(4)[:, None, None]
    covs = np.stack([np.cov(cube, ddof=0)[np.triu_indices(3)] for cube in cubes])
    mean, cov = pool_gaussians(cubes.mean(axis=2), covs)
    pixels = np.moveaxis(cubes, 1, 0).reshape(3, -1)
    assert np.allclose(mean, pixels.mean(axis=1), rtol=1e-12)
    assert np.allclose(cov, np.cov(pixels, ddof=0), rtol=1e-12)
