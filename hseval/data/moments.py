"""Mean, standard deviation and range of the bands of a set, pooled over pixels, cube by cube."""

from __future__ import annotations

import numpy as np

from hseval.utils.arrays import Array, Float64Array


class Moments:
    """Moments of all pixels added so far (Chan, Golub and LeVeque, Am. Stat. 37, 1983, eq. 2.1).

    Attributes:
        count: of pixels.
        mean, low, high: float64 ``(band,)``.
    """

    def __init__(self, bands: int) -> None:
        self.count = 0
        self.mean: Float64Array = np.zeros(bands)
        self.low: Float64Array = np.full(bands, np.inf)
        self.high: Float64Array = np.full(bands, -np.inf)
        self._sum_of_squares: Float64Array = np.zeros(bands)

    def add(self, values: Array) -> None:
        """Add the valid pixels ``(band, pixel)`` of one cube."""
        values, pixels = np.asarray(values, dtype=np.float64), values.shape[1]
        if not pixels:
            return
        mean = values.mean(axis=1)
        shift, total = mean - self.mean, self.count + pixels
        self._sum_of_squares += np.square(values - mean[:, None]).sum(axis=1) + shift**2 * (self.count * pixels / total)
        self.mean = self.mean + shift * (pixels / total)
        self.low, self.high = np.minimum(self.low, values.min(axis=1)), np.maximum(self.high, values.max(axis=1))
        self.count = total

    def compute_std(self) -> Float64Array:
        """Return the standard deviation of each band ``(band,)``."""
        # Sums of equal float32 values are exact in float64: a dead band's standard deviation is 0, not rounding.
        return np.sqrt(self._sum_of_squares / max(self.count, 1))
