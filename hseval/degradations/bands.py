"""Bands with wrong gain, zero or position, and dead bands: faults of a sensor, the same in every cube."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hseval.degradations.base import DegradationKind, UnrestrictedDegradation
from hseval.degradations.inside import (
    compute_band_levels,
    compute_valid_mask,
    explain_missing_bands,
    replace_valid_pixels,
    zero_invalid_pixels,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.cubes import Cube, CubeSet

    Float64Array = NDArray[np.float64]


class Gain(UnrestrictedDegradation):
    """Every band times a factor of its own."""

    name: ClassVar[str] = "gain"
    summary: ClassVar[str] = "every band times a factor of its own: radiometric calibration is off"
    kind: ClassVar[DegradationKind] = "spectral"
    unit: ClassVar[str] = "% rms"
    severities: ClassVar[tuple[float, ...]] = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    is_set_wide: ClassVar[bool] = True

    def degrade(self, cube: Cube, severity: float, *, wavelengths: Float64Array, rng: np.random.Generator) -> Cube:
        """Return the cube with band b times ``exp(severity / 100 g_b)``; g has a root mean square of 1."""
        valid = compute_valid_mask(cube)
        factors = np.exp(severity / 100 * draw_band_pattern(len(cube.data), rng)).astype(np.float32)
        return replace_valid_pixels(cube, zero_invalid_pixels(cube, valid) * factors[:, None, None], valid)


class Offset(UnrestrictedDegradation):
    """A constant added to every band."""

    name: ClassVar[str] = "offset"
    summary: ClassVar[str] = "a constant added to every band: dark current or stray light"
    kind: ClassVar[DegradationKind] = "spectral"
    unit: ClassVar[str] = "% of level"
    severities: ClassVar[tuple[float, ...]] = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    is_set_wide: ClassVar[bool] = True

    def degrade(self, cube: Cube, severity: float, *, wavelengths: Float64Array, rng: np.random.Generator) -> Cube:
        """Return the cube with ``severity / 100 g_b`` times the median over its bands' levels added to band b."""
        valid = compute_valid_mask(cube)
        level = float(np.median(compute_band_levels(cube, valid)))
        offsets = (severity / 100 * level * draw_band_pattern(len(cube.data), rng)).astype(np.float32)
        return replace_valid_pixels(cube, zero_invalid_pixels(cube, valid) + offsets[:, None, None], valid)


class BandSwap:
    """Neighboring bands swapped."""

    name: ClassVar[str] = "band-swap"
    summary: ClassVar[str] = "neighboring bands swapped"
    kind: ClassVar[DegradationKind] = "spectral"
    unit: ClassVar[str] = "% of bands"
    severities: ClassVar[tuple[float, ...]] = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 70.0, 100.0)
    is_set_wide: ClassVar[bool] = True

    def explain_unmet_need(self, data: CubeSet) -> str | None:
        """Return why there are no neighboring bands, or None."""
        return explain_missing_bands(data)

    def degrade(self, cube: Cube, severity: float, *, wavelengths: Float64Array, rng: np.random.Generator) -> Cube:
        """Return the cube with a share of the pairs (0, 1), (2, 3) ... swapped, in an order drawn once."""
        valid = compute_valid_mask(cube)
        values = zero_invalid_pixels(cube, valid)
        share = draw_affected_fractions(len(values) // 2, severity, rng)[:, None, None]
        first, second = values[0 : 2 * len(share) : 2], values[1 : 2 * len(share) : 2]
        difference = share * (second - first)
        swapped = values.copy()
        swapped[0 : 2 * len(share) : 2] += difference
        swapped[1 : 2 * len(share) : 2] -= difference
        return replace_valid_pixels(cube, swapped, valid)


class DeadBand(UnrestrictedDegradation):
    """Bands that read 0 everywhere."""

    name: ClassVar[str] = "dead-band"
    summary: ClassVar[str] = "bands that read 0 everywhere"
    kind: ClassVar[DegradationKind] = "spectral"
    unit: ClassVar[str] = "% of bands"
    severities: ClassVar[tuple[float, ...]] = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
    is_set_wide: ClassVar[bool] = True

    def degrade(self, cube: Cube, severity: float, *, wavelengths: Float64Array, rng: np.random.Generator) -> Cube:
        """Return the cube with bands set to 0, in an order drawn once."""
        valid = compute_valid_mask(cube)
        alive = 1 - draw_affected_fractions(len(cube.data), severity, rng)
        return replace_valid_pixels(cube, zero_invalid_pixels(cube, valid) * alive[:, None, None], valid)


def draw_band_pattern(n_bands: int, rng: np.random.Generator) -> Float64Array:
    """Return a normal number for each band, scaled to a root mean square of 1, so that the severity is exact."""
    pattern = rng.standard_normal(n_bands)
    scaled: Float64Array = pattern / np.sqrt(np.mean(pattern**2))
    return scaled


def draw_affected_fractions(count: int, severity: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return how far each of ``count`` items is affected, 0 to 1: ``severity`` % in random order, the last in part."""
    rank = rng.permutation(count)
    fractions: NDArray[np.float32] = np.clip(severity / 100 * count - rank, 0, 1).astype(np.float32)
    return fractions
