"""Dice's coefficient, and the threshold that maximizes it."""

from __future__ import annotations

import numpy as np

from hseval.utils.arrays import Array, BoolArray, Float32Array

PROBABILITY_BINS = 512  # of a probability: thresholds have a resolution of 0.2 %


class ProbabilityHistogram:
    """Counts of predicted probabilities inside and outside the structures, cube by cube, in little memory."""

    def __init__(self, structures: int) -> None:
        self.inside = np.zeros((structures, PROBABILITY_BINS), dtype=np.int64)
        self.outside = np.zeros((structures, PROBABILITY_BINS), dtype=np.int64)

    def add_cube(self, probabilities: Array, labels: BoolArray) -> None:
        """Count one cube: probabilities ``(structure, pixel)`` in 0 to 1 and true labels, bool of that shape."""
        bins = np.clip((probabilities * PROBABILITY_BINS).astype(np.int64), 0, PROBABILITY_BINS - 1)
        for structure, (structure_bins, is_inside) in enumerate(zip(bins, labels, strict=True)):
            self.inside[structure] += np.bincount(structure_bins[is_inside], minlength=PROBABILITY_BINS)
            self.outside[structure] += np.bincount(structure_bins[~is_inside], minlength=PROBABILITY_BINS)

    def find_best_thresholds(self) -> Float32Array:
        """Return ``(structure,)``: the lowest probability of a mask's pixels that maximizes Dice over all pixels.

        Dice = 2 |A and B| / (|A| + |B|) (Dice 1945). The middle one of equally good thresholds; 1/2 where a structure
        has no pixel.
        """
        positives = self.inside.sum(axis=1, keepdims=True)
        true_positives, false_positives = (
            np.cumsum(counts[:, ::-1], axis=1)[:, ::-1] for counts in (self.inside, self.outside)
        )
        dice = 2 * true_positives / np.maximum(true_positives + false_positives + positives, 1)
        best = [np.flatnonzero(row == row.max()) for row in dice]
        middle = [indices[len(indices) // 2] / PROBABILITY_BINS for indices in best]
        return np.where(positives[:, 0] > 0, middle, 0.5).astype(np.float32)
