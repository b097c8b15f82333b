"""What the data say of a share beyond an extreme quantile of other data: draws of its expected value.

A share of samples below the lowest of m held-out distances hangs on a few cubes, and no jackknife sees how far it would
move. Both sides' distributions are drawn instead, as in the Bayesian bootstrap (Rubin 1981) over groups: the sorted
held-out distances cut the unit interval at random places (of n draws they are those of uniform order statistics,
whatever the distribution), samples weigh as a Dirichlet draw says, half a group more below and above all of them
(Jeffreys). Each pair of distributions has its own expected share, computed exactly.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64Array = NDArray[np.float64]

PRIOR_GROUPS = 0.5  # groups of samples put below, and above, all others
MIN_TAIL_VALUES = 20  # of ``size`` values, this many and two for each rank decide: beyond them the chance is about 1e-9
DRAWS_PER_CHUNK = (
    100  # draws held in memory at a time, always: a reference's stream must not depend on the samples' number
)


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
        size: real values that the quantile is taken of; they come in whole groups.
        rank: 1 for the smallest; above 1, groups are taken to spread over the ranks as their cubes do.
        draws: how many.
        rngs: of the real side (shared by all samples that are held against it), and of the samples.
        always_below: values up to this count as below, whatever the quantile.
    """
    chunks = [min(DRAWS_PER_CHUNK, draws - start) for start in range(0, draws, DRAWS_PER_CHUNK)]
    return np.concatenate(
        [
            _draw_shares_chunk(real, generated, size=size, rank=rank, draws=count, rngs=rngs, always_below=always_below)
            for count in chunks
        ]
    )


def _draw_shares_chunk(
    real: GroupedValues,
    generated: GroupedValues,
    *,
    size: int,
    rank: int,
    draws: int,
    rngs: tuple[np.random.Generator, np.random.Generator],
    always_below: float,
) -> Float64Array:
    place, groups = _index_groups(real.groups)
    weights, rest = rngs[0].standard_gamma(1.0, (draws, groups)), rngs[0].standard_gamma(1.0, (draws, 1))
    least = np.nextafter(always_below, np.inf)
    raised = np.maximum(real.values, least)
    cuts, reached = _compute_quantile_cdf(raised, place, weights, rest, size=size, rank=rank)
    chance = np.diff(reached, axis=1, prepend=0.0)
    above = 1 - reached[:, -1]
    sizes = np.bincount(place)
    own = _accumulate_weights(real.values, weights[:, place], weights @ sizes[:, None] + rest * sizes.mean())
    others = _draw_generated_distributions(generated, draws, rngs[1])
    first = np.array([least])
    return np.stack(
        [
            _average_between_cuts(
                np.concatenate([others.share_below(first), others.share_below(cuts)], axis=1), chance, above
            ),
            _average_between_cuts(
                np.concatenate([own.share_below(first), own.share_up_to(cuts)], axis=1), chance, above
            ),
        ],
        axis=1,
    )


@dataclasses.dataclass(frozen=True)
class DistributionDraws:
    """Drawn distributions: sorted values ``(n,)`` and their weights' sums ``(draws, n + 1)``, the first below all."""

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
    """Return the lowest values ``(c,)``, and the chance ``(draws, c)`` that the quantile is at or below each."""
    from scipy.special import betainc

    kept = math.ceil(len(values) / size * (MIN_TAIL_VALUES + 2 * rank))
    if rank == 1:
        lowest = np.full(weights.shape[1], np.inf)
        np.minimum.at(lowest, group_index, values)
        order = np.argsort(lowest, kind="stable")
        upto = np.cumsum(weights[:, order], axis=1) / (weights.sum(axis=1, keepdims=True) + remainder)
        drawn = len(lowest) * size / len(values)
        return lowest[order][:kept], 1 - (1 - upto[:, :kept]) ** drawn
    order = np.argsort(values, kind="stable")
    each = weights[:, group_index[order]]
    upto = np.cumsum(each, axis=1) / (each.sum(axis=1, keepdims=True) + remainder * len(values) / weights.shape[1])
    return values[order][:kept], np.asarray(betainc(rank, size + 1 - rank, upto[:, :kept]))


def _draw_generated_distributions(generated: GroupedValues, draws: int, rng: np.random.Generator) -> DistributionDraws:
    place, groups = _index_groups(generated.groups)
    weights, more = rng.standard_gamma(1.0, (draws, groups)), rng.standard_gamma(PRIOR_GROUPS, (draws, 2))
    sizes = np.bincount(place)
    total = weights @ sizes[:, None] + more.sum(axis=1, keepdims=True) * sizes.mean()
    found = _accumulate_weights(generated.values, weights[:, place], total)
    return DistributionDraws(found.values, found.cumulative_weights + more[:, :1] * sizes.mean() / total)


def _accumulate_weights(values: NDArray[Any], weights: Float64Array, total_weight: Float64Array) -> DistributionDraws:
    order = np.argsort(values, kind="stable")
    sums = np.cumsum(weights[:, order], axis=1) / total_weight
    return DistributionDraws(values[order], np.concatenate([np.zeros((len(sums), 1)), sums], axis=1))


def _average_between_cuts(
    shares: Float64Array, probabilities: Float64Array, probability_above: Float64Array
) -> Float64Array:
    """Return the expected share ``(draws,)``: between two cuts it lies half way, beyond the last as at it."""
    middle = (shares[:, 1:] + shares[:, :-1]) / 2
    return np.asarray((middle * probabilities).sum(axis=1) + shares[:, -1] * probability_above)


def _index_groups(groups: NDArray[Any]) -> tuple[NDArray[np.int64], int]:
    """Return the place of each row's group, groups in the order of their first rows whatever they are called."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse], len(first)
