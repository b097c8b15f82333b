"""Draws of shares below an extreme quantile, against drawing anew from known distributions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from hseval.stats.quantile_shares import GroupedValues, draw_expected_shares


def rngs(seed: int = 0) -> tuple[np.random.Generator, np.random.Generator]:
    return np.random.default_rng([seed, 1]), np.random.default_rng([seed, 2])


def alone(values: np.ndarray) -> GroupedValues:
    return GroupedValues(values, np.array([f"g{i}" for i in range(len(values))]))


def drawn(
    real: GroupedValues, generated: GroupedValues, *, size: int, rank: int = 1, draws: int = 400, **more: float
) -> np.ndarray:
    return draw_expected_shares(real=real, generated=generated, size=size, rank=rank, draws=draws, rngs=rngs(), **more)


@pytest.mark.parametrize(("size", "rank"), [(50, 1), (200, 2), (400, 4)])
def test_of_many_cubes_the_draws_lie_at_the_share_that_brute_force_finds(size: int, rank: int) -> None:
    rng = np.random.default_rng(3)
    thresholds = np.sort(rng.normal(size=(2000, size)), axis=1)[:, rank - 1]
    expected = float(norm.cdf(thresholds + 0.4).mean())
    real, generated = alone(rng.normal(size=20_000)), alone(rng.normal(-0.4, 1, size=20_000))
    found = drawn(real, generated, size=size, rank=rank, draws=50)
    assert found[:, 0].mean() == pytest.approx(expected, rel=0.2)
    # Of n cubes from one distribution the k-th smallest has k / (n + 1) below it, whatever the distribution.
    assert found[:, 1].mean() == pytest.approx(rank / (size + 1), rel=0.05)


def test_one_draw_is_what_resampling_its_own_distribution_gives() -> None:
    """Few cubes and one draw: held-out cubes drawn by its weights, again and again, leave the same mean share."""
    rng = np.random.default_rng(5)
    real, generated = rng.normal(size=12), rng.normal(-1, 1, size=9)
    size, draws = 6, 100
    found = drawn(alone(real), alone(generated), size=size, draws=draws)
    weights = np.random.default_rng([0, 1])
    own, rest = weights.standard_gamma(1.0, (draws, 12)), weights.standard_gamma(1.0, (draws, 1))
    others = np.random.default_rng([0, 2])
    each, more = others.standard_gamma(1.0, (draws, 9)), others.standard_gamma(0.5, (draws, 2))
    for k in (0, 17, 71):
        chances = np.append(own[k], rest[k]) / (own[k].sum() + rest[k].sum())
        places = np.append(np.sort(real), np.inf)
        # A drawn held-out cube lies anywhere between its value and the next lower one: half way on average.
        picked = rng.choice(13, size=(20_000, size), p=chances[np.append(np.argsort(real), 12)]).min(axis=1)
        total = each[k].sum() + more[k].sum()
        below = np.array([(more[k, 0] + each[k][generated < place].sum()) / total for place in places])
        lower = np.append(more[k, 0] / total, below[:-1])
        share = np.where(picked == 12, below[np.minimum(picked, 11)], (below[picked] + lower[picked]) / 2)
        assert found[k, 0] == pytest.approx(share.mean(), abs=0.01)


def test_the_draws_are_as_wide_as_shares_move_when_cubes_are_drawn_anew() -> None:
    def shares(seed: int) -> tuple[float, float]:
        rng = np.random.default_rng(seed)
        real, generated = rng.normal(size=60), rng.normal(-1, 1, size=60)
        found = drawn(alone(real), alone(generated), size=30, draws=200)
        return float(found[:, 0].mean()), float(found[:, 0].std())

    means, widths = np.array([shares(seed) for seed in range(60)]).T
    assert np.sqrt(np.mean(widths**2)) == pytest.approx(means.std(ddof=1), rel=0.3)


def test_only_the_order_of_distances_counts() -> None:
    rng = np.random.default_rng(1)
    real, generated = rng.normal(size=30), rng.normal(size=30)
    plain = drawn(alone(real), alone(generated), size=15)
    assert np.array_equal(plain, drawn(alone(np.exp(real)), alone(np.exp(generated)), size=15))


def test_groups_widen_and_their_names_say_nothing() -> None:
    rng = np.random.default_rng(2)
    real, generated = rng.normal(size=400), np.repeat(rng.normal(-1, 1, size=10), 3)
    apart = drawn(alone(real), alone(generated), size=15)[:, 0].std()
    groups = np.repeat([f"p{i}" for i in range(10)], 3)
    together = drawn(alone(real), GroupedValues(generated, groups), size=15)
    renamed = drawn(alone(real), GroupedValues(generated, np.repeat([f"x{9 - i}" for i in range(10)], 3)), size=15)
    assert together[:, 0].std() > 1.3 * apart
    assert np.array_equal(together, renamed)


def test_identical_cubes_count_whatever_the_quantile() -> None:
    real, generated = np.linspace(0.5, 1, 40), np.r_[np.zeros(10), np.full(10, 2.0)]
    found = drawn(alone(real), alone(generated), size=20, always=1e-4)
    assert found[:, 0].mean() == pytest.approx(0.5, abs=0.03)
    zeros = drawn(alone(np.zeros(40)), alone(np.zeros(20)), size=20, always=1e-4)  # all real ones are copies, too
    assert zeros[:, 0].mean() > 0.95


def test_authenticity_asks_for_the_percentile_of_as_many_cubes() -> None:
    from hseval.core.feature_table import FeatureTable
    from hseval.metrics.authenticity import DISTANCE, Authenticity
    from hseval.metrics.copying_tests import compute_copy_threshold

    rng = np.random.default_rng(4)

    def rows(distances: np.ndarray) -> FeatureTable:
        names = np.array([f"c{i:04d}" for i in range(len(distances))])
        return FeatureTable({DISTANCE: distances}, names, names, names, np.arange(4.0))

    real, generated = rows(rng.uniform(0.5, 1, 1000)), rows(rng.uniform(0.5, 1, 1000))
    for size in (50, 100, 250, 700):
        rank = 1 + int(compute_copy_threshold(np.arange(size)))  # whichever of so many the threshold is
        found = Authenticity().expected(real=real, generated=generated, size=size, draws=300, rngs=rngs())
        assert found[:, 1].mean() == pytest.approx(rank / (size + 1), rel=0.1)
