"""Thin dark lines filled from their sides, as if a generator drew no fine vessels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hseval.degradations.base import PixelDegradation

if TYPE_CHECKING:
    from hseval.utils.arrays import Array, BoolArray
    from hseval.utils.random_streams import Rng

N_DIRECTIONS = 8  # of the segments that follow a line, in steps of 22.5 degrees


class SmallVesselRemoval(PixelDegradation):
    """Thin dark lines removed, by width."""

    name = "small-vessels"
    summary = "thin dark lines filled from their sides, in any data: vessels up to a width removed"
    kind = "spatial"
    unit = "px of width"
    severities = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0)

    def change(self, values: Array, valid: BoolArray, severity: float, wavelengths: Array, rng: Rng) -> Array:
        """Return the values without dark lines up to ``severity`` px wide; between whole widths the two are mixed."""
        width = int(severity)
        share = np.float32(severity - width)
        data = values + (1 - share) * compute_dark_line_depth(values, valid, width)
        if share:
            data += share * compute_dark_line_depth(values, valid, width + 1)
        return data


def compute_dark_line_depth(values: Array, valid: BoolArray, width: int) -> Array:
    """Return how deep the dark lines of at most ``width`` px are, by band, at every pixel; 0 elsewhere.

    A closing by a square fills everything dark and narrow; a closing by a segment along a line preserves the line and
    fills what is short (a dark pixel of noise). Their difference is the lines (the top hats by segments of F. Zana and
    J.-C. Klein, IEEE Trans. Image Processing 10:1010, 2001).

    Args:
        values: ``(band, y, x)``.
        valid: bool ``(y, x)``; other pixels are ignored.
        width: px; 0 finds nothing.
    """
    if width == 0:
        return np.zeros_like(values)
    masked = np.where(valid, values, -np.inf).astype(np.float32, copy=False)
    along = np.full_like(values, np.inf)
    for index in range(N_DIRECTIONS):
        segment = make_line_element(2 * width + 5, np.pi * index / N_DIRECTIONS)
        np.minimum(along, apply_closing(masked, valid, segment), out=along)
    # A square, of which an even side has no middle: it dilates to one side and erodes to the other.
    square = np.ones((width + 1, width + 1), dtype=bool)
    filled = apply_closing(masked, valid, square, origins=(width // 2, -((width + 1) // 2)))
    depth = np.subtract(filled, along, out=np.zeros_like(values), where=valid)
    return np.maximum(depth, 0, out=depth)


def make_line_element(length: int, angle: float) -> BoolArray:
    """Return the pixels of a straight segment of odd ``length``, symmetric about the middle of ``(length, length)``."""
    step = np.array([np.sin(angle), np.cos(angle)])
    half = length // 2
    offsets = np.round(np.arange(1, half + 1)[:, None] * step / np.abs(step).max()).astype(int)
    element = np.zeros((length, length), dtype=bool)
    element[tuple(half + np.concatenate([offsets, [[0, 0]], -offsets]).T)] = True
    return element


def apply_closing(images: Array, valid: BoolArray, element: BoolArray, *, origins: tuple[int, int] = (0, 0)) -> Array:
    """Return the closing of images that hold -inf where not valid, by an element, over valid pixels alone.

    Args:
        images: ``(band, y, x)``.
        valid: bool ``(y, x)``.
        element: bool, of odd or even sides.
        origins: by how many px the element is moved off its middle for the dilation, and for the erosion.
    """
    from scipy.ndimage import maximum_filter, minimum_filter

    dilation, erosion = ((0, origin, origin) for origin in origins)
    dilated = maximum_filter(images, footprint=element[None], mode="constant", cval=-np.inf, origin=dilation)
    masked = np.where(valid, dilated, np.float32(np.inf))
    return minimum_filter(masked, footprint=element[None], mode="constant", cval=np.inf, origin=erosion)
