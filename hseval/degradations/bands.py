"""Bands whose gain, zero or place is wrong, and dead ones: faults of a sensor, the same in every cube."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hseval.degradations.base import FitForAll, Kind
from hseval.degradations.inside import levels, needs_two_bands, spoiled, valid_pixels, zero_outside

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.cubes import Cube, CubeSet

    Doubles = NDArray[np.float64]


class Gain(FitForAll):
    """Every band times a factor of its own."""

    name: ClassVar[str] = "gain"
    summary: ClassVar[str] = "every band times a factor of its own: radiometric calibration is off"
    kind: ClassVar[Kind] = "spectral"
    unit: ClassVar[str] = "% rms"
    doses: ClassVar[tuple[float, ...]] = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    shared: ClassVar[bool] = True

    def degrade(self, cube: Cube, dose: float, *, wavelengths: Doubles, rng: np.random.Generator) -> Cube:
        """Return the cube with band b times ``exp(dose / 100 g_b)``; g has a root mean square of 1."""
        valid = valid_pixels(cube)
        factors = np.exp(dose / 100 * pattern(len(cube.data), rng)).astype(np.float32)
        return spoiled(cube, zero_outside(cube, valid) * factors[:, None, None], valid)


class Offset(FitForAll):
    """A constant added to every band."""

    name: ClassVar[str] = "offset"
    summary: ClassVar[str] = "a constant added to every band: dark current or stray light"
    kind: ClassVar[Kind] = "spectral"
    unit: ClassVar[str] = "% of level"
    doses: ClassVar[tuple[float, ...]] = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    shared: ClassVar[bool] = True

    def degrade(self, cube: Cube, dose: float, *, wavelengths: Doubles, rng: np.random.Generator) -> Cube:
        """Return the cube with ``dose / 100 g_b`` times the median over its bands' levels added to band b."""
        valid = valid_pixels(cube)
        level = float(np.median(levels(cube, valid)))
        added = (dose / 100 * level * pattern(len(cube.data), rng)).astype(np.float32)
        return spoiled(cube, zero_outside(cube, valid) + added[:, None, None], valid)


class BandSwap:
    """Neighbouring bands in each other's place."""

    name: ClassVar[str] = "band-swap"
    summary: ClassVar[str] = "neighbouring bands in each other's place"
    kind: ClassVar[Kind] = "spectral"
    unit: ClassVar[str] = "% of bands"
    doses: ClassVar[tuple[float, ...]] = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 70.0, 100.0)
    shared: ClassVar[bool] = True

    def unfit(self, data: CubeSet) -> str | None:
        """Return why there are no neighbouring bands, or None."""
        return needs_two_bands(data)

    def degrade(self, cube: Cube, dose: float, *, wavelengths: Doubles, rng: np.random.Generator) -> Cube:
        """Return the cube with a share of the pairs (0, 1), (2, 3) ... swapped, in an order drawn once."""
        valid = valid_pixels(cube)
        values = zero_outside(cube, valid)
        share = shares(len(values) // 2, dose, rng)[:, None, None]
        first, second = values[0 : 2 * len(share) : 2], values[1 : 2 * len(share) : 2]
        difference = share * (second - first)
        swapped = values.copy()
        swapped[0 : 2 * len(share) : 2] += difference
        swapped[1 : 2 * len(share) : 2] -= difference
        return spoiled(cube, swapped, valid)


class DeadBand(FitForAll):
    """Bands that read 0 everywhere."""

    name: ClassVar[str] = "dead-band"
    summary: ClassVar[str] = "bands that read 0 everywhere"
    kind: ClassVar[Kind] = "spectral"
    unit: ClassVar[str] = "% of bands"
    doses: ClassVar[tuple[float, ...]] = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
    shared: ClassVar[bool] = True

    def degrade(self, cube: Cube, dose: float, *, wavelengths: Doubles, rng: np.random.Generator) -> Cube:
        """Return the cube with bands set to 0, in an order drawn once."""
        valid = valid_pixels(cube)
        alive = 1 - shares(len(cube.data), dose, rng)
        return spoiled(cube, zero_outside(cube, valid) * alive[:, None, None], valid)


def pattern(bands: int, rng: np.random.Generator) -> Doubles:
    """Return one normal number a band, scaled to a root mean square of 1, so that a dose says what is done."""
    drawn = rng.standard_normal(bands)
    scaled: Doubles = drawn / np.sqrt(np.mean(drawn**2))
    return scaled


def shares(count: int, dose: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return how far each of ``count`` things is hit, 0 to 1: ``dose`` % of them in random order, the last in part."""
    rank = rng.permutation(count)
    hit: NDArray[np.float32] = np.clip(dose / 100 * count - rank, 0, 1).astype(np.float32)
    return hit
