"""Intervals of a metric that says itself what its expected value may be, by drawing it (``Metric.expected``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.data.content_hash import key
from hseval.pipeline.metric_inputs import Comparable
from hseval.stats.variance import LEVEL, smallest_difference
from hseval.utils.random_streams import stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

DRAWS = 2000
REACH = 1.959964  # normal quantile at 97.5 %
DIGITS = 6  # of a draw that is kept in a report


def spans(comparable: Comparable, *, size: int, value: float) -> tuple[Floats, dict[str, Any]]:
    """Return the intervals ``(2, 2)`` of the value and of its excess over the floor, and what goes with them.

    Args:
        comparable: the metric, which has ``expected``, with its rows.
        size: cubes a side.
        value: the estimate.
    """
    own = f"samples {key(comparable.rows.fake.hashes.tolist())}"
    found = _draws(comparable, size, own)
    excess = found[:, 0] - found[:, 1]
    # Draws of two generators share the reference's part, and nothing of their own.
    other = _draws(comparable, size, "other samples")
    beyond = float(np.mean(excess > 0)), float(np.mean(excess < 0))
    fake = float(np.var(found[:, 0] - other[:, 0])) / 2
    real, score = max(float(np.var(found[:, 0])) - fake, 0.0), float(found[:, 0].mean())
    count = len(comparable.rows.fake)
    details = {
        "p_value": min(1.0, 2 * max(min(beyond), 1 / DRAWS)),
        "samples": count,
        "smallest_difference": smallest_difference(fake, real, REACH, score=score),  # a larger share varies more, too
        "smallest_difference_at_4n": smallest_difference(fake / 4, real, REACH, score=score),
        "resamples": {"draws": [float(f"{each:.{DIGITS}g}") for each in found[:, 0]]},
    }
    tails = (0.5 - LEVEL / 2, 0.5 + LEVEL / 2)
    low, high = np.quantile(np.stack([found[:, 0], excess], axis=1), tails, axis=0)
    if value == 0.0:  # nothing speaks for more than 0
        low = np.array([0.0, np.quantile(-found[:, 1], tails[0])])
    return np.stack([low, high], axis=1), details


def _draws(comparable: Comparable, size: int, which: str) -> Floats:
    """Return draws ``(DRAWS, 2)`` of the expected value and floor; samples that are named alike share theirs."""
    rows, name = comparable.rows, comparable.metric.name
    rngs = stream(comparable.seed, f"{name} reference"), stream(comparable.seed, f"{name} {which}")
    found: Floats = comparable.metric.expected(  # type: ignore[attr-defined]
        real=rows.real, fake=rows.fake, size=size, draws=DRAWS, rngs=rngs
    )
    return found
