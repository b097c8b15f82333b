"""Faults that a sensor adds: noise in every pixel, and columns of uneven sensitivity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hseval.degradations.base import PixelDegradation
from hseval.degradations.inside import compute_band_levels

if TYPE_CHECKING:
    from hseval.utils.arrays import Array, BoolArray
    from hseval.utils.random_streams import Rng


class GaussianNoise(PixelDegradation):
    """White Gaussian noise."""

    name = "noise"
    summary = "white Gaussian noise in every pixel and band"
    kind = "spatial"
    unit = "% of level"
    severities = (0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0, 25.0)
    is_set_wide = False

    def change(self, values: Array, valid: BoolArray, severity: float, wavelengths: Array, rng: Rng) -> Array:
        """Return the values with independent noise added, new for every cube."""
        noise = rng.standard_normal(values.shape, dtype=np.float32)
        scale = compute_band_levels(values, valid) * np.float32(severity / 100)
        return np.asarray(values + scale * noise)


class Striping(PixelDegradation):
    """Columns with a gain of their own in each band."""

    name = "striping"
    summary = "columns of uneven sensitivity, different in each band: stripes as of a push-broom sensor"
    kind = "spatial"
    unit = "% of gain"
    severities = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0, 25.0)

    def change(self, values: Array, valid: BoolArray, severity: float, wavelengths: Array, rng: Rng) -> Array:
        """Return column x of band b times ``1 + severity / 100 g_bx``, the same g for all cubes."""
        bands, _, width = values.shape
        gains = 1 + np.float32(severity / 100) * rng.standard_normal((bands, 1, width), dtype=np.float32)
        return np.asarray(values * gains)
