"""Fill values that no mask marks: found before training, where they would lead to losses that are not finite."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hseval.plugin import CubeSet, HsevalError

Vector = NDArray[np.float64]

# Median absolute deviations from the median: float32, which has 24 bits, adds nothing smaller to a value this far out,
# so a band scaled by it is lost. The tails of a Cauchy distribution end below it in sets of up to ten million pixels.
MAX_DEVIATION_RATIO = 2.0**24
SAMPLE_PIXELS = 1 << 16  # pixels of a set (at least 64 per cube) from which medians are computed


class FillValueDetector:
    """Collects the extremes of each band, and a sample of its pixels, over cubes."""

    def __init__(self, n_cubes: int) -> None:
        self._pixels_per_cube = max(SAMPLE_PIXELS // max(n_cubes, 1), 64)
        self._samples: list[Vector] = []
        self._extremes: list[Vector] = []
        self._ids: list[str] = []

    def add(self, cube_id: str, values: Vector) -> None:
        """Add the valid pixels ``(band, pixel)`` of the cube ``cube_id``."""
        if not values.shape[1]:
            return
        self._samples.append(values[:, :: -(-values.shape[1] // self._pixels_per_cube)])
        self._extremes.append(np.stack([values.min(axis=1), values.max(axis=1)]))
        self._ids.append(cube_id)

    def check(self, data: CubeSet) -> None:
        """Raise if a band holds an implausible value.

        A band's scale is the median absolute deviation from its median, or that of the median band where more than half
        of the sampled pixels are equal; neither changes while fewer than half of the pixels hold a fill value.

        Raises:
            HsevalError: names the band, the value, and a cube that holds it.
        """
        sampled, extremes = np.concatenate(self._samples, axis=1), np.stack(self._extremes)  # (cube, 2, band)
        median = np.median(sampled, axis=1)
        scale = np.median(np.abs(sampled - median[:, None]), axis=1)
        if not scale.any():
            return
        scale[scale == 0] = np.median(scale[scale > 0])
        ratio = np.abs(extremes - median) / scale
        cube, end, band = np.unravel_index(ratio.argmax(), ratio.shape)
        if ratio[cube, end, band] > MAX_DEVIATION_RATIO:
            name = f"band {band}" + (f" ({data.wavelengths[band]:.6g} nm)" if data.info.wavelengths_known else "")
            value = f"{name} of cube {self._ids[cube]!r} holds {extremes[cube, end, band]:.6g}"
            reason = f"{value}, the band's median is {median[band]:.6g}: probably a fill value"
            hint = "write NaN there, or exclude such pixels from the mask 'fov'"
            raise HsevalError(f"{data.info.location}: {reason}; {hint}")
