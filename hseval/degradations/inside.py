"""Helpers of degradations: valid pixels, a cube's level, and replacing values inside the field alone."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from hseval.core.cubes import FOV, Cube
from hseval.data.field_of_view import compute_canvas_shape, fill_outside, find_valid_pixels

if TYPE_CHECKING:
    from hseval.core.cubes import CubeSet
    from hseval.utils.arrays import Array, BoolArray


def split_valid_pixels(cube: Cube) -> tuple[Array, BoolArray]:
    """Return the cube's values, float32 ``(band, y, x)``, 0 where not valid, and its valid pixels, bool ``(y, x)``."""
    valid = find_valid_pixels(cube.data, cube.masks.get(FOV))
    return np.where(valid, cube.data, np.float32(0)).astype(np.float32, copy=False), valid


def replace_valid_pixels(cube: Cube, data: Array, valid: BoolArray) -> Cube:
    """Return the cube with other values, float32, at its valid pixels; others are unchanged."""
    return dataclasses.replace(cube, data=np.where(valid, data, cube.data).astype(np.float32, copy=False))


def compute_band_levels(values: Array, valid: BoolArray) -> Array:
    """Return the median absolute value of each band over valid pixels, ``(band, 1, 1)``; 0 where none is valid."""
    if not valid.any():
        return np.zeros((len(values), 1, 1), dtype=np.float32)
    medians = np.median(np.abs(values[:, valid]), axis=1)
    return medians.astype(np.float32)[:, None, None]


def fill_to_canvas(values: Array, valid: BoolArray, *, margin: int = 0) -> Array:
    """Return values ``(band, y, x)`` on a periodic canvas, at least ``margin`` px larger, filled smoothly outside."""
    import torch

    canvas = compute_canvas_shape(*valid.shape, margin=margin)
    tensors = torch.from_numpy(values[None]), torch.from_numpy(valid[None])
    return fill_outside(*tensors, canvas=canvas)[0].numpy()


def explain_missing_bands(data: CubeSet) -> str | None:
    """Return why a set has no neighboring bands, or None."""
    return None if len(data.wavelengths) >= 2 else "needs at least 2 bands, found 1"
