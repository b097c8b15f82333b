"""Near-copies of training cubes: exact, noisy, shifted, mirrored, rotated, rescaled."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hseval.core.cubes import FOV, Cube
from hseval.degradations.base import DegradationKind, UnrestrictedDegradation
from hseval.degradations.inside import (
    compute_band_levels,
    compute_valid_mask,
    fill_to_canvas,
    replace_valid_pixels,
    zero_invalid_pixels,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Float64Array = NDArray[np.float64]

NOISE_LEVEL, GAIN_CHANGE, SHIFT_PX = 0.01, 0.05, 2


class NearCopy(UnrestrictedDegradation):
    """Base of all near-copies: the severity is their share of the samples."""

    kind: ClassVar[DegradationKind] = "copies"
    unit: ClassVar[str] = "% of samples"
    severities: ClassVar[tuple[float, ...]] = (1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 50.0)


class ExactCopy(NearCopy):
    """Training cubes, unchanged."""

    name: ClassVar[str] = "copy-exact"
    summary: ClassVar[str] = "samples replaced by training cubes"

    def copy(self, cube: Cube, *, wavelengths: Float64Array, rng: np.random.Generator) -> Cube:
        """Return the cube."""
        return cube


class NoisyCopy(NearCopy):
    """Training cubes with noise."""

    name: ClassVar[str] = "copy-noise"
    summary: ClassVar[str] = (
        f"samples replaced by training cubes with noise of {NOISE_LEVEL:.0%} of each band's median level"
    )

    def copy(self, cube: Cube, *, wavelengths: Float64Array, rng: np.random.Generator) -> Cube:
        """Return the cube with white Gaussian noise."""
        valid = compute_valid_mask(cube)
        noise = (
            np.float32(NOISE_LEVEL)
            * compute_band_levels(cube, valid)
            * rng.standard_normal(cube.data.shape, dtype=np.float32)
        )
        return replace_valid_pixels(cube, zero_invalid_pixels(cube, valid) + noise, valid)


class ShiftedCopy(NearCopy):
    """Training cubes moved under a field of view that stays."""

    name: ClassVar[str] = "copy-shift"
    summary: ClassVar[str] = f"samples replaced by training cubes moved by {SHIFT_PX} px under a field that stays"

    def copy(self, cube: Cube, *, wavelengths: Float64Array, rng: np.random.Generator) -> Cube:
        """Return the cube moved up, down, left or right; pixels that come in continue the others smoothly."""
        down, right = ((SHIFT_PX, 0), (-SHIFT_PX, 0), (0, SHIFT_PX), (0, -SHIFT_PX))[rng.integers(4)]
        valid = compute_valid_mask(cube)
        height, width = valid.shape
        filled = fill_to_canvas(zero_invalid_pixels(cube, valid), valid, margin=2 * SHIFT_PX)
        data = np.roll(filled, (down, right), axis=(1, 2))[:, :height, :width]
        masks = {
            name: mask if name == FOV else _shift_mask(mask, down, right) & valid for name, mask in cube.masks.items()
        }
        return dataclasses.replace(replace_valid_pixels(cube, data, valid), masks=masks)


class FlippedCopy(NearCopy):
    """Training cubes mirrored."""

    name: ClassVar[str] = "copy-flip"
    summary: ClassVar[str] = "samples replaced by training cubes mirrored left to right or upside down"

    def copy(self, cube: Cube, *, wavelengths: Float64Array, rng: np.random.Generator) -> Cube:
        """Return the cube mirrored with its field."""
        axis = int(rng.integers(-2, 0))
        return _transform_cube(cube, lambda images: np.flip(images, axis))


class RotatedCopy(NearCopy):
    """Training cubes rotated."""

    name: ClassVar[str] = "copy-rotation"
    summary: ClassVar[str] = "samples replaced by training cubes rotated by 90, 180 or 270 degrees"

    def copy(self, cube: Cube, *, wavelengths: Float64Array, rng: np.random.Generator) -> Cube:
        """Return the cube rotated with its field; cubes that are not square are rotated by 180 degrees."""
        height, width = cube.data.shape[1:]
        turns = int(rng.integers(1, 4)) if height == width else 2
        return _transform_cube(cube, lambda images: np.rot90(images, turns, axes=(-2, -1)))


class RescaledCopy(NearCopy):
    """Training cubes brighter or darker."""

    name: ClassVar[str] = "copy-gain"
    summary: ClassVar[str] = f"samples replaced by training cubes that are {GAIN_CHANGE:.0%} brighter or darker"

    def copy(self, cube: Cube, *, wavelengths: Float64Array, rng: np.random.Generator) -> Cube:
        """Return the cube times one factor."""
        valid = compute_valid_mask(cube)
        factor = np.float32(1 + GAIN_CHANGE * rng.choice((-1.0, 1.0)))
        return replace_valid_pixels(cube, zero_invalid_pixels(cube, valid) * factor, valid)


def _transform_cube(cube: Cube, transform: Callable[[NDArray[np.generic]], NDArray[np.generic]]) -> Cube:
    masks = {name: np.ascontiguousarray(transform(mask)).astype(bool) for name, mask in cube.masks.items()}
    return dataclasses.replace(cube, data=np.ascontiguousarray(transform(cube.data), dtype=np.float32), masks=masks)


def _shift_mask(mask: NDArray[np.bool_], down: int, right: int) -> NDArray[np.bool_]:
    """Move a mask by whole pixels; pixels that come in are False."""
    margin = max(abs(down), abs(right))
    padded = np.pad(mask, margin)
    height, width = mask.shape
    shifted: NDArray[np.bool_] = padded[margin - down : margin - down + height, margin - right : margin - right + width]
    return shifted
