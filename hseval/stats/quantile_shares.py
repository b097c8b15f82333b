"""Posterior draws of the expected share of values below an extreme quantile of other values.

The share of samples below the lowest of m held-out distances depends on a few cubes, so that the jackknife can't
estimate its variance. Both sides' distributions are drawn instead, as in the Bayesian bootstrap (Rubin 1981) over
groups: the sorted held-out distances divide the unit interval at random points (those of uniform order statistics,
whatever the distribution), and samples get Dirichlet weights, with half a group more below and above all of them
(Jeffreys). The expected share of each pair of distributions is computed exactly.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.utils.arrays import Float64Array

PRIOR_GROUPS = 0.5  # groups of samples added below, and above, all others
MIN_TAIL_VALUES = 20  # of ``size`` values the lowest that matter, plus two a rank: the chance beyond them is about 1e-9
# Draws in memory at a time; fixed, as the reference's stream must not depend on the number of samples.
DRAWS_PER_CHUNK = 100


@dataclasses.dataclass(frozen=True)
class GroupedValues:
    """One side's numbers ``(n,)`` and their groups ``(n,)``."""

    values: NDArray[Any]
    groups: NDArray[Any]


def draw_expected_shares(
    *,
    real: GroupedValues,
    generated: GroupedValues,
    size: int,
    rank: int,
    draws: int,
    rngs: tuple[np.random.Generator, np.random.Generator],
    always_below: float = -np.inf,
) -> Float64Array:
    """Return draws ``(draws, 2)`` of two expected shares below the ``rank``-th smallest of ``size`` real values.

    The first is the samples' share, the second that of real values of other groups (the floor).

    Args:
        real: held-out values.
        generated: samples' values.
        size: number of real values that the quantile is taken of, in whole groups.
        rank: 1 for the smallest; above 1, cubes of a group are treated as independent.
        draws: number of draws.
        rngs: of the real side (shared by all samples that are compared with it), and of the samples.
        always_below: values up to this count as below, whatever the quantile.
    """
    chunks = [min(DRAWS_PER_CHUNK, draws - start) for start in range(0, draws, DRAWS_PER_CHUNK)]
    settings = {"size": size, "rank": rank, "rngs": rngs, "min_cut": np.nextafter(always_below, np.inf)}
    draw_chunk = functools.partial(_draw_shares_chunk, real, generated, **settings)
    return np.concatenate([draw_chunk(draws=count) for count in chunks])


def _draw_shares_chunk(
    real: GroupedValues,
    generated: GroupedValues,
    *,
    draws: int,
    size: int,
    rank: int,
    rngs: tuple[np.random.Generator, np.random.Generator],
    min_cut: float,
) -> Float64Array:
    group_index, group_count = _index_groups(real.groups)
    weights, remainder = rngs[0].standard_gamma(1.0, (draws, group_count)), rngs[0].standard_gamma(1.0, (draws, 1))
    raised = np.maximum(real.values, min_cut)
    cuts, cdf = _compute_quantile_cdf(raised, group_index, weights, remainder, size=size, rank=rank)
    probabilities = np.diff(cdf, axis=1, prepend=0.0)
    probability_above = 1 - cdf[:, -1]
    sizes = np.bincount(group_index)
    total = weights @ sizes[:, None] + remainder * sizes.mean()
    real_draws = _accumulate_weights(real.values, weights[:, group_index], total)
    generated_draws = _draw_generated_distributions(generated, draws, rngs[1])
    first_cut = np.array([min_cut])
    shares = [
        (generated_draws.share_below(first_cut), generated_draws.share_below(cuts)),
        (real_draws.share_below(first_cut), real_draws.share_up_to(cuts)),
    ]
    sides = [np.concatenate(side, axis=1) for side in shares]
    return np.stack([_average_between_cuts(side, probabilities, probability_above) for side in sides], axis=1)


@dataclasses.dataclass(frozen=True)
class DistributionDraws:
    """Draws of a distribution: sorted values ``(n,)`` and cumulative weights ``(draws, n + 1)``, the first of none."""

    values: NDArray[Any]
    cumulative_weights: Float64Array

    def share_below(self, cuts: NDArray[Any]) -> Float64Array:
        """Return the share strictly below each cut, ``(draws, c)``."""
        return self.cumulative_weights[:, np.searchsorted(self.values, cuts, side="left")]

    def share_up_to(self, cuts: NDArray[Any]) -> Float64Array:
        """Return the share up to each cut, ``(draws, c)``."""
        return self.cumulative_weights[:, np.searchsorted(self.values, cuts, side="right")]


def _compute_quantile_cdf(
    values: NDArray[Any],
    group_index: NDArray[np.int64],
    weights: Float64Array,
    remainder: Float64Array,
    *,
    size: int,
    rank: int,
) -> tuple[NDArray[Any], Float64Array]:
    """Return the lowest values ``(c,)``, and the probabilities ``(draws, c)`` that the quantile is at or below each."""
    from scipy.special import betainc

    count = math.ceil(len(values) / size * (MIN_TAIL_VALUES + 2 * rank))
    if rank == 1:
        lowest = np.full(weights.shape[1], np.inf)
        np.minimum.at(lowest, group_index, values)
        order = np.argsort(lowest, kind="stable")
        cumulative = np.cumsum(weights[:, order], axis=1) / (weights.sum(axis=1, keepdims=True) + remainder)
        group_draws = len(lowest) * size / len(values)
        return lowest[order][:count], 1 - (1 - cumulative[:, :count]) ** group_draws
    order = np.argsort(values, kind="stable")
    value_weights = weights[:, group_index[order]]
    total = value_weights.sum(axis=1, keepdims=True) + remainder * len(values) / weights.shape[1]
    cumulative = np.cumsum(value_weights, axis=1) / total
    return values[order][:count], np.asarray(betainc(rank, size + 1 - rank, cumulative[:, :count]))


def _draw_generated_distributions(generated: GroupedValues, draws: int, rng: np.random.Generator) -> DistributionDraws:
    group_index, group_count = _index_groups(generated.groups)
    weights, prior_weights = rng.standard_gamma(1.0, (draws, group_count)), rng.standard_gamma(PRIOR_GROUPS, (draws, 2))
    sizes = np.bincount(group_index)
    total = weights @ sizes[:, None] + prior_weights.sum(axis=1, keepdims=True) * sizes.mean()
    distributions = _accumulate_weights(generated.values, weights[:, group_index], total)
    prior_share = prior_weights[:, :1] * sizes.mean() / total
    return DistributionDraws(distributions.values, distributions.cumulative_weights + prior_share)


def _accumulate_weights(values: NDArray[Any], weights: Float64Array, total_weight: Float64Array) -> DistributionDraws:
    order = np.argsort(values, kind="stable")
    sums = np.cumsum(weights[:, order], axis=1) / total_weight
    return DistributionDraws(values[order], np.concatenate([np.zeros((len(sums), 1)), sums], axis=1))


def _average_between_cuts(
    shares: Float64Array, probabilities: Float64Array, probability_above: Float64Array
) -> Float64Array:
    """Return the expected share ``(draws,)``: half way between two cuts, beyond the last cut the share at it."""
    middle = (shares[:, 1:] + shares[:, :-1]) / 2
    return np.asarray((middle * probabilities).sum(axis=1) + shares[:, -1] * probability_above)


def _index_groups(groups: NDArray[Any]) -> tuple[NDArray[np.int64], int]:
    """Return the index of each row's group, groups in the order of their first rows, and their number."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse], len(first)
