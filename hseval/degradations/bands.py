"""Bands with wrong gain, zero or position, and dead bands: faults of a sensor, the same in every cube."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hseval.degradations.base import PixelDegradation
from hseval.degradations.inside import compute_band_levels, explain_missing_bands

if TYPE_CHECKING:
    from hseval.core.cubes import CubeSet
    from hseval.utils.arrays import Array, BoolArray
    from hseval.utils.random_streams import Rng


class Gain(PixelDegradation):
    """Every band times a factor of its own."""

    name = "gain"
    summary = "every band times a factor of its own: radiometric calibration is off"
    kind = "spectral"
    unit = "% rms"
    severities = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)

    def change(self, values: Array, valid: BoolArray, severity: float, wavelengths: Array, rng: Rng) -> Array:
        """Return band b times ``exp(severity / 100 g_b)``; g has a root mean square of 1."""
        factors = np.exp(severity / 100 * draw_band_pattern(len(values), rng)).astype(np.float32)
        return values * factors[:, None, None]


class Offset(PixelDegradation):
    """A constant added to every band."""

    name = "offset"
    summary = "a constant added to every band: dark current or stray light"
    kind = "spectral"
    unit = "% of level"
    severities = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)

    def change(self, values: Array, valid: BoolArray, severity: float, wavelengths: Array, rng: Rng) -> Array:
        """Return band b plus ``severity / 100 g_b`` times the median over the bands' levels."""
        level = float(np.median(compute_band_levels(values, valid)))
        offsets = (severity / 100 * level * draw_band_pattern(len(values), rng)).astype(np.float32)
        return values + offsets[:, None, None]


class BandSwap(PixelDegradation):
    """Neighboring bands swapped."""

    name = "band-swap"
    summary = "neighboring bands swapped"
    kind = "spectral"
    unit = "% of bands"
    severities = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 70.0, 100.0)

    def explain_unmet_need(self, data: CubeSet) -> str | None:
        """Return why there are no neighboring bands, or None."""
        return explain_missing_bands(data)

    def change(self, values: Array, valid: BoolArray, severity: float, wavelengths: Array, rng: Rng) -> Array:
        """Return the values with a share of the pairs (0, 1), (2, 3) ... swapped, in an order drawn once."""
        share = draw_affected_fractions(len(values) // 2, severity, rng)[:, None, None]
        first, second = values[0 : 2 * len(share) : 2], values[1 : 2 * len(share) : 2]
        difference = share * (second - first)
        swapped = values.copy()
        swapped[0 : 2 * len(share) : 2] += difference
        swapped[1 : 2 * len(share) : 2] -= difference
        return swapped


class DeadBand(PixelDegradation):
    """Bands that read 0 everywhere."""

    name = "dead-band"
    summary = "bands that read 0 everywhere"
    kind = "spectral"
    unit = "% of bands"
    severities = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)

    def change(self, values: Array, valid: BoolArray, severity: float, wavelengths: Array, rng: Rng) -> Array:
        """Return the values with bands set to 0, in an order drawn once."""
        alive = 1 - draw_affected_fractions(len(values), severity, rng)
        return np.asarray(values * alive[:, None, None])


def draw_band_pattern(n_bands: int, rng: Rng) -> Array:
    """Return a normal number for each band, scaled to a root mean square of 1, so that the severity is exact."""
    pattern = rng.standard_normal(n_bands)
    return np.asarray(pattern / np.sqrt(np.mean(pattern**2)))


def draw_affected_fractions(count: int, severity: float, rng: Rng) -> Array:
    """Return how far each of ``count`` items is affected, 0 to 1: ``severity`` % in random order, the last in part."""
    rank = rng.permutation(count)
    return np.asarray(np.clip(severity / 100 * count - rank, 0, 1).astype(np.float32))
