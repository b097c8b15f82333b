"""Sets that lack variety: dropped modes, mode collapse, duplicates. Every single cube stays real."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hseval.degradations.base import SetDegradation

if TYPE_CHECKING:
    from hseval.utils.arrays import Array, IntArray
    from hseval.utils.random_streams import Rng


class ModeDropping(SetDegradation):
    """One end of the leading principal axis is missing."""

    name = "mode-dropped"
    summary = "cubes at one end of the leading principal axis replaced by others: a mode is missing"
    unit = "% of cubes"
    severities = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 70.0)

    def pick(self, features: Array, severity: float, rng: Rng) -> IntArray:
        """Return indices of cubes: those at the far end of the axis are replaced by random ones of the rest."""
        end = 1.0 if rng.random() < 0.5 else -1.0
        return _replace_tail(np.argsort(end * compute_leading_component(features), kind="stable"), severity, rng)


class ModeCollapse(SetDegradation):
    """All samples come from the neighborhood of one cube."""

    name = "collapse"
    summary = "cubes far from one of them replaced by near ones: all samples are few and alike"
    unit = "% of distinct cubes lost"
    severities = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 97.0)

    def pick(self, features: Array, severity: float, rng: Rng) -> IntArray:
        """Return indices of cubes: those far from a random one are replaced by random ones of those near it."""
        values = standardize(features)
        distances = ((values - values[rng.integers(len(values))]) ** 2).sum(axis=1)
        return _replace_tail(np.argsort(distances, kind="stable"), severity, rng)


class SampleDuplication(SetDegradation):
    """Samples that repeat others."""

    name = "duplicates"
    summary = "samples that repeat others, drawn at random"
    unit = "% of samples"
    severities = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 80.0, 95.0)

    def pick(self, features: Array, severity: float, rng: Rng) -> IntArray:
        """Return indices of cubes: randomly selected ones are replaced by random ones of the rest."""
        return _replace_tail(rng.permutation(len(features)), severity, rng)


def compute_leading_component(features: Array) -> Array:
    """Return each cube's coordinate along the leading principal axis of the standardized features, ``(n,)``."""
    values = standardize(features)
    _, vectors = np.linalg.eigh(values @ values.T)
    return vectors[:, -1]


def standardize(features: Array) -> Array:
    """Return features with mean 0 and standard deviation 1 in each column; constant columns become 0."""
    centered = np.asarray(features, dtype=np.float64) - np.mean(features, axis=0)
    std = centered.std(axis=0)
    varies = std > 1e-12 * np.abs(features).max()
    return np.asarray(np.divide(centered, std, out=np.zeros_like(centered), where=varies))


def _replace_tail(order: IntArray, severity: float, rng: Rng) -> IntArray:
    """Replace the last ``severity`` % of indices in an order by random ones of the others; at least one remains.

    Every index has a draw of its own, scaled to the number of the remaining ones: a higher severity moves replacements
    a little and draws none anew. Draws are stratified, so that the remaining ones repeat about equally often.
    """
    count = len(order)
    lost = min(round(severity / 100 * count), count - 1)
    remaining = count - lost
    positions = (rng.permutation(count) + rng.random(count)) / count  # one in each n-th of 0 to 1, in random order
    picks = np.arange(count, dtype=np.int64)
    picks[order[remaining:]] = order[(positions[remaining:] * remaining).astype(np.int64)]
    return picks
