"""What a sensor adds: noise in every pixel, and columns of uneven sensitivity."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hseval.degradations.base import FitForAll, Kind
from hseval.degradations.inside import levels, spoiled, valid_pixels, zero_outside

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.cubes import Cube

    Doubles = NDArray[np.float64]


class Noise(FitForAll):
    """White Gaussian noise."""

    name: ClassVar[str] = "noise"
    summary: ClassVar[str] = "white Gaussian noise in every pixel and band"
    kind: ClassVar[Kind] = "spatial"
    unit: ClassVar[str] = "% of level"
    doses: ClassVar[tuple[float, ...]] = (0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0, 25.0)
    shared: ClassVar[bool] = False

    def degrade(self, cube: Cube, dose: float, *, wavelengths: Doubles, rng: np.random.Generator) -> Cube:
        """Return the cube with independent noise added, drawn anew for every cube."""
        valid = valid_pixels(cube)
        drawn = rng.standard_normal(cube.data.shape, dtype=np.float32)
        scale = levels(cube, valid) * np.float32(dose / 100)
        return spoiled(cube, zero_outside(cube, valid) + scale * drawn, valid)


class Striping(FitForAll):
    """Columns with a gain of their own in each band."""

    name: ClassVar[str] = "striping"
    summary: ClassVar[str] = "columns of uneven sensitivity, different in each band: stripes as of a push-broom sensor"
    kind: ClassVar[Kind] = "spatial"
    unit: ClassVar[str] = "% of gain"
    doses: ClassVar[tuple[float, ...]] = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0, 25.0)
    shared: ClassVar[bool] = True

    def degrade(self, cube: Cube, dose: float, *, wavelengths: Doubles, rng: np.random.Generator) -> Cube:
        """Return the cube with column x of band b times ``1 + dose / 100 g_bx``, the same g for all cubes."""
        valid = valid_pixels(cube)
        bands, _, width = cube.data.shape
        gains = 1 + np.float32(dose / 100) * rng.standard_normal((bands, 1, width), dtype=np.float32)
        return spoiled(cube, zero_outside(cube, valid) * gains, valid)
