"""Intervals of a metric that says itself what its expected value may be, by drawing it (``Metric.expected``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.data.content_hash import compute_key
from hseval.pipeline.metric_inputs import MetricEvaluator
from hseval.stats.variance import CONFIDENCE_LEVEL, compute_detectable_difference
from hseval.utils.random_streams import create_rng

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64Array = NDArray[np.float64]

POSTERIOR_DRAWS = 2000
CRITICAL_VALUE = 1.959964  # normal quantile at 97.5 %
STORED_DIGITS = 6  # of a draw that is kept in a report


def compute_posterior_intervals(
    evaluator: MetricEvaluator, *, size: int, value: float
) -> tuple[Float64Array, dict[str, Any]]:
    """Return the intervals ``(2, 2)`` of the value and of its excess over the floor, and what goes with them.

    Args:
        evaluator: the metric, which has ``expected``, with its rows.
        size: cubes a side.
        value: the estimate.
    """
    own = f"samples {compute_key(evaluator.inputs.generated.hashes.tolist())}"
    found = _draw_expected(evaluator, size, own)
    excess = found[:, 0] - found[:, 1]
    # Draws of two generators share the reference's part, and nothing of their own.
    other = _draw_expected(evaluator, size, "other samples")
    beyond = float(np.mean(excess > 0)), float(np.mean(excess < 0))
    generated = float(np.var(found[:, 0] - other[:, 0])) / 2
    real, score = max(float(np.var(found[:, 0])) - generated, 0.0), float(found[:, 0].mean())
    count = len(evaluator.inputs.generated)
    details = {
        "p_value": min(1.0, 2 * max(min(beyond), 1 / POSTERIOR_DRAWS)),
        "samples": count,
        "smallest_difference": compute_detectable_difference(
            generated, real, CRITICAL_VALUE, score=score
        ),  # a larger share varies more, too
        "smallest_difference_at_4n": compute_detectable_difference(generated / 4, real, CRITICAL_VALUE, score=score),
        "resamples": {"draws": [float(f"{each:.{STORED_DIGITS}g}") for each in found[:, 0]]},
    }
    tails = (0.5 - CONFIDENCE_LEVEL / 2, 0.5 + CONFIDENCE_LEVEL / 2)
    low, high = np.quantile(np.stack([found[:, 0], excess], axis=1), tails, axis=0)
    if value == 0.0:  # nothing speaks for more than 0
        low = np.array([0.0, np.quantile(-found[:, 1], tails[0])])
    return np.stack([low, high], axis=1), details


def _draw_expected(evaluator: MetricEvaluator, size: int, samples_label: str) -> Float64Array:
    """Return draws ``(DRAWS, 2)`` of the expected value and floor; samples that are named alike share theirs."""
    rows, name = evaluator.inputs, evaluator.metric.name
    rngs = create_rng(evaluator.seed, f"{name} reference"), create_rng(evaluator.seed, f"{name} {samples_label}")
    found: Float64Array = evaluator.metric.expected(  # type: ignore[attr-defined]
        real=rows.real, generated=rows.generated, size=size, draws=POSTERIOR_DRAWS, rngs=rngs
    )
    return found
