"""The camera's noise."""

from __future__ import annotations

import numpy as np

from hseval.generators.phantom.arrays import FloatArray

FULL_WELL_ELECTRONS = 12000.0  # per pixel, at the brightest percent of a band: each band is exposed on its own
READ_NOISE_ELECTRONS = 12.0


def add_sensor_noise(reflectance: FloatArray, rng: np.random.Generator, *, noise_level: float) -> FloatArray:
    """Return ``reflectance`` with shot and read noise, never below 0.

    Args:
        reflectance: float32 ``(band, pixel)``, reflectance.
        rng: where the noise comes from; drawn even at level 0, so that nothing else depends on the level.
        noise_level: multiplies the noise's deviation.
    """
    draw = rng.standard_normal(reflectance.shape, dtype=np.float32)
    per_electron = np.quantile(reflectance, 0.99, axis=1, keepdims=True).astype(np.float32) / np.float32(
        FULL_WELL_ELECTRONS
    )
    variance = reflectance * per_electron + (READ_NOISE_ELECTRONS * per_electron) ** 2
    noisy: FloatArray = reflectance + np.float32(noise_level) * np.sqrt(variance) * draw
    return np.maximum(noisy, np.float32(0.0))
