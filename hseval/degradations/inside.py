"""Helpers of degradations: valid pixels, a cube's level, and replacing values inside the field alone."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.cubes import FOV, Cube
from hseval.data.field_of_view import compute_canvas_shape, fill_outside

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.cubes import CubeSet

    Float32Array = NDArray[np.float32]


def compute_valid_mask(cube: Cube) -> NDArray[np.bool_]:
    """Return bool ``(y, x)``: inside the field of view, if there is one, and finite in every band."""
    finite = np.asarray(np.isfinite(cube.data).all(axis=0))
    return finite & cube.masks[FOV] if FOV in cube.masks else finite


def zero_invalid_pixels(cube: Cube, valid: NDArray[np.bool_]) -> Float32Array:
    """Return the cube's values, float32 ``(band, y, x)``, 0 where not valid."""
    return np.where(valid, cube.data, np.float32(0)).astype(np.float32, copy=False)


def replace_valid_pixels(cube: Cube, data: NDArray[Any], valid: NDArray[np.bool_]) -> Cube:
    """Return the cube with other values, float32, at its valid pixels; others are unchanged."""
    return dataclasses.replace(cube, data=np.where(valid, data, cube.data).astype(np.float32, copy=False))


def compute_band_levels(cube: Cube, valid: NDArray[np.bool_]) -> Float32Array:
    """Return the median absolute value of each band over valid pixels, ``(band, 1, 1)``; 0 where none is valid."""
    if not valid.any():
        return np.zeros((len(cube.data), 1, 1), dtype=np.float32)
    medians = np.median(np.abs(cube.data[:, valid]), axis=1)
    return medians.astype(np.float32)[:, None, None]


def fill_to_canvas(values: Float32Array, valid: NDArray[np.bool_], *, margin: int = 0) -> Float32Array:
    """Return values ``(band, y, x)`` on a periodic canvas, at least ``margin`` px larger, filled smoothly outside."""
    import torch

    canvas = compute_canvas_shape(*valid.shape, margin=margin)
    tensors = torch.from_numpy(values[None]), torch.from_numpy(valid[None])
    filled: Float32Array = fill_outside(*tensors, canvas=canvas)[0].numpy()
    return filled


def explain_missing_wavelengths(data: CubeSet) -> str | None:
    """Return why a set has no spectra to interpolate, or None: wavelengths in nm and 2 bands of different centers."""
    if not data.info.wavelengths_known:
        return "needs wavelengths in nm (--wavelengths)"
    if len(np.unique(data.wavelengths)) < 2:
        return f"needs at least 2 bands of different wavelengths, found {len(data.wavelengths)}"
    return None


def explain_missing_bands(data: CubeSet) -> str | None:
    """Return why a set has no neighboring bands, or None."""
    return None if len(data.wavelengths) >= 2 else "needs at least 2 bands, found 1"
