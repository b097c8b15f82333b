"""Swapped patches: every small piece is real, the image is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hseval.degradations.base import DegradationKind
from hseval.degradations.inside import compute_valid_mask, replace_valid_pixels, zero_invalid_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.cubes import Cube, CubeSet

    Float64Array = NDArray[np.float64]

PATCH_SIZE_PX = 8
MIN_PATCHES_PER_SIDE = 4  # along a cube's shorter side; patches shrink to fit
MIN_PATCH_SIZE_PX = 2


class PatchShuffling:
    """Pairs of patches swapped inside the field."""

    name: ClassVar[str] = "shuffled-patches"
    summary: ClassVar[str] = (
        f"pairs of patches of {PATCH_SIZE_PX} px (smaller in cubes below 32 px) swapped in the field"
    )
    kind: ClassVar[DegradationKind] = "spatial"
    unit: ClassVar[str] = "% of patches"
    severities: ClassVar[tuple[float, ...]] = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 70.0, 100.0)
    is_set_wide: ClassVar[bool] = False

    def explain_unmet_need(self, data: CubeSet) -> str | None:
        """Return why cubes are too small, or None."""
        _, height, width = data.shape(0)
        if min(height, width) >= MIN_PATCHES_PER_SIDE * MIN_PATCH_SIZE_PX:
            return None
        return f"needs cubes of at least {MIN_PATCHES_PER_SIDE * MIN_PATCH_SIZE_PX} px, found {height} x {width}"

    def degrade(self, cube: Cube, severity: float, *, wavelengths: Float64Array, rng: np.random.Generator) -> Cube:
        """Return the cube with pairs of whole patches swapped; the number of pairs is right on average over cubes."""
        valid = compute_valid_mask(cube)
        size = max(min(PATCH_SIZE_PX, min(valid.shape) // MIN_PATCHES_PER_SIDE), MIN_PATCH_SIZE_PX)
        corners = find_valid_patches(valid, size)
        rng.shuffle(corners)
        pairs = len(corners) // 2
        swapped = min(int(severity / 100 * pairs + rng.random()), pairs)
        values = zero_invalid_pixels(cube, valid)
        data = values.copy()
        for first, second in zip(corners[0 : 2 * swapped : 2], corners[1 : 2 * swapped : 2], strict=True):
            first_area, second_area = (np.s_[:, y : y + size, x : x + size] for y, x in (first, second))
            data[first_area], data[second_area] = values[second_area], values[first_area]
        return replace_valid_pixels(cube, data, valid)


def find_valid_patches(valid: NDArray[np.bool_], size: int) -> NDArray[np.int64]:
    """Return the top left corners ``(n, 2)`` of the grid's patches of ``size`` px whose pixels are all valid."""
    rows, columns = (length // size for length in valid.shape)
    grid = valid[: rows * size, : columns * size].reshape(rows, size, columns, size)
    corners: NDArray[np.int64] = np.argwhere(grid.all(axis=(1, 3))) * size
    return corners
