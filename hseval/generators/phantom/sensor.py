"""The camera's noise."""

from __future__ import annotations

import numpy as np

from hseval.utils.arrays import FloatArray

FULL_WELL_ELECTRONS = 12000.0  # per pixel, at the brightest percent of a band: each band is exposed on its own
READ_NOISE_ELECTRONS = 12.0


def add_sensor_noise(reflectance: FloatArray, rng: np.random.Generator, *, noise_level: float) -> FloatArray:
    """Return ``reflectance`` with shot and read noise, never below 0.

    Args:
        reflectance: float32 ``(band, pixel)``.
        rng: of the noise; used even at level 0, so that its state does not depend on the level.
        noise_level: factor of the noise's standard deviation.
    """
    normal = rng.standard_normal(reflectance.shape, dtype=np.float32)
    per_electron = np.quantile(reflectance, 0.99, axis=1, keepdims=True).astype(np.float32) / np.float32(
        FULL_WELL_ELECTRONS
    )
    variance = reflectance * per_electron + (READ_NOISE_ELECTRONS * per_electron) ** 2
    noisy: FloatArray = reflectance + np.float32(noise_level) * np.sqrt(variance) * normal
    return np.maximum(noisy, np.float32(0.0))
