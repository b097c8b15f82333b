"""Intervals of a metric that draws its expected value itself (``expected``)."""

from __future__ import annotations

import dataclasses

import numpy as np

from hseval.core.capabilities import SupportsExpected
from hseval.core.evaluation import MetricEvaluator
from hseval.core.score_records import DetectableDifference
from hseval.data.content_hash import compute_key
from hseval.stats.variance import CONFIDENCE_LEVEL, compute_detectable_difference
from hseval.utils.arrays import Float64Array
from hseval.utils.random_streams import create_rng

POSTERIOR_DRAWS = 2000
CRITICAL_VALUE = 1.959964  # normal quantile at 97.5 %
STORED_DIGITS = 6  # significant digits of a draw in a report


@dataclasses.dataclass(frozen=True)
class PosteriorIntervals:
    """What draws of the expected value give.

    Attributes:
        intervals: ``(2, 2)``, of the value and of its excess over the floor.
        p_value: two-sided, that the excess is 0.
        detectable: the smallest detectable difference.
        draws: of the expected value, rounded for a report.
    """

    intervals: Float64Array
    p_value: float
    detectable: DetectableDifference
    draws: tuple[float, ...]


def compute_posterior_intervals(evaluator: MetricEvaluator, *, size: int, value: float) -> PosteriorIntervals:
    """Return the intervals of a metric that has ``expected``.

    Args:
        evaluator: the metric, which has ``expected``, with its inputs.
        size: cubes per side.
        value: the estimate.
    """
    label = f"samples {compute_key(evaluator.inputs.generated.hashes.tolist())}"
    draws = _draw_expected(evaluator, size, label)
    excess = draws[:, 0] - draws[:, 1]
    # Draws for two generators share the reference's stream only.
    other_draws = _draw_expected(evaluator, size, "other samples")
    tail_shares = float(np.mean(excess > 0)), float(np.mean(excess < 0))
    generated_variance = float(np.var(draws[:, 0] - other_draws[:, 0])) / 2
    real_variance, score = max(float(np.var(draws[:, 0])) - generated_variance, 0.0), float(draws[:, 0].mean())
    detectable = DetectableDifference(
        len(evaluator.inputs.generated),
        # The variance of a share grows with it.
        compute_detectable_difference(generated_variance, real_variance, CRITICAL_VALUE, score=score),
        compute_detectable_difference(generated_variance / 4, real_variance, CRITICAL_VALUE, score=score),
    )
    tails = (0.5 - CONFIDENCE_LEVEL / 2, 0.5 + CONFIDENCE_LEVEL / 2)
    low, high = np.quantile(np.stack([draws[:, 0], excess], axis=1), tails, axis=0)
    if value == 0.0:  # no sample is below the quantile: the interval starts at 0
        low = np.array([0.0, np.quantile(-draws[:, 1], tails[0])])
    return PosteriorIntervals(
        intervals=np.stack([low, high], axis=1),
        p_value=min(1.0, 2 * max(min(tail_shares), 1 / POSTERIOR_DRAWS)),
        detectable=detectable,
        draws=tuple(float(f"{draw:.{STORED_DIGITS}g}") for draw in draws[:, 0]),
    )


def _draw_expected(evaluator: MetricEvaluator, size: int, samples_label: str) -> Float64Array:
    """Return draws ``(POSTERIOR_DRAWS, 2)`` of expected value and floor; the label names the samples' stream."""
    inputs, metric = evaluator.inputs, evaluator.metric
    assert isinstance(metric, SupportsExpected)
    first, second = (create_rng(evaluator.seed, f"{metric.name} {label}") for label in ("reference", samples_label))
    draws = metric.expected(
        real=inputs.real, generated=inputs.generated, size=size, draws=POSTERIOR_DRAWS, rngs=(first, second)
    )
    if draws.shape != (POSTERIOR_DRAWS, 2) or not np.isfinite(draws).all():
        raise ValueError(f"expected returned {draws.shape} values, not all ({POSTERIOR_DRAWS}, 2) of them finite")
    return draws
