"""Near-copies of training cubes: as they are, noisy, moved, mirrored, turned, brightened."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hseval.core.cubes import FIELD, Cube
from hseval.degradations.base import FitForAll, Kind
from hseval.degradations.inside import filled, levels, spoiled, valid_pixels, zero_outside

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]

NOISE, GAIN, SHIFT_PX = 0.01, 0.05, 2


class NearCopy(FitForAll):
    """What all near-copies declare alike: the dose is how many there are."""

    kind: ClassVar[Kind] = "copies"
    unit: ClassVar[str] = "% of samples"
    doses: ClassVar[tuple[float, ...]] = (1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 50.0)


class CopyExact(NearCopy):
    """Training cubes as they are."""

    name: ClassVar[str] = "copy-exact"
    summary: ClassVar[str] = "samples replaced by training cubes"

    def copy(self, cube: Cube, *, wavelengths: Doubles, rng: np.random.Generator) -> Cube:
        """Return the cube."""
        return cube


class CopyNoise(NearCopy):
    """Training cubes with noise."""

    name: ClassVar[str] = "copy-noise"
    summary: ClassVar[str] = f"samples replaced by training cubes with noise of {NOISE:.0%} of each band's median level"

    def copy(self, cube: Cube, *, wavelengths: Doubles, rng: np.random.Generator) -> Cube:
        """Return the cube with white Gaussian noise."""
        valid = valid_pixels(cube)
        noise = np.float32(NOISE) * levels(cube, valid) * rng.standard_normal(cube.data.shape, dtype=np.float32)
        return spoiled(cube, zero_outside(cube, valid) + noise, valid)


class CopyShift(NearCopy):
    """Training cubes moved under a field of view that stays."""

    name: ClassVar[str] = "copy-shift"
    summary: ClassVar[str] = f"samples replaced by training cubes moved by {SHIFT_PX} px under a field that stays"

    def copy(self, cube: Cube, *, wavelengths: Doubles, rng: np.random.Generator) -> Cube:
        """Return the cube moved up, down, left or right; what comes in continues the rest smoothly."""
        down, right = ((SHIFT_PX, 0), (-SHIFT_PX, 0), (0, SHIFT_PX), (0, -SHIFT_PX))[rng.integers(4)]
        valid = valid_pixels(cube)
        height, width = valid.shape
        whole = filled(zero_outside(cube, valid), valid, margin=2 * SHIFT_PX)
        data = np.roll(whole, (down, right), axis=(1, 2))[:, :height, :width]
        masks = {name: mask if name == FIELD else _slid(mask, down, right) & valid for name, mask in cube.masks.items()}
        return dataclasses.replace(spoiled(cube, data, valid), masks=masks)


class CopyFlip(NearCopy):
    """Training cubes mirrored."""

    name: ClassVar[str] = "copy-flip"
    summary: ClassVar[str] = "samples replaced by training cubes mirrored left to right or upside down"

    def copy(self, cube: Cube, *, wavelengths: Doubles, rng: np.random.Generator) -> Cube:
        """Return the cube mirrored, its field with it."""
        axis = int(rng.integers(-2, 0))
        return _turned(cube, lambda images: np.flip(images, axis))


class CopyRotation(NearCopy):
    """Training cubes turned."""

    name: ClassVar[str] = "copy-rotation"
    summary: ClassVar[str] = "samples replaced by training cubes turned by 90, 180 or 270 degrees"

    def copy(self, cube: Cube, *, wavelengths: Doubles, rng: np.random.Generator) -> Cube:
        """Return the cube turned, its field with it; one that is not square is turned by 180 degrees."""
        height, width = cube.data.shape[1:]
        turns = int(rng.integers(1, 4)) if height == width else 2
        return _turned(cube, lambda images: np.rot90(images, turns, axes=(-2, -1)))


class CopyGain(NearCopy):
    """Training cubes brighter or darker."""

    name: ClassVar[str] = "copy-gain"
    summary: ClassVar[str] = f"samples replaced by training cubes that are {GAIN:.0%} brighter or darker"

    def copy(self, cube: Cube, *, wavelengths: Doubles, rng: np.random.Generator) -> Cube:
        """Return the cube times one factor."""
        valid = valid_pixels(cube)
        factor = np.float32(1 + GAIN * rng.choice((-1.0, 1.0)))
        return spoiled(cube, zero_outside(cube, valid) * factor, valid)


def _turned(cube: Cube, turn: Callable[[NDArray[np.generic]], NDArray[np.generic]]) -> Cube:
    masks = {name: np.ascontiguousarray(turn(mask)).astype(bool) for name, mask in cube.masks.items()}
    return dataclasses.replace(cube, data=np.ascontiguousarray(turn(cube.data), dtype=np.float32), masks=masks)


def _slid(mask: NDArray[np.bool_], down: int, right: int) -> NDArray[np.bool_]:
    """Move a mask by whole pixels; nothing comes in."""
    room = max(abs(down), abs(right))
    padded = np.pad(mask, room)
    height, width = mask.shape
    slid: NDArray[np.bool_] = padded[room - down : room - down + height, room - right : room - right + width]
    return slid
