"""The field of view, handled before any filter: bounding boxes, erosion, smooth fill, pooling weights.

Outside the valid pixels nothing is measured. To a filter the rim of a black surround is the strongest edge of the
image, so values there are filled smoothly from inside, and statistics of filtered images are pooled only where the
filter's support lies inside the eroded field.

Functions that take tensors work on any device; torch is imported when they are called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from hseval.utils.arrays import Array, BoolArray, Float32Array

if TYPE_CHECKING:
    import torch

Box = tuple[slice, slice]
CANVAS_MULTIPLE = 32  # px; canvas sizes are multiples of it, so that five levels of the fill's pyramid halve exactly
MIN_ERODED_FRACTION = 0.25  # a field that erosion would shrink below this fraction is not eroded
# Share of a filter's envelope inside the field at which the weight of a position starts to rise, and reaches 1.
COVERAGE_RAMP = (0.80, 0.95)


def find_valid_pixels(cubes: Array, fields: Array | None = None) -> BoolArray:
    """Return bool ``(..., y, x)``: pixels of ``(..., band, y, x)`` inside their field and finite in every band."""
    finite = np.asarray(np.isfinite(cubes).all(axis=-3))
    return finite if fields is None else finite & np.asarray(fields, dtype=bool)


def compute_bounding_box(valid: Array) -> Box:
    """Return the smallest box ``(rows, columns)`` that contains every valid pixel of ``valid`` (y, x).

    For a field without a valid pixel it is the whole image.
    """
    rows, columns = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
    if not rows.size:
        return slice(0, valid.shape[0]), slice(0, valid.shape[1])
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def group_by_bounding_box(valid: Array) -> dict[tuple[int, int, int, int], list[int]]:
    """Group the fields ``valid`` (n, y, x) by bounding box: (top, bottom, left, right) -> indices."""
    groups: dict[tuple[int, int, int, int], list[int]] = {}
    for index, field in enumerate(valid):
        rows, columns = compute_bounding_box(field)
        groups.setdefault((rows.start, rows.stop, columns.start, columns.stop), []).append(index)
    return groups


def compute_by_bounding_box(
    compute: Callable[[Array, BoolArray], Float32Array],
    cubes: Array,
    valid: BoolArray,
    *,
    batch_size: int | None = None,
) -> Float32Array:
    """Return features ``(n, feature)`` of cubes, each cropped to its box; NaN for a cube without a valid pixel.

    Args:
        compute: returns the features of cubes ``(k, band, y, x)`` and valid pixels ``(k, y, x)`` of one box.
        cubes: ``(n, band, y, x)``, at least one.
        valid: ``(n, y, x)``.
        batch_size: largest k; None: all cubes of a box.
    """
    features: dict[int, Float32Array] = {}
    for (top, bottom, left, right), indices in group_by_bounding_box(valid).items():
        size = batch_size or len(indices)
        for block in (indices[i : i + size] for i in range(0, len(indices), size)):
            part = cubes[block, :, top:bottom, left:right], valid[block, top:bottom, left:right]
            features.update(zip(block, compute(*part), strict=True))
    result = np.stack([features[i] for i in range(len(cubes))])
    result[~valid.any(axis=(1, 2))] = np.nan
    return result


def erode_fov(valid: Array) -> BoolArray:
    """Return fields ``valid`` (n, y, x) without their rim: pixels with at most one invalid pixel in 3 x 3.

    A rim pixel is partly surround (optics, resampling), so it is not a valid measurement. One invalid neighbor is
    tolerated: a single dead pixel does not make a rim. Pixels beyond the image count as invalid, so that the result
    does not depend on the crop. A field of which less than ``MIN_ERODED_FRACTION`` would remain is returned unchanged.
    """
    count, height, width = valid.shape
    padded = np.zeros((count, height + 2, width + 2), dtype=np.uint8)
    padded[:, 1:-1, 1:-1] = valid
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    inside = valid & (rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:] >= 8)
    enough = inside.sum(axis=(1, 2)) >= MIN_ERODED_FRACTION * valid.sum(axis=(1, 2))
    return np.where(enough[:, None, None], inside, valid).astype(bool)


def compute_canvas_shape(height: int, width: int, *, margin: int = 0) -> tuple[int, int]:
    """Return the shape of the periodic canvas for an image: plus ``margin`` px, rounded up to ``CANVAS_MULTIPLE``."""
    rows, columns = (-(-(length + margin) // CANVAS_MULTIPLE) * CANVAS_MULTIPLE for length in (height, width))
    return rows, columns


def fill_outside(images: torch.Tensor, valid: torch.Tensor, *, canvas: tuple[int, int]) -> torch.Tensor:
    """Return images on a periodic canvas, filled smoothly where they are not valid.

    Pull-push (Gortler et al., The Lumigraph, SIGGRAPH 1996, section 3.4): averages of the valid pixels at ever
    coarser levels, then the gaps of each level filled by interpolation of the coarser one. Valid pixels are unchanged;
    the fill is continuous across the canvas' edges, so that a cyclic convolution meets no jump.

    Args:
        images: float ``(n, c, y, x)``, finite; values outside ``valid`` are ignored.
        valid: bool ``(n, y, x)``, at least one pixel each for a fill other than 0.
        canvas: shape of the result, a multiple of ``CANVAS_MULTIPLE`` (see :func:`compute_canvas_shape`).

    Returns:
        ``(n, c, *canvas)``; the image is at the top left.
    """
    from torch.nn.functional import pad

    padding = (0, canvas[1] - images.shape[-1], 0, canvas[0] - images.shape[-2])
    weight = pad(valid[:, None].to(images.dtype), padding)
    return _pull_push(pad(images, padding) * weight, weight)


def _pull_push(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Fill where ``weight`` < 1; ``values`` (n, c, y, x) are already multiplied by ``weight`` (n, 1, y, x)."""
    from torch.nn.functional import avg_pool2d

    height, width = values.shape[-2:]
    if height % 2 or width % 2 or min(height, width) <= 2:
        total = weight.sum(dim=(2, 3), keepdim=True).clamp_min(1e-12)
        return values + (1 - weight) * (values.sum(dim=(2, 3), keepdim=True) / total)
    mass = 4 * avg_pool2d(weight, 2)
    scale = mass.clamp(max=1) / mass.clamp_min(1e-12)  # confidence saturates: one valid pixel in four is enough
    coarse = _pull_push(4 * avg_pool2d(values, 2) * scale, mass.clamp(max=1))
    return values + (1 - weight) * _upsample(coarse)


def _upsample(coarse: torch.Tensor) -> torch.Tensor:
    """Interpolate (n, c, y, x) linearly to twice the size, across the periodic edges."""
    from torch.nn.functional import interpolate, pad

    wrapped = pad(coarse, (1, 1, 1, 1), mode="circular")
    return interpolate(wrapped, scale_factor=2, mode="bilinear", align_corners=False)[..., 2:-2, 2:-2]


def compute_pooling_weights(coverage: torch.Tensor) -> torch.Tensor:
    """Return weights (n, y, x), summing to 1 a field, from the share of a filter's envelope inside the field.

    The weight rises smoothly from 0 at ``COVERAGE_RAMP[0]`` to its maximum at ``COVERAGE_RAMP[1]``. Coverage is
    relative to the field's best position, so that a field too small for the filter is pooled over its center.
    """
    low, high = COVERAGE_RAMP
    best = coverage.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)
    ramp = ((coverage / best - low) / (high - low)).clamp(0, 1)
    weight = ramp * ramp * (3 - 2 * ramp)
    return weight / weight.sum(dim=(1, 2), keepdim=True).clamp_min(1e-12)
