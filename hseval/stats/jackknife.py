"""The grouped jackknife of two sets: the variance of a score over draws of both.

Blocks of whole groups are left out one at a time (Quenouille 1956, Tukey 1958), over both sets. Near its floor a
distance is degenerate: the effects of single cubes vanish, and those of pairs dominate. The jackknife counts these
second-order effects twice (Efron and Stein 1981, "The jackknife estimate of variance", section 4). They are estimated
from second differences on a seeded subset of pairs of blocks, and subtracted once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.stats.variance import (
    CONFIDENCE_LEVEL,
    MIN_VARIANCE_RATIO,
    VarianceEstimate,
    compute_block_variance,
    compute_degrees_of_freedom,
    compute_pair_variance,
    compute_t_quantile,
    equalize_block_sizes,
)
from hseval.utils.arrays import Float64Array

Indices = NDArray[np.int64]
Statistic = Callable[["Indices", "Indices"], "Float64Array"]
NO_INDICES = np.empty(0, dtype=np.int64)
MIN_PAIRED_BLOCKS = 8  # fewest blocks of a side at which pairs of them are left out


@dataclasses.dataclass(frozen=True)
class JackknifeReplicates:
    """Replicates of ``k`` numbers.

    Attributes:
        value: ``(k,)``, nothing left out.
        real: ``(g, k)``, one block of the real side left out.
        generated: ``(h, k)``, one block of the other side left out.
        real_pairs: ``(p, k)``, second-order effects of random pairs of blocks of the real side; None: not known.
        generated_pairs: ``(p, k)``, the same of the other side.
        cross_pairs: ``(p, k)``, the same of pairs with a block of each side.
    """

    value: Float64Array
    real: Float64Array
    generated: Float64Array
    real_pairs: Float64Array | None = None
    generated_pairs: Float64Array | None = None
    cross_pairs: Float64Array | None = None

    def compute_real_variance(self) -> Float64Array:
        """Return the real side's part of the plain jackknife variance, ``(k,)``."""
        return compute_block_variance(self.real)

    def compute_generated_variance(self) -> Float64Array:
        """Return the other side's part of the plain jackknife variance, ``(k,)``."""
        return compute_block_variance(self.generated)

    def compute_second_order_variances(self) -> tuple[Float64Array, Float64Array, Float64Array]:
        """Return the second-order variances ``(k,)`` within the real side, within the other, and across."""
        g, h = len(self.real), len(self.generated)
        zeros = np.zeros_like(self.value)
        return (
            zeros + compute_pair_variance(self.real_pairs, g * (g - 1) / 2),
            zeros + compute_pair_variance(self.generated_pairs, h * (h - 1) / 2),
            zeros + compute_pair_variance(self.cross_pairs, g * h),
        )

    def compute_variance(self) -> Float64Array:
        """Return the variances ``(k,)`` over draws of both sets; at least ``MIN_VARIANCE_RATIO`` of the plain ones."""
        plain = self.compute_real_variance() + self.compute_generated_variance()
        return np.maximum(plain - sum(self.compute_second_order_variances()), MIN_VARIANCE_RATIO * plain)

    def compute_degrees_of_freedom(self) -> Float64Array:
        """Return the degrees of freedom ``(k,)`` of the variances: fewer, the larger the correction."""
        return compute_degrees_of_freedom(
            self.compute_variance(), self.list_added_variances(), self.list_subtracted_variances()
        )

    def list_added_variances(self) -> list[VarianceEstimate]:
        """Return the variances that are added."""
        sides = (self.compute_real_variance(), len(self.real)), (self.compute_generated_variance(), len(self.generated))
        return [(variance, count - 1) for variance, count in sides]

    def list_subtracted_variances(self) -> list[VarianceEstimate]:
        """Return the variances that are subtracted."""
        pair_effects = (self.real_pairs, self.generated_pairs, self.cross_pairs)
        estimates = zip(self.compute_second_order_variances(), pair_effects, strict=True)
        return [(variance, len(effects)) for variance, effects in estimates if effects is not None]

    def compute_interval(self) -> Float64Array:
        """Return the intervals ``(k, 2)`` by Student's t."""
        quantiles = compute_t_quantile(CONFIDENCE_LEVEL, self.compute_degrees_of_freedom())
        half_widths = quantiles * np.sqrt(self.compute_variance())
        return np.stack([self.value - half_widths, self.value + half_widths], axis=1)


def draw_jackknife_blocks(groups: NDArray[Any], count: int, rng: np.random.Generator) -> list[Indices]:
    """Return at most ``count`` blocks of rows of nearly equal size; no group is in two blocks.

    Blocks depend on the order of the rows and on ``rng``, not on the names of groups.
    """
    _, inverse = np.unique(groups, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(inverse))[:-1])
    members.sort(key=lambda indices: int(indices[0]))
    blocks: list[list[int]] = [[] for _ in range(min(count, len(members)))]
    for index in rng.permutation(len(members)):
        min(blocks, key=len).extend(members[index].tolist())
    return [np.sort(np.array(block, dtype=np.int64)) for block in blocks]


def run_jackknife(
    statistic: Statistic,
    *,
    real: Sequence[Indices],
    generated: Sequence[Indices],
    rng: np.random.Generator,
    pairs: int = 64,
) -> JackknifeReplicates:
    """Evaluate ``statistic(real_out, generated_out)`` on all rows, without each block, and without pairs of blocks.

    Args:
        statistic: gets row indices to leave out on each side (empty: none), returns ``(k,)``. It may be a mean, a
            distance, or their difference; it depends on each side's rows through averages, so that it is smooth.
        real: the real side's blocks, at least 2; or none, if that side is fixed.
        generated: the other side's, likewise.
        rng: draws the pairs of blocks.
        pairs: number of evaluations for the second differences; 0: the plain jackknife.
    """
    value = np.asarray(statistic(NO_INDICES, NO_INDICES), dtype=np.float64)
    width = len(value)
    without_real = _stack_replicates([statistic(block, NO_INDICES) for block in real], width)
    without_generated = _stack_replicates([statistic(NO_INDICES, block) for block in generated], width)
    g, h = len(real), len(generated)
    both = bool(g and h)
    pair_count = pairs // 3 if both else pairs
    real_effects = _compute_pair_effects(
        value,
        without_real,
        _draw_block_pairs(g, pair_count, rng),
        lambda i, j: statistic(np.concatenate([real[i], real[j]]), NO_INDICES),
    )
    generated_effects = _compute_pair_effects(
        value,
        without_generated,
        _draw_block_pairs(h, pair_count, rng),
        lambda i, j: statistic(NO_INDICES, np.concatenate([generated[i], generated[j]])),
    )
    # A block is 1 / g of its side; the factor removes what leaving it out adds to all other pairs.
    scale = np.sqrt((1 - 1 / g) * (1 - 1 / h)) if both else 0.0
    cross_pairs = [divmod(int(index), h) for index in rng.permutation(g * h)[:pair_count]] if both else []
    cross_effects = [
        scale * (value - without_real[i] - without_generated[j] + statistic(real[i], generated[j]))
        for i, j in cross_pairs
    ]
    sizes = [np.array([len(block) for block in side], dtype=np.float64) for side in (real, generated)]
    level_real, level_generated = (
        equalize_block_sizes(value, replicates, size)
        for replicates, size in zip((without_real, without_generated), sizes, strict=True)
    )
    return JackknifeReplicates(
        value, level_real, level_generated, real_effects, generated_effects, _stack_replicates(cross_effects, width)
    )


def _compute_pair_effects(
    value: Float64Array,
    block_replicates: Float64Array,
    block_pairs: Sequence[tuple[int, int]],
    leave_out_pair: Callable[[int, int], Float64Array],
) -> Float64Array:
    """Return ``(g t - (g - 1) (t_j + t_k) + (g - 2) t_jk) / g`` of pairs of blocks.

    Unlike the plain second difference it is 0 for statistics that are linear, or that fall as one over the size (Efron
    and Stein 1981, equation 4.3: their Q).
    """
    g = len(block_replicates)
    effects = [
        (g * value - (g - 1) * (block_replicates[j] + block_replicates[k]) + (g - 2) * leave_out_pair(j, k)) / g
        for j, k in block_pairs
    ]
    return _stack_replicates(effects, len(value))


def _draw_block_pairs(count: int, max_pairs: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Return distinct pairs of ``count`` blocks; none of few, of which a split without two would use too few."""
    if count < MIN_PAIRED_BLOCKS:
        return []
    first, second = np.triu_indices(count, 1)
    sampled = rng.permutation(len(first))[:max_pairs]
    return [(int(first[index]), int(second[index])) for index in sampled]


def _stack_replicates(replicates: Sequence[Any], width: int) -> Float64Array:
    return np.array(replicates, dtype=np.float64).reshape(len(replicates), width)
