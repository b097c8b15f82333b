"""Swapped patches: every small piece is real, the image is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hseval.degradations.base import PixelDegradation

if TYPE_CHECKING:
    from hseval.core.cubes import CubeSet
    from hseval.utils.arrays import Array, BoolArray, IntArray
    from hseval.utils.random_streams import Rng

PATCH_SIZE_PX = 8
MIN_PATCHES_PER_SIDE = 4  # along a cube's shorter side; patches shrink to fit
MIN_PATCH_SIZE_PX = 2


class PatchShuffling(PixelDegradation):
    """Pairs of patches swapped inside the field."""

    name = "shuffled-patches"
    summary = f"pairs of patches of {PATCH_SIZE_PX} px (smaller in cubes below 32 px) swapped in the field"
    kind = "spatial"
    unit = "% of patches"
    severities = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 70.0, 100.0)
    is_set_wide = False

    def explain_unmet_need(self, data: CubeSet) -> str | None:
        """Return why cubes are too small, or None."""
        _, height, width = data.shape(0)
        if min(height, width) >= MIN_PATCHES_PER_SIDE * MIN_PATCH_SIZE_PX:
            return None
        return f"needs cubes of at least {MIN_PATCHES_PER_SIDE * MIN_PATCH_SIZE_PX} px, found {height} x {width}"

    def change(self, values: Array, valid: BoolArray, severity: float, wavelengths: Array, rng: Rng) -> Array:
        """Return the values with pairs of whole patches swapped; the number of pairs is right on average over cubes."""
        size = max(min(PATCH_SIZE_PX, min(valid.shape) // MIN_PATCHES_PER_SIDE), MIN_PATCH_SIZE_PX)
        corners = find_valid_patches(valid, size)
        rng.shuffle(corners)
        pairs = len(corners) // 2
        swapped = min(int(severity / 100 * pairs + rng.random()), pairs)
        data = values.copy()
        for first, second in zip(corners[0 : 2 * swapped : 2], corners[1 : 2 * swapped : 2], strict=True):
            first_area, second_area = (np.s_[:, y : y + size, x : x + size] for y, x in (first, second))
            data[first_area], data[second_area] = values[second_area], values[first_area]
        return data


def find_valid_patches(valid: BoolArray, size: int) -> IntArray:
    """Return the top left corners ``(n, 2)`` of the grid's patches of ``size`` px whose pixels are all valid."""
    rows, columns = (length // size for length in valid.shape)
    grid = valid[: rows * size, : columns * size].reshape(rows, size, columns, size)
    return np.argwhere(grid.all(axis=(1, 3))) * size
