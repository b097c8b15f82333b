"""A score with cubes left out: what the jackknife evaluates, and how often it can afford to."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.pipeline.metric_inputs import MetricEvaluator, get_signed_value
from hseval.stats.jackknife import JackknifeReplicates, draw_jackknife_blocks, run_jackknife
from hseval.stats.splits import Split
from hseval.stats.variance import (
    MIN_DEGREES_OF_FREEDOM,
    MIN_DIFFERENCE_DEGREES_OF_FREEDOM,
    MIN_VARIANCE_RATIO,
    compute_degrees_of_freedom,
)
from hseval.utils.errors import NotComputable
from hseval.utils.random_streams import create_rng

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.hookspecs import ScoreParts

    Float64Array = NDArray[np.float64]
    Indices = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class ResamplingPlan:
    """How many complementary pairs of splits, blocks a side and pairs of blocks are evaluated."""

    split_pairs: int
    block_count: int
    block_pairs: int

    @classmethod
    def for_size(cls, size: int) -> ResamplingPlan:
        """Return the plan at ``size`` rows a side: about ``150 000 / size`` comparisons, a rule and never a clock.

        A comparison costs about as many microseconds as 20 times its rows (``fid``), so this takes a few seconds
        whatever the size, until the least that says anything is reached.
        """
        return cls(
            split_pairs=int(np.clip(400 // size, 1, 4)),
            block_count=24 if size <= 50 else 16 if size <= 1000 else 12,
            block_pairs=48 if size <= 50 else 36 if size <= 1000 else 18,
        )


@dataclasses.dataclass(frozen=True)
class SplitScore:
    """One split, and what its three sets scored."""

    split: Split
    value: ScoreParts
    floor: ScoreParts

    def to_array(self) -> Float64Array:
        """Return value, floor and excess, of the signed figures where the metric has them."""
        return _stack_figures(get_signed_value(self.value), get_signed_value(self.floor))


@dataclasses.dataclass(frozen=True)
class ScoreReplicates:
    """The jackknife's replicates of value, floor and excess, ``k = 3``, over some splits of a score.

    Attributes:
        jackknife_replicates: over the first ``used_splits`` splits.
        used_splits: how many these are.
        split_values: ``(s, 3)``, the same of every split.
    """

    jackknife_replicates: JackknifeReplicates
    used_splits: int
    split_values: Float64Array

    def compute_variance(self) -> Float64Array:
        """Return the variances ``(3,)`` over draws of both sets."""
        plain = (
            self.jackknife_replicates.compute_real_variance() + self.jackknife_replicates.compute_generated_variance()
        )
        return np.maximum(
            self.jackknife_replicates.compute_variance()
            - compute_finite_split_variance(self.split_values, self.used_splits),
            MIN_VARIANCE_RATIO * plain,
        )

    def compute_degrees_of_freedom(self) -> Float64Array:
        """Return their degrees of freedom ``(3,)``."""
        more = (compute_finite_split_variance(self.split_values, self.used_splits), len(self.split_values) // 2 - 1)
        fewest = np.array([MIN_DEGREES_OF_FREEDOM, MIN_DEGREES_OF_FREEDOM, MIN_DIFFERENCE_DEGREES_OF_FREEDOM])
        return compute_degrees_of_freedom(
            self.compute_variance(),
            self.jackknife_replicates.list_added_variances(),
            [*self.jackknife_replicates.list_subtracted_variances(), more],
            min_degrees=fewest,
        )


def compute_finite_split_variance(split_values: Float64Array, used_splits: int) -> Float64Array:
    """Return by how much ``(k,)`` the variance over fewer splits exceeds that over all of them.

    Complementary pairs of splits vary around what an endless number of them would give; what this adds to a mean over
    p pairs is their variance over p.

    Args:
        split_values: ``(s, k)``, figures of every split, in complementary pairs.
        used_splits: splits that the variance was estimated over.
    """
    pairs = split_values[: len(split_values) // 2 * 2].reshape(-1, 2, split_values.shape[1]).mean(axis=1)
    if len(pairs) < 2:
        return np.zeros(split_values.shape[1])
    gone: Float64Array = pairs.var(axis=0, ddof=1) * (2 / used_splits - 1 / len(pairs))
    return gone


class LeaveOutStatistic:
    """Value, floor and excess, the means over some splits, with rows left out of every split that they are in."""

    def __init__(self, evaluator: MetricEvaluator, split_scores: Sequence[SplitScore]) -> None:
        self.evaluator, self.split_scores = evaluator, split_scores

    def __call__(self, excluded_real: Indices, excluded_generated: Indices) -> Float64Array:
        """Return ``(3,)`` without some rows of either side."""
        self.inputs, self.index_map = self.evaluator.leave_out_reference(excluded_real)
        kept = (
            _make_keep_mask(len(self.evaluator.inputs.real), excluded_real),
            _make_keep_mask(len(self.evaluator.inputs.generated), excluded_generated),
        )
        found: Float64Array = np.mean([self._evaluate_split(each, *kept) for each in self.split_scores], axis=0)
        return found

    def _evaluate_split(self, split_score: SplitScore, keep_real: Any, keep_generated: Any) -> Float64Array:
        split, known = split_score.split, self.inputs is self.evaluator.inputs
        real, held, generated = (
            split.real[keep_real[split.real]],
            split.holdout[keep_real[split.holdout]],
            split.generated,
        )
        generated = generated[keep_generated[generated]]
        if not min(len(real), len(held), len(generated)):
            raise NotComputable("nothing is left of a side")
        same = known and len(real) == len(split.real)
        value, floor = get_signed_value(split_score.value), get_signed_value(split_score.floor)
        if not same or len(generated) < len(split.generated):
            value = self._compute_headline(real, self.inputs.generated.select(generated))
        if not same or len(held) < len(split.holdout):
            floor = self._compute_headline(real, self.inputs.real.select(self.index_map[held]))
        return _stack_figures(value, floor)

    def _compute_headline(self, real: Indices, other: Any) -> float:
        return self.evaluator.compute_headline(self.inputs.real.select(self.index_map[real]), other, self.inputs.train)


def compute_replicates(evaluator: MetricEvaluator, split_scores: Sequence[SplitScore]) -> ScoreReplicates:
    """Return the replicates of a score; which reference cubes are left out together depends on them and the seed."""
    plan = ResamplingPlan.for_size(len(split_scores[0].split.real))
    used = split_scores[: 2 * plan.split_pairs]
    rows, seed = evaluator.inputs, evaluator.seed
    found = run_jackknife(
        LeaveOutStatistic(evaluator, used),
        real=draw_jackknife_blocks(rows.real.groups, plan.block_count, create_rng(seed, "blocks of the reference")),
        generated=draw_jackknife_blocks(
            rows.generated.groups, plan.block_count, create_rng(seed, "blocks of the samples")
        ),
        rng=create_rng(seed, "pairs of blocks"),
        pairs=0 if split_scores[0].value.signed is not None else plan.block_pairs,
    )
    return ScoreReplicates(found, len(used), np.array([each.to_array() for each in split_scores]))


def _stack_figures(value: float, floor: float) -> Float64Array:
    return np.array([value, floor, value - floor])


def _make_keep_mask(count: int, excluded: Indices) -> NDArray[np.bool_]:
    kept = np.ones(count, dtype=bool)
    kept[excluded] = False
    return kept
