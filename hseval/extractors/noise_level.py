"""The noise of every band, from a high-pass residual of its pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from hseval.core.cubes import FOV
from hseval.data.field_of_view import erode_fov, find_valid_pixels
from hseval.utils.arrays import Array, BoolArray, Float32Array

HALF_NORMAL_MEDIAN = 0.6744897501960817  # of the absolute value of a standard normal variable
KERNEL_NORM = 6.0  # the root of the sum of squares of the mask's weights


class NoiseLevel:
    """Standard deviation of each band's noise."""

    name: ClassVar[str] = "noise-level"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "standard deviation of each band's noise, from a high-pass residual"
    reads_structures: ClassVar[bool] = False

    def __call__(self, cubes: Float32Array, *, wavelengths: Array, masks: Mapping[str, BoolArray]) -> Float32Array:
        """Return float32 ``(n, band)`` by :func:`estimate_noise_level`, in the cubes' units."""
        fields = find_valid_pixels(cubes, masks[FOV])
        levels = [estimate_noise_level(cube, valid) for cube, valid in zip(cubes, fields, strict=True)]
        return np.stack(levels) if levels else np.empty(cubes.shape[:2], np.float32)


def estimate_noise_level(cube: Float32Array, valid: BoolArray) -> Float32Array:
    """Return each band's noise, float32 ``(band,)``, in the cube's units.

    The median absolute residual of the mask ``[1 -2 1; -2 4 -2; 1 -2 1]`` over 0.6745 x 6 (Immerkaer, Fast noise
    variance estimation, 1996, equation 2, with the median in place of the mean, so that vessels and edges do not count
    as noise). The residual is 0 for images that are linear along rows or along columns. Only residuals count whose
    3 x 3 pixels all lie in the eroded field (in the field itself where the eroded one holds none).

    Args:
        cube: ``(band, y, x)``.
        valid: bool ``(y, x)``.

    Returns:
        NaN in every band if no 3 x 3 pixels are valid.
    """
    for field in (erode_fov(valid[None])[0], valid):
        complete = _erode_along_axis(_erode_along_axis(field, 0), 1)
        if complete.any():
            values = np.where(field, cube, np.float32(0)).astype(np.float64)
            residual = np.diff(np.diff(values, n=2, axis=1), n=2, axis=2)[:, complete]
            return (np.median(np.abs(residual), axis=1) / (HALF_NORMAL_MEDIAN * KERNEL_NORM)).astype(np.float32)
    return np.full(len(cube), np.nan, dtype=np.float32)


def _erode_along_axis(field: BoolArray, axis: int) -> BoolArray:
    """Return where three pixels in a row along an axis are all True; two shorter than ``field``."""
    size = max(field.shape[axis] - 2, 0)
    first, second, third = (np.take(field, np.arange(size) + step, axis=axis) for step in range(3))
    return first & second & third
