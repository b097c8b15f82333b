"""Vessels on a grid: the length of the path through blood at each sample."""

from __future__ import annotations

import numpy as np

from hseval.utils.arrays import FloatArray

MIN_RADIUS_SAMPLES = 0.75  # a thinner vessel could fall between samples
PATCH_SIZE_STEP = 4  # patches are grouped by size in steps of this many samples


def compute_path_lengths(starts: FloatArray, ends: FloatArray, radii: FloatArray, *, grid_size: int) -> FloatArray:
    """Return the chord through the deepest vessel at each sample, in samples, float32 ``(side, side)``.

    A vessel is a chain of cylinders with round ends, seen from above: at a distance d from its axis the chord is
    ``2 sqrt(r^2 - d^2)``. One thinner than a sample is drawn wider and shallower, with the same volume.

    Args:
        starts: segments' starts as (column, row), ``(segment, 2)``.
        ends: their ends.
        radii: in samples, ``(segment,)``.
        grid_size: of the square grid.
    """
    out = np.zeros(grid_size * grid_size, dtype=np.float32)
    widened = np.maximum(radii, MIN_RADIUS_SAMPLES)
    depth = (radii / widened) ** 2
    extent = 2.0 * (0.5 * np.abs(ends - starts).max(axis=1, initial=0.0) + widened) + 2.0
    patch = (np.ceil(extent / PATCH_SIZE_STEP) * PATCH_SIZE_STEP).astype(int)
    for width in np.unique(patch):
        group = patch == width
        _draw_segments(
            out, starts[group], ends[group], widened[group], depth[group], width=int(width), grid_size=grid_size
        )
    return out.reshape(grid_size, grid_size)


def _draw_segments(
    out: FloatArray,
    starts: FloatArray,
    ends: FloatArray,
    radii: FloatArray,
    depth_scale: FloatArray,
    *,
    width: int,
    grid_size: int,
) -> None:
    """Draw segments whose patches have one width, all at once; the longest chord remains."""
    corner = np.floor(0.5 * (starts + ends) - 0.5 * width + 0.5).astype(int)
    samples = corner[:, :, None] + np.arange(width)  # (segment, xy, width)
    dx = (samples[:, 0] - starts[:, 0, None]).astype(np.float32)[:, None, :]
    dy = (samples[:, 1] - starts[:, 1, None]).astype(np.float32)[:, :, None]
    axis = (ends - starts).astype(np.float32)
    ax, ay = axis[:, 0, None, None], axis[:, 1, None, None]
    along = np.clip((dx * ax + dy * ay) / np.maximum(ax * ax + ay * ay, 1e-12), 0.0, 1.0)
    square = (dx - along * ax) ** 2 + (dy - along * ay) ** 2
    inside_square = (radii**2).astype(np.float32)[:, None, None] - square
    inside = (samples >= 0) & (samples < grid_size)
    covered = (inside_square > 0.0) & inside[:, 0, None, :] & inside[:, 1, :, None]
    segment, row, column = np.nonzero(covered)
    chord = 2.0 * np.sqrt(inside_square[covered]) * depth_scale.astype(np.float32)[segment]
    np.maximum.at(out, samples[segment, 1, row] * grid_size + samples[segment, 0, column], chord)
