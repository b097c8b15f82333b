"""Jackknife replicates of one comparison, where leaving out a block may leave no value."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hseval.stats.jackknife import NO_INDICES, JackknifeReplicates, draw_jackknife_blocks, run_jackknife
from hseval.stats.variance import equalize_block_sizes
from hseval.utils.errors import NotComputable
from hseval.utils.random_streams import create_rng

if TYPE_CHECKING:
    from hseval.core.evaluation import MetricEvaluator
    from hseval.stats.jackknife import Indices
    from hseval.utils.arrays import Float64Array, IntArray


class MemoizedLeaveOutStatistic:
    """The value without some features; with the difference, if it is the absolute value of one; NaN: no value.

    Caches its results.
    """

    def __init__(self, evaluator: MetricEvaluator) -> None:
        inputs = evaluator.inputs
        self.evaluator = evaluator
        self.is_signed = evaluator.compute_parts(inputs.real, inputs.generated, inputs.train).signed is not None
        self._results: dict[tuple[bytes, bytes], Float64Array] = {}

    def __call__(self, real_out: Indices, generated_out: Indices) -> Float64Array:
        """Return the value without some features of each side."""
        key = (real_out.tobytes(), generated_out.tobytes())
        if key not in self._results:
            self._results[key] = self._evaluate(real_out, generated_out)
        return self._results[key]

    def _evaluate(self, real_out: Indices, generated_out: Indices) -> Float64Array:
        full = self.evaluator.inputs
        try:
            inputs, indices = self.evaluator.leave_out_reference(real_out)
            real = inputs.real.select(indices[np.delete(np.arange(len(full.real)), real_out)])
            generated = inputs.generated.select(np.delete(np.arange(len(full.generated)), generated_out))
            value = self.evaluator.compute_headline(real, generated, inputs.train)
        except NotComputable:
            if not len(real_out) and not len(generated_out):
                raise
            value = np.nan  # the remaining cubes lack something, for example a structure
        return np.array([abs(value), value] if self.is_signed else [value])


def compute_replicates(evaluator: MetricEvaluator, *, count: int, pairs: int, seed: int) -> JackknifeReplicates:
    """Return the replicates of the value and, if it is the absolute value of a difference, of the difference.

    The floor's set and the degraded set have the same groups and so the same blocks: their difference is paired. A
    block without which there is no value is NaN; :func:`hseval.qualification.dose_response.drop_missing_blocks`
    removes it.

    Args:
        evaluator: the metric with both sides' features.
        count: number of blocks of each side.
        pairs: number of pairs of blocks that are left out together.
        seed: of both.

    Raises:
        NotComputable: there is no value of the full sets.
    """
    statistic = MemoizedLeaveOutStatistic(evaluator)
    real, generated = (
        draw_jackknife_blocks(features.groups, count, create_rng(seed, f"qualify {stream}"))
        for features, stream in ((evaluator.inputs.real, "clean"), (evaluator.inputs.generated, "spoiled"))
    )
    replicates = run_jackknife(statistic, real=real, generated=generated, rng=create_rng(seed, "qualify"), pairs=pairs)
    leave_out_real = np.stack([statistic(block, NO_INDICES) for block in real])
    leave_out_generated = np.stack([statistic(NO_INDICES, block) for block in generated])
    return dataclasses.replace(
        replicates,
        real=_equalize_finite_replicates(replicates.value, leave_out_real, real),
        generated=_equalize_finite_replicates(replicates.value, leave_out_generated, generated),
    )


def _equalize_finite_replicates(
    value: Float64Array, leave_out_values: Float64Array, left_out_blocks: Sequence[IntArray]
) -> Float64Array:
    """Return the replicates that blocks of equal size would give; NaN for blocks that leave no value."""
    is_finite = np.isfinite(leave_out_values).all(axis=1)
    sizes = np.array([len(block) for block in left_out_blocks], dtype=np.float64)
    equalized = np.full_like(leave_out_values, np.nan)
    if is_finite.any():
        equalized[is_finite] = equalize_block_sizes(value, leave_out_values[is_finite], sizes[is_finite])
    return equalized
