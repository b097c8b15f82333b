"""Dice's coefficient, and the threshold at which it is best."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROBABILITY_BINS = 512  # of a probability: thresholds are told apart to 0.2 %


class ProbabilityHistogram:
    """Counts of predicted probabilities inside and outside the structures, cube by cube, in little memory."""

    def __init__(self, structures: int) -> None:
        self.inside = np.zeros((structures, PROBABILITY_BINS), dtype=np.int64)
        self.outside = np.zeros((structures, PROBABILITY_BINS), dtype=np.int64)

    def add_cube(self, probabilities: NDArray[Any], labels: NDArray[np.bool_]) -> None:
        """Count one cube: probabilities ``(structure, pixel)`` in 0 to 1 and what is there, bool of that shape."""
        bins = np.clip((probabilities * PROBABILITY_BINS).astype(np.int64), 0, PROBABILITY_BINS - 1)
        for place, (found, true) in enumerate(zip(bins, labels, strict=True)):
            self.inside[place] += np.bincount(found[true], minlength=PROBABILITY_BINS)
            self.outside[place] += np.bincount(found[~true], minlength=PROBABILITY_BINS)

    def find_best_thresholds(self) -> NDArray[np.float32]:
        """Return ``(structure,)``: from which probability on a pixel is taken, so that Dice over all pixels is best.

        Dice = 2 |A and B| / (|A| + |B|) (Dice 1945). Of equally good thresholds the middle one; 1/2 where a structure
        has no pixel.
        """
        true = self.inside.sum(axis=1, keepdims=True)
        hit, false = (np.cumsum(each[:, ::-1], axis=1)[:, ::-1] for each in (self.inside, self.outside))
        dice = 2 * hit / np.maximum(hit + false + true, 1)
        best = [np.flatnonzero(row == row.max()) for row in dice]
        middle = [places[len(places) // 2] / PROBABILITY_BINS for places in best]
        return np.where(true[:, 0] > 0, middle, 0.5).astype(np.float32)
