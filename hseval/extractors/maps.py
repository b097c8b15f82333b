"""Low-resolution maps of a cube, independent of its size and gain, by which copies are found."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from hseval.core.cubes import FOV
from hseval.core.options import option
from hseval.extractors.spectral_windows import compute_window_weights
from hseval.utils.arrays import Array, BoolArray, Float32Array, Float64Array

SIZE_BOUNDS = (8, 128)  # with fewer cells cubes look alike; more are no low resolution
MIN_COVERAGE = 0.25  # a cell counts if at least this share of its area is valid


class LowresMaps:
    """Area averages of a few spectral windows on a square grid over the field of view's bounding box."""

    name: ClassVar[str] = "maps"
    version: ClassVar[str] = "2"
    summary: ClassVar[str] = "gain-normalized low-resolution maps of a few spectral windows"
    reads_structures: ClassVar[bool] = False

    @dataclasses.dataclass(frozen=True)
    class Options:
        """Options of the maps."""

        size: int = option(32, "cells along each side of a map")
        windows: int = option(4, "smooth spectral windows")

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()
        if not SIZE_BOUNDS[0] <= self.options.size <= SIZE_BOUNDS[1] or self.options.windows < 1:
            message = f"size is {self.options.size} and windows is {self.options.windows}"
            raise ValueError(f"{message}, expected size {SIZE_BOUNDS[0]} to {SIZE_BOUNDS[1]} and windows 1 or more")

    def __call__(
        self, cubes: Float32Array, *, wavelengths: Array, masks: Mapping[str, BoolArray]
    ) -> dict[str, Float32Array]:
        """Return the maps of a batch of cubes ``(n, band, y, x)``.

        Returns:
            Under ``""`` float32 ``(n, C, G, G)``: mean absolute value 1 and then mean 0 in each window, NaN in
            cells that are mostly outside the field. ``pixels`` ``(n, 2)``: height and width of the frame that the grid
            covers, which convert a shift in cells to pixels.
        """
        windows = compute_window_weights(wavelengths, self.options.windows)
        shape = (len(cubes), len(windows), self.options.size, self.options.size)
        maps = np.empty(shape, dtype=np.float32)
        for i, (cube, field) in enumerate(zip(cubes, masks[FOV], strict=True)):
            maps[i] = normalize_gain(average_over_grid(_apply_windows(cube, windows, field), field, self.options.size))
        pixels = np.tile(np.array(cubes.shape[2:], dtype=np.float32), (len(cubes), 1))
        return {"": maps, "pixels": pixels}


def average_over_grid(images: Float64Array, field: BoolArray, size: int) -> Float64Array:
    """Average images over the cells of a ``size x size`` grid laid over the whole frame.

    A pixel cut by a cell's border counts with its share inside, so the result hardly depends on the frame's size in
    pixels.

    Args:
        images: ``(C, y, x)``, 0 outside ``field``.
        field: bool ``(y, x)``, the valid pixels.
        size: cells along each side.

    Returns:
        ``(C, size, size)``, NaN where less than a share ``MIN_COVERAGE`` of a cell is valid.
    """
    rows, columns = _compute_overlaps(size, field.shape[0]), _compute_overlaps(size, field.shape[1])
    covered = rows @ field.astype(np.float64) @ columns.T
    sums = rows @ images @ columns.T
    with np.errstate(divide="ignore", invalid="ignore"):
        averages: Float64Array = np.where(covered >= MIN_COVERAGE, sums / covered, np.nan)
    return averages


def normalize_gain(maps: Float64Array) -> Float64Array:
    """Divide maps ``(C, G, G)`` by their mean absolute value and subtract each window's mean (NaN ignored)."""
    known = np.isfinite(maps)
    if not known.any():
        return maps
    gain = np.abs(maps[known]).mean() or 1.0
    means = np.where(known, maps, 0.0).sum(axis=(1, 2)) / known.sum(axis=(1, 2))
    return np.asarray((maps - means[:, None, None]) / gain)


def _apply_windows(cube: Float32Array, windows: Float64Array, field: BoolArray) -> Float64Array:
    """Return the cube averaged under each window, ``(C, y, x)``, with 0 outside the field."""
    averages: Float64Array = np.zeros((len(windows), *field.shape))
    averages[:, field] = windows @ cube[:, field].astype(np.float64)
    return averages


def _compute_overlaps(cells: int, pixels: int) -> Float64Array:
    """Return ``(cells, pixels)``: the share of each cell's length that each pixel fills."""
    edges = np.arange(cells + 1) * (pixels / cells)
    start, stop = edges[:-1, None], edges[1:, None]
    index = np.arange(pixels)
    overlap = np.minimum(stop, index + 1.0) - np.maximum(start, index)
    return np.asarray(np.clip(overlap, 0.0, None) * (cells / pixels))
