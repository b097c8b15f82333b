"""Sets that lack variety: dropped modes, mode collapse, duplicates. Every single cube stays real."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hseval.degradations.base import DegradationKind, UnrestrictedDegradation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64Array = NDArray[np.float64]
    IndexArray = NDArray[np.int64]


class ModeDropping(UnrestrictedDegradation):
    """One end of the leading principal axis is missing."""

    name: ClassVar[str] = "mode-dropped"
    summary: ClassVar[str] = "cubes at one end of the leading principal axis replaced by others: a mode is missing"
    kind: ClassVar[DegradationKind] = "set"
    unit: ClassVar[str] = "% of cubes"
    severities: ClassVar[tuple[float, ...]] = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 70.0)

    def pick(self, features: Float64Array, severity: float, rng: np.random.Generator) -> IndexArray:
        """Return indices of cubes: those at the far end of the axis are replaced by random ones of the rest."""
        end = 1.0 if rng.random() < 0.5 else -1.0
        return _replace_tail(np.argsort(end * compute_leading_component(features), kind="stable"), severity, rng)


class ModeCollapse(UnrestrictedDegradation):
    """All samples come from the neighborhood of one cube."""

    name: ClassVar[str] = "collapse"
    summary: ClassVar[str] = "cubes far from one of them replaced by near ones: all samples are few and alike"
    kind: ClassVar[DegradationKind] = "set"
    unit: ClassVar[str] = "% of distinct cubes lost"
    severities: ClassVar[tuple[float, ...]] = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 97.0)

    def pick(self, features: Float64Array, severity: float, rng: np.random.Generator) -> IndexArray:
        """Return indices of cubes: those far from a random one are replaced by random ones of those near it."""
        values = standardize(features)
        distances = ((values - values[rng.integers(len(values))]) ** 2).sum(axis=1)
        return _replace_tail(np.argsort(distances, kind="stable"), severity, rng)


class SampleDuplication(UnrestrictedDegradation):
    """Samples that repeat others."""

    name: ClassVar[str] = "duplicates"
    summary: ClassVar[str] = "samples that repeat others, drawn at random"
    kind: ClassVar[DegradationKind] = "set"
    unit: ClassVar[str] = "% of samples"
    severities: ClassVar[tuple[float, ...]] = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 80.0, 95.0)

    def pick(self, features: Float64Array, severity: float, rng: np.random.Generator) -> IndexArray:
        """Return indices of cubes: randomly selected ones are replaced by random ones of the rest."""
        return _replace_tail(rng.permutation(len(features)), severity, rng)


def compute_leading_component(features: Float64Array) -> Float64Array:
    """Return each cube's coordinate along the leading principal axis of the standardized features, ``(n,)``."""
    values = standardize(features)
    _, vectors = np.linalg.eigh(values @ values.T)
    leading: Float64Array = vectors[:, -1]
    return leading


def standardize(features: Float64Array) -> Float64Array:
    """Return features with mean 0 and standard deviation 1 in each column; constant columns become 0."""
    centered = np.asarray(features, dtype=np.float64) - np.mean(features, axis=0)
    std = centered.std(axis=0)
    varies = std > 1e-12 * np.abs(features).max()
    scaled: Float64Array = np.divide(centered, std, out=np.zeros_like(centered), where=varies)
    return scaled


def _replace_tail(order: NDArray[np.int64], severity: float, rng: np.random.Generator) -> IndexArray:
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
