"""Fill values that no mask tells of: found before training, where they would end in losses that are not finite."""

from __future__ import annotations

import numpy as np

from hseval.core.cubes import CubeSet
from hseval.utils.errors import HsevalError
from hseval_ldm.data.moments import Vector

# Spreads from the median: float32, which has 24 bits, adds nothing smaller to a value this far out, so a band that
# is scaled by it is lost. Tails as heavy as Cauchy's end below it in sets of up to ten million pixels.
MAX_DEVIATION_RATIO = 2.0**24
SAMPLE_PIXELS = 1 << 16  # pixels of a set, or 64 of each cube, from which medians are taken


class FillValueDetector:
    """The ends of each band, and a sample of its pixels, of the cubes added so far."""

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
        """Raise if a band has a value that can't be one.

        A band's spread is the median distance from its median, or the median band's where more than half of the
        sampled pixels are equal; neither moves when fewer than half of the pixels hold a fill value.

        Raises:
            HsevalError: names the band, the value, and a cube that holds it.
        """
        sampled, ends = np.concatenate(self._samples, axis=1), np.stack(self._extremes)  # (cube, 2, band)
        median = np.median(sampled, axis=1)
        spread = np.median(np.abs(sampled - median[:, None]), axis=1)
        if not spread.any():
            return
        spread[spread == 0] = np.median(spread[spread > 0])
        ratio = np.abs(ends - median) / spread
        cube, end, band = np.unravel_index(ratio.argmax(), ratio.shape)
        if ratio[cube, end, band] > MAX_DEVIATION_RATIO:
            where = f"band {band}" + (f" ({data.wavelengths[band]:.6g} nm)" if data.info.wavelengths_known else "")
            found = f"{where} of cube {self._ids[cube]!r} holds {ends[cube, end, band]:.6g}"
            told = f"{found}, the band's median is {median[band]:.6g}: a fill value, it seems"
            way_on = "write NaN there, or leave such pixels out of the mask 'fov'"
            raise HsevalError(f"{data.info.location}: {told}; {way_on}")
