"""The jackknife's replicates of one comparison, where some blocks may leave no value."""

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
    from numpy.typing import NDArray

    from hseval.pipeline.metric_inputs import MetricEvaluator
    from hseval.stats.jackknife import Float64Array, Indices


class MemoizedLeaveOutStatistic:
    """The value without some rows, and where it is the absolute value of a difference that too; NaN: there is none.

    Remembers what it has been asked.
    """

    def __init__(self, inputs: MetricEvaluator) -> None:
        rows = inputs.inputs
        self.inputs = inputs
        self.is_signed = inputs.compute_parts(rows.real, rows.generated, rows.train).signed is not None
        self._evaluated: dict[tuple[bytes, bytes], Float64Array] = {}

    def __call__(self, real_out: Indices, generated_out: Indices) -> Float64Array:
        """Return the value without some rows of each side."""
        name = (real_out.tobytes(), generated_out.tobytes())
        if name not in self._evaluated:
            self._evaluated[name] = self._evaluate(real_out, generated_out)
        return self._evaluated[name]

    def _evaluate(self, real_out: Indices, generated_out: Indices) -> Float64Array:
        whole = self.inputs.inputs
        try:
            rows, places = self.inputs.leave_out_reference(real_out)
            real = rows.real.select(places[np.delete(np.arange(len(whole.real)), real_out)])
            generated = rows.generated.select(np.delete(np.arange(len(whole.generated)), generated_out))
            found = self.inputs.compute_headline(real, generated, rows.train)
        except NotComputable:
            if not len(real_out) and not len(generated_out):
                raise
            found = np.nan  # what is left lacks something (a structure, say)
        return np.array([abs(found), found] if self.is_signed else [found])


def compute_replicates(inputs: MetricEvaluator, *, count: int, pairs: int, seed: int) -> JackknifeReplicates:
    """Return the replicates of the value and, where it is the absolute value of a difference, of that.

    Blocks are the same for the floor's and the spoiled set, as their groups are: their difference is paired. Blocks
    without which there is no value are NaN (:func:`hseval.qualification.dose_response.drop_missing_blocks` leaves them out).

    Args:
        inputs: the metric with both sides' rows.
        count: blocks of each side.
        pairs: of blocks, left out together.
        seed: of both.

    Raises:
        NotComputable: there is no value of all rows.
    """
    statistic = MemoizedLeaveOutStatistic(inputs)
    real, generated = (
        draw_jackknife_blocks(rows.groups, count, create_rng(seed, f"qualify {side}"))
        for rows, side in ((inputs.inputs.real, "clean"), (inputs.inputs.generated, "spoiled"))
    )
    found = run_jackknife(statistic, real=real, generated=generated, rng=create_rng(seed, "qualify"), pairs=pairs)
    left_real = np.stack([statistic(block, NO_INDICES) for block in real])
    left_generated = np.stack([statistic(NO_INDICES, block) for block in generated])
    return dataclasses.replace(
        found,
        real=_equalize_finite_replicates(found.value, left_real, real),
        generated=_equalize_finite_replicates(found.value, left_generated, generated),
    )


def _equalize_finite_replicates(
    value: Float64Array, leave_out_values: Float64Array, left_out_blocks: Sequence[NDArray[np.int64]]
) -> Float64Array:
    """Return the replicates that blocks of equal size would give, of the blocks that leave a value."""
    have = np.isfinite(leave_out_values).all(axis=1)
    sizes = np.array([len(block) for block in left_out_blocks], dtype=np.float64)
    found = np.full_like(leave_out_values, np.nan)
    if have.any():
        found[have] = equalize_block_sizes(value, leave_out_values[have], sizes[have])
    return found
