"""Faults that a sensor adds: noise in every pixel, and columns of uneven sensitivity."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hseval.degradations.base import DegradationKind, UnrestrictedDegradation
from hseval.degradations.inside import (
    compute_band_levels,
    compute_valid_mask,
    replace_valid_pixels,
    zero_invalid_pixels,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.cubes import Cube

    Float64Array = NDArray[np.float64]


class GaussianNoise(UnrestrictedDegradation):
    """White Gaussian noise."""

    name: ClassVar[str] = "noise"
    summary: ClassVar[str] = "white Gaussian noise in every pixel and band"
    kind: ClassVar[DegradationKind] = "spatial"
    unit: ClassVar[str] = "% of level"
    severities: ClassVar[tuple[float, ...]] = (0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0, 25.0)
    is_set_wide: ClassVar[bool] = False

    def degrade(self, cube: Cube, severity: float, *, wavelengths: Float64Array, rng: np.random.Generator) -> Cube:
        """Return the cube with independent noise added, new for every cube."""
        valid = compute_valid_mask(cube)
        noise = rng.standard_normal(cube.data.shape, dtype=np.float32)
        scale = compute_band_levels(cube, valid) * np.float32(severity / 100)
        return replace_valid_pixels(cube, zero_invalid_pixels(cube, valid) + scale * noise, valid)


class Striping(UnrestrictedDegradation):
    """Columns with a gain of their own in each band."""

    name: ClassVar[str] = "striping"
    summary: ClassVar[str] = "columns of uneven sensitivity, different in each band: stripes as of a push-broom sensor"
    kind: ClassVar[DegradationKind] = "spatial"
    unit: ClassVar[str] = "% of gain"
    severities: ClassVar[tuple[float, ...]] = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0, 25.0)
    is_set_wide: ClassVar[bool] = True

    def degrade(self, cube: Cube, severity: float, *, wavelengths: Float64Array, rng: np.random.Generator) -> Cube:
        """Return the cube with column x of band b times ``1 + severity / 100 g_bx``, the same g for all cubes."""
        valid = compute_valid_mask(cube)
        bands, _, width = cube.data.shape
        gains = 1 + np.float32(severity / 100) * rng.standard_normal((bands, 1, width), dtype=np.float32)
        return replace_valid_pixels(cube, zero_invalid_pixels(cube, valid) * gains, valid)
