"""Replicates of a score with cubes left out, and how many of them the jackknife evaluates."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.core.evaluation import MetricEvaluator
from hseval.core.protocols import ScoreParts
from hseval.stats.jackknife import JackknifeReplicates, draw_jackknife_blocks, run_jackknife
from hseval.stats.splits import Split
from hseval.stats.variance import (
    MIN_DEGREES_OF_FREEDOM,
    MIN_DIFFERENCE_DEGREES_OF_FREEDOM,
    MIN_VARIANCE_RATIO,
    compute_degrees_of_freedom,
)
from hseval.utils.arrays import Float64Array
from hseval.utils.errors import NotComputable
from hseval.utils.random_streams import create_rng

Indices = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class ResamplingPlan:
    """How many complementary pairs of splits, blocks per side and pairs of blocks are evaluated."""

    split_pairs: int
    block_count: int
    block_pairs: int

    @classmethod
    def for_size(cls, size: int) -> ResamplingPlan:
        """Return the plan at ``size`` rows per side: about ``150 000 / size`` comparisons, whatever the machine.

        A comparison takes about 20 microseconds a row (``fid``), so that this takes a few seconds at any size, until
        the smallest useful plan is reached.
        """
        return cls(
            split_pairs=int(np.clip(400 // size, 1, 4)),
            block_count=24 if size <= 50 else 16 if size <= 1000 else 12,
            block_pairs=48 if size <= 50 else 36 if size <= 1000 else 18,
        )


@dataclasses.dataclass(frozen=True)
class SplitScore:
    """The value and the floor of one split."""

    split: Split
    value: ScoreParts
    floor: ScoreParts

    def to_array(self) -> Float64Array:
        """Return value, floor and excess, of the signed figures where the metric has them."""
        return _stack_figures(self.value.signed_value, self.floor.signed_value)


@dataclasses.dataclass(frozen=True)
class ScoreReplicates:
    """The jackknife's replicates of value, floor and excess, ``k = 3``, over some splits of a score.

    Attributes:
        jackknife_replicates: over the first ``used_splits`` splits.
        used_splits: their number.
        split_values: ``(s, 3)``, the same of every split.
    """

    jackknife_replicates: JackknifeReplicates
    used_splits: int
    split_values: Float64Array

    def compute_variance(self) -> Float64Array:
        """Return the variances ``(3,)`` over draws of both sets."""
        jack = self.jackknife_replicates
        plain = jack.compute_real_variance() + jack.compute_generated_variance()
        finite_splits = compute_finite_split_variance(self.split_values, self.used_splits)
        return np.maximum(jack.compute_variance() - finite_splits, MIN_VARIANCE_RATIO * plain)

    def compute_degrees_of_freedom(self) -> Float64Array:
        """Return their degrees of freedom ``(3,)``."""
        finite_splits = compute_finite_split_variance(self.split_values, self.used_splits)
        subtracted = [
            *self.jackknife_replicates.list_subtracted_variances(),
            (finite_splits, len(self.split_values) // 2 - 1),
        ]
        min_degrees = np.array([MIN_DEGREES_OF_FREEDOM, MIN_DEGREES_OF_FREEDOM, MIN_DIFFERENCE_DEGREES_OF_FREEDOM])
        return compute_degrees_of_freedom(
            self.compute_variance(),
            self.jackknife_replicates.list_added_variances(),
            subtracted,
            min_degrees=min_degrees,
        )


def compute_finite_split_variance(split_values: Float64Array, used_splits: int) -> Float64Array:
    """Return by how much ``(k,)`` the variance over fewer splits exceeds that over all of them.

    Complementary pairs of splits vary around the mean of infinitely many; a mean over p pairs has their variance
    divided by p more.

    Args:
        split_values: ``(s, k)``, figures of every split, in complementary pairs.
        used_splits: splits that the variance was estimated over.
    """
    pairs = split_values[: len(split_values) // 2 * 2].reshape(-1, 2, split_values.shape[1]).mean(axis=1)
    if len(pairs) < 2:
        return np.zeros(split_values.shape[1])
    excess_variance: Float64Array = pairs.var(axis=0, ddof=1) * (2 / used_splits - 1 / len(pairs))
    return excess_variance


class LeaveOutStatistic:
    """Value, floor and excess, the means over some splits, with rows left out of every split that they are in."""

    def __init__(self, evaluator: MetricEvaluator, split_scores: Sequence[SplitScore]) -> None:
        self.evaluator, self.split_scores = evaluator, split_scores

    def __call__(self, excluded_real: Indices, excluded_generated: Indices) -> Float64Array:
        """Return ``(3,)`` without some rows of either side."""
        self.inputs, self.index_map = self.evaluator.leave_out_reference(excluded_real)
        keep_masks = []
        for features, excluded in (
            (self.evaluator.inputs.real, excluded_real),
            (self.evaluator.inputs.generated, excluded_generated),
        ):
            keep_masks.append(np.ones(len(features), dtype=bool))
            keep_masks[-1][excluded] = False
        figures = [self._evaluate_split(split_score, *keep_masks) for split_score in self.split_scores]
        return np.asarray(np.mean(figures, axis=0))

    def _evaluate_split(self, split_score: SplitScore, keep_real: Any, keep_generated: Any) -> Float64Array:
        split, is_reference_whole = split_score.split, self.inputs is self.evaluator.inputs
        real, holdout = (indices[keep_real[indices]] for indices in (split.real, split.holdout))
        generated = split.generated[keep_generated[split.generated]]
        if not min(len(real), len(holdout), len(generated)):
            raise NotComputable("no cube of a side is left")
        is_real_whole = is_reference_whole and len(real) == len(split.real)
        value, floor = split_score.value.signed_value, split_score.floor.signed_value
        if not is_real_whole or len(generated) < len(split.generated):
            value = self._compute_headline(real, self.inputs.generated.select(generated))
        if not is_real_whole or len(holdout) < len(split.holdout):
            floor = self._compute_headline(real, self.inputs.real.select(self.index_map[holdout]))
        return _stack_figures(value, floor)

    def _compute_headline(self, real: Indices, other: Any) -> float:
        return self.evaluator.compute_headline(self.inputs.real.select(self.index_map[real]), other, self.inputs.train)


def compute_replicates(evaluator: MetricEvaluator, split_scores: Sequence[SplitScore]) -> ScoreReplicates:
    """Return the replicates of a score; the reference's blocks depend only on its cubes and the seed."""
    plan = ResamplingPlan.for_size(len(split_scores[0].split.real))
    used = split_scores[: 2 * plan.split_pairs]
    inputs, seed = evaluator.inputs, evaluator.seed
    replicates = run_jackknife(
        LeaveOutStatistic(evaluator, used),
        real=draw_jackknife_blocks(inputs.real.groups, plan.block_count, create_rng(seed, "blocks of the reference")),
        generated=draw_jackknife_blocks(
            inputs.generated.groups, plan.block_count, create_rng(seed, "blocks of the samples")
        ),
        rng=create_rng(seed, "pairs of blocks"),
        pairs=0 if split_scores[0].value.signed is not None else plan.block_pairs,
    )
    return ScoreReplicates(replicates, len(used), np.array([split_score.to_array() for split_score in split_scores]))


def _stack_figures(value: float, floor: float) -> Float64Array:
    return np.array([value, floor, value - floor])
