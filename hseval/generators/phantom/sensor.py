"""The camera's noise."""

from __future__ import annotations

import numpy as np

from hseval.generators.phantom.arrays import FloatArray

WELL_ELECTRONS = 12000.0  # per pixel, at the brightest percent of a band: each band is exposed on its own
READ_ELECTRONS = 12.0


def exposed(clean: FloatArray, rng: np.random.Generator, *, level: float) -> FloatArray:
    """Return ``clean`` with shot and read noise, never below 0.

    Args:
        clean: float32 ``(band, pixel)``, reflectance.
        rng: where the noise comes from; drawn even at level 0, so that nothing else depends on the level.
        level: multiplies the noise's deviation.
    """
    draw = rng.standard_normal(clean.shape, dtype=np.float32)
    per_electron = np.quantile(clean, 0.99, axis=1, keepdims=True).astype(np.float32) / np.float32(WELL_ELECTRONS)
    variance = clean * per_electron + (READ_ELECTRONS * per_electron) ** 2
    noisy: FloatArray = clean + np.float32(level) * np.sqrt(variance) * draw
    return np.maximum(noisy, np.float32(0.0))
