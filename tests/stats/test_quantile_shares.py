"""Draws of shares below an extreme quantile, compared with new samples from known distributions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from hseval.stats.quantile_shares import GroupedValues, draw_expected_shares


def make_rngs(seed: int = 0) -> tuple[np.random.Generator, np.random.Generator]:
    return np.random.default_rng([seed, 1]), np.random.default_rng([seed, 2])


def make_ungrouped(values: np.ndarray) -> GroupedValues:
    return GroupedValues(values, np.array([f"g{i}" for i in range(len(values))]))


def draw_shares(
    real: GroupedValues, generated: GroupedValues, *, size: int, rank: int = 1, draws: int = 400, **more: float
) -> np.ndarray:
    return draw_expected_shares(
        real=real, generated=generated, size=size, rank=rank, draws=draws, rngs=make_rngs(), **more
    )


@pytest.mark.parametrize(("size", "rank"), [(50, 1), (200, 2), (400, 4)])
def test_draws_for_many_cubes_agree_with_brute_force(size: int, rank: int) -> None:
    rng = np.random.default_rng(3)
    thresholds = np.sort(rng.normal(size=(2000, size)), axis=1)[:, rank - 1]
    expected = float(norm.cdf(thresholds + 0.4).mean())
    real, generated = make_ungrouped(rng.normal(size=20_000)), make_ungrouped(rng.normal(-0.4, 1, size=20_000))
    shares = draw_shares(real, generated, size=size, rank=rank, draws=50)
    assert shares[:, 0].mean() == pytest.approx(expected, rel=0.2)
    # Of n cubes from one distribution the k-th smallest has k / (n + 1) below it, whatever the distribution.
    assert shares[:, 1].mean() == pytest.approx(rank / (size + 1), rel=0.05)


def test_one_draw_is_the_mean_over_resampling_of_its_distribution() -> None:
    """With few cubes: held-out cubes resampled with a draw's weights have the same mean share."""
    rng = np.random.default_rng(5)
    real, generated = rng.normal(size=12), rng.normal(-1, 1, size=9)
    size, draws = 6, 100
    shares = draw_shares(make_ungrouped(real), make_ungrouped(generated), size=size, draws=draws)
    real_rng = np.random.default_rng([0, 1])
    real_weights, real_remainder = real_rng.standard_gamma(1.0, (draws, 12)), real_rng.standard_gamma(1.0, (draws, 1))
    generated_rng = np.random.default_rng([0, 2])
    generated_weights, prior_weights = (
        generated_rng.standard_gamma(1.0, (draws, 9)),
        generated_rng.standard_gamma(0.5, (draws, 2)),
    )
    for k in (0, 17, 71):
        probabilities = np.append(real_weights[k], real_remainder[k]) / (
            real_weights[k].sum() + real_remainder[k].sum()
        )
        cuts = np.append(np.sort(real), np.inf)
        # A drawn held-out value lies between its own and the next lower one: half way on average.
        smallest = rng.choice(13, size=(20_000, size), p=probabilities[np.append(np.argsort(real), 12)]).min(axis=1)
        total = generated_weights[k].sum() + prior_weights[k].sum()
        below = np.array([(prior_weights[k, 0] + generated_weights[k][generated < cut].sum()) / total for cut in cuts])
        lower = np.append(prior_weights[k, 0] / total, below[:-1])
        share = np.where(smallest == 12, below[np.minimum(smallest, 11)], (below[smallest] + lower[smallest]) / 2)
        assert shares[k, 0] == pytest.approx(share.mean(), abs=0.01)


def test_the_std_of_draws_is_that_of_shares_over_new_samples() -> None:
    def summarize_draws(seed: int) -> tuple[float, float]:
        rng = np.random.default_rng(seed)
        real, generated = rng.normal(size=60), rng.normal(-1, 1, size=60)
        shares = draw_shares(make_ungrouped(real), make_ungrouped(generated), size=30, draws=200)
        return float(shares[:, 0].mean()), float(shares[:, 0].std())

    means, stds = np.array([summarize_draws(seed) for seed in range(60)]).T
    assert np.sqrt(np.mean(stds**2)) == pytest.approx(means.std(ddof=1), rel=0.3)


def test_only_the_order_of_distances_matters() -> None:
    rng = np.random.default_rng(1)
    real, generated = rng.normal(size=30), rng.normal(size=30)
    plain = draw_shares(make_ungrouped(real), make_ungrouped(generated), size=15)
    assert np.array_equal(plain, draw_shares(make_ungrouped(np.exp(real)), make_ungrouped(np.exp(generated)), size=15))


def test_groups_increase_the_variance_and_their_names_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    real, generated = rng.normal(size=400), np.repeat(rng.normal(-1, 1, size=10), 3)
    ungrouped_std = draw_shares(make_ungrouped(real), make_ungrouped(generated), size=15)[:, 0].std()
    groups = np.repeat([f"p{i}" for i in range(10)], 3)
    grouped = draw_shares(make_ungrouped(real), GroupedValues(generated, groups), size=15)
    renamed = draw_shares(
        make_ungrouped(real), GroupedValues(generated, np.repeat([f"x{9 - i}" for i in range(10)], 3)), size=15
    )
    assert grouped[:, 0].std() > 1.3 * ungrouped_std
    assert np.array_equal(grouped, renamed)


def test_copies_count_whatever_the_quantile() -> None:
    real, generated = np.linspace(0.5, 1, 40), np.r_[np.zeros(10), np.full(10, 2.0)]
    shares = draw_shares(make_ungrouped(real), make_ungrouped(generated), size=20, always_below=1e-4)
    assert shares[:, 0].mean() == pytest.approx(0.5, abs=0.03)
    zeros = draw_shares(
        make_ungrouped(np.zeros(40)), make_ungrouped(np.zeros(20)), size=20, always_below=1e-4
    )  # all real cubes are copies, too
    assert zeros[:, 0].mean() > 0.95


def test_authenticity_uses_the_percentile_for_the_number_of_cubes() -> None:
    from hseval.core.feature_table import FeatureTable
    from hseval.metrics.authenticity import DISTANCE, Authenticity
    from hseval.metrics.copying_tests import compute_copy_threshold

    rng = np.random.default_rng(4)

    def make_table(distances: np.ndarray) -> FeatureTable:
        names = np.array([f"c{i:04d}" for i in range(len(distances))])
        return FeatureTable({DISTANCE: distances}, names, names, names, np.arange(4.0))

    real, generated = make_table(rng.uniform(0.5, 1, 1000)), make_table(rng.uniform(0.5, 1, 1000))
    for size in (50, 100, 250, 700):
        rank = 1 + int(compute_copy_threshold(np.arange(size)))  # the rank of the copy threshold
        shares = Authenticity().expected(real=real, generated=generated, size=size, draws=300, rngs=make_rngs())
        assert shares[:, 1].mean() == pytest.approx(rank / (size + 1), rel=0.1)
