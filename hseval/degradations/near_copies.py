"""Near-copies of training cubes: exact, noisy, shifted, mirrored, rotated, rescaled."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from hseval.core.cubes import FOV, Cube
from hseval.degradations.base import CopyDegradation
from hseval.degradations.inside import (
    compute_band_levels,
    fill_to_canvas,
    replace_valid_pixels,
    split_valid_pixels,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from hseval.utils.arrays import Array
    from hseval.utils.random_streams import Rng


NOISE_LEVEL, GAIN_CHANGE, SHIFT_PX = 0.01, 0.05, 2


class NearCopy(CopyDegradation):
    """Base of all near-copies: the severity is their share of the samples."""

    unit = "% of samples"
    severities = (1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 50.0)


class ExactCopy(NearCopy):
    """Training cubes, unchanged."""

    name = "copy-exact"
    summary = "samples replaced by training cubes"

    def copy(self, cube: Cube, *, wavelengths: Array, rng: Rng) -> Cube:
        """Return the cube."""
        return cube


class NoisyCopy(NearCopy):
    """Training cubes with noise."""

    name = "copy-noise"
    summary = f"samples replaced by training cubes with noise of {NOISE_LEVEL:.0%} of each band's median level"

    def copy(self, cube: Cube, *, wavelengths: Array, rng: Rng) -> Cube:
        """Return the cube with white Gaussian noise."""
        values, valid = split_valid_pixels(cube)
        scale = np.float32(NOISE_LEVEL) * compute_band_levels(values, valid)
        noise = scale * rng.standard_normal(values.shape, dtype=np.float32)
        return replace_valid_pixels(cube, values + noise, valid)


class ShiftedCopy(NearCopy):
    """Training cubes moved under a field of view that stays."""

    name = "copy-shift"
    summary = f"samples replaced by training cubes moved by {SHIFT_PX} px under a field that stays"

    def copy(self, cube: Cube, *, wavelengths: Array, rng: Rng) -> Cube:
        """Return the cube moved up, down, left or right; pixels that come in continue the others smoothly."""
        from scipy.ndimage import shift

        down, right = ((SHIFT_PX, 0), (-SHIFT_PX, 0), (0, SHIFT_PX), (0, -SHIFT_PX))[rng.integers(4)]
        values, valid = split_valid_pixels(cube)
        height, width = valid.shape
        filled = fill_to_canvas(values, valid, margin=2 * SHIFT_PX)
        data = np.roll(filled, (down, right), axis=(1, 2))[:, :height, :width]
        moved = {name: shift(mask, (down, right), order=0) & valid for name, mask in cube.masks.items() if name != FOV}
        return dataclasses.replace(replace_valid_pixels(cube, data, valid), masks={**cube.masks, **moved})


class FlippedCopy(NearCopy):
    """Training cubes mirrored."""

    name = "copy-flip"
    summary = "samples replaced by training cubes mirrored left to right or upside down"

    def copy(self, cube: Cube, *, wavelengths: Array, rng: Rng) -> Cube:
        """Return the cube mirrored with its field."""
        axis = int(rng.integers(-2, 0))
        return _transform_cube(cube, lambda images: np.flip(images, axis))


class RotatedCopy(NearCopy):
    """Training cubes rotated."""

    name = "copy-rotation"
    summary = "samples replaced by training cubes rotated by 90, 180 or 270 degrees"

    def copy(self, cube: Cube, *, wavelengths: Array, rng: Rng) -> Cube:
        """Return the cube rotated with its field; cubes that are not square are rotated by 180 degrees."""
        height, width = cube.data.shape[1:]
        turns = int(rng.integers(1, 4)) if height == width else 2
        return _transform_cube(cube, lambda images: np.rot90(images, turns, axes=(-2, -1)))


class RescaledCopy(NearCopy):
    """Training cubes brighter or darker."""

    name = "copy-gain"
    summary = f"samples replaced by training cubes that are {GAIN_CHANGE:.0%} brighter or darker"

    def copy(self, cube: Cube, *, wavelengths: Array, rng: Rng) -> Cube:
        """Return the cube times one factor."""
        factor = np.float32(1 + GAIN_CHANGE * rng.choice((-1.0, 1.0)))
        values, valid = split_valid_pixels(cube)
        return replace_valid_pixels(cube, values * factor, valid)


def _transform_cube(cube: Cube, transform: Callable[[NDArray[np.generic]], NDArray[np.generic]]) -> Cube:
    masks = {name: np.ascontiguousarray(transform(mask)).astype(bool) for name, mask in cube.masks.items()}
    return dataclasses.replace(cube, data=np.ascontiguousarray(transform(cube.data), dtype=np.float32), masks=masks)
