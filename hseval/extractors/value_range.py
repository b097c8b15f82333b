"""The range of a cube's values, band by band, by which wrong scales and dead bands are found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from hseval.core.cubes import FOV
from hseval.utils.arrays import Array, BoolArray, Float32Array

PROBABILITIES = (0.0, 0.001, 0.01, 0.5, 0.99, 0.999, 1.0)


class ValueRange:
    """Quantiles of the valid pixels by band, and how much of the frame is valid."""

    name: ClassVar[str] = "values"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "quantiles of the valid pixels, band by band"
    reads_structures: ClassVar[bool] = False

    def __call__(
        self, cubes: Float32Array, *, wavelengths: Array, masks: Mapping[str, BoolArray]
    ) -> dict[str, Float32Array]:
        """Return the value ranges of a batch of cubes ``(n, band, y, x)``.

        Returns:
            ``quantiles`` ``(n, band, 7)`` at :data:`PROBABILITIES`, NaN for a cube without a valid pixel, and
            ``valid`` ``(n,)``, the share of the cropped frame that is valid.
        """
        field = masks[FOV]
        values = [compute_quantiles(cube[:, valid]) for cube, valid in zip(cubes, field, strict=True)]
        return {
            "quantiles": np.stack(values) if values else np.empty((0, cubes.shape[1], len(PROBABILITIES)), np.float32),
            "valid": field.mean(axis=(1, 2), dtype=np.float64).astype(np.float32),
        }


def compute_quantiles(pixels: Float32Array) -> Float32Array:
    """Return each band's quantiles at :data:`PROBABILITIES`: pixel values, never interpolated.

    Args:
        pixels: ``(band, pixel)``.

    Returns:
        float32 ``(band, 7)``; NaN if there is no pixel. The quantile at p is the smallest value that at
        least a share p of the pixels does not exceed (Hyndman and Fan 1996, definition 1).
    """
    count = pixels.shape[1]
    if count == 0:
        return np.full((len(pixels), len(PROBABILITIES)), np.nan, dtype=np.float32)
    # 1e-9: 0.999 x 1000 must not become rank 1000 through the rounding of 0.999.
    ranks = np.ceil(np.array(PROBABILITIES) * count - 1e-9).astype(np.int64) - 1
    ranks = np.clip(ranks, 0, count - 1)
    return np.sort(pixels, axis=1)[:, ranks].astype(np.float32, copy=False)
