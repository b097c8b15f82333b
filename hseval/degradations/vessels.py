"""Thin dark lines filled from their sides, as if a generator drew no fine vessels."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hseval.degradations.base import DegradationKind, UnrestrictedDegradation
from hseval.degradations.inside import compute_valid_mask, replace_valid_pixels, zero_invalid_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.cubes import Cube

    Float64Array = NDArray[np.float64]
    Float32Array = NDArray[np.float32]
    StructuringElement = tuple[tuple[int, int], ...]

N_DIRECTIONS = 8  # of the segments that follow a line, in steps of 22.5 degrees


class SmallVesselRemoval(UnrestrictedDegradation):
    """Thin dark lines removed, by width."""

    name: ClassVar[str] = "small-vessels"
    summary: ClassVar[str] = "thin dark lines filled from their sides, in any data: vessels up to a width removed"
    kind: ClassVar[DegradationKind] = "spatial"
    unit: ClassVar[str] = "px of width"
    severities: ClassVar[tuple[float, ...]] = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0)
    is_set_wide: ClassVar[bool] = True

    def degrade(self, cube: Cube, severity: float, *, wavelengths: Float64Array, rng: np.random.Generator) -> Cube:
        """Return the cube without dark lines up to ``severity`` px wide; between whole widths the two are mixed."""
        valid = compute_valid_mask(cube)
        values = zero_invalid_pixels(cube, valid)
        width = int(severity)
        share = np.float32(severity - width)
        data = values + (1 - share) * compute_dark_line_depth(values, valid, width)
        if share:
            data += share * compute_dark_line_depth(values, valid, width + 1)
        return replace_valid_pixels(cube, data, valid)


def compute_dark_line_depth(values: Float32Array, valid: NDArray[np.bool_], width: int) -> Float32Array:
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
    dilated = np.where(valid, values, -np.inf).astype(np.float32, copy=False)
    along = np.full_like(values, np.inf)
    for index in range(N_DIRECTIONS):
        np.minimum(
            along,
            apply_closing(dilated, valid, make_line_element(2 * width + 5, np.pi * index / N_DIRECTIONS)),
            out=along,
        )
    filled = _apply_square_closing(dilated, valid, width + 1)
    depth = np.subtract(filled, along, out=np.zeros_like(values), where=valid)
    return np.maximum(depth, 0, out=depth)


def make_line_element(length: int, angle: float) -> StructuringElement:
    """Return the pixels (down, right) of a straight segment of odd ``length``, symmetric about the origin."""
    step = np.array([np.sin(angle), np.cos(angle)])
    step = step / np.abs(step).max()
    half = length // 2
    offsets = np.round(np.arange(1, half + 1)[:, None] * step).astype(int).tolist()
    return ((0, 0), *((y, x) for y, x in offsets), *((-y, -x) for y, x in offsets))


def apply_closing(images: Float32Array, valid: NDArray[np.bool_], element: StructuringElement) -> Float32Array:
    """Return the closing of images that hold -inf where not valid, by a symmetric element, over valid pixels alone."""
    dilated = _apply_extremum_filter(images, element, np.maximum, -np.inf)
    return _apply_extremum_filter(np.where(valid, dilated, np.float32(np.inf)), element, np.minimum, np.inf)


def _apply_square_closing(images: Float32Array, valid: NDArray[np.bool_], size: int) -> Float32Array:
    """Return the closing by a square of ``size`` px; an even size dilates to one side and erodes to the other."""
    down = tuple((y, 0) for y in range(size))
    right = tuple((0, x) for x in range(size))
    up = tuple((-y, 0) for y, _ in down)
    left = tuple((0, -x) for _, x in right)
    dilated = _apply_extremum_filter(
        _apply_extremum_filter(images, down, np.maximum, -np.inf), right, np.maximum, -np.inf
    )
    masked = np.where(valid, dilated, np.float32(np.inf))
    return _apply_extremum_filter(_apply_extremum_filter(masked, up, np.minimum, np.inf), left, np.minimum, np.inf)


def _apply_extremum_filter(
    images: Float32Array, element: StructuringElement, extremum: np.ufunc, fill_value: float
) -> Float32Array:
    """Return the extreme of ``images[..., y - down, x - right]`` over an element; ``fill_value`` lies outside."""
    margin = max(max(abs(y), abs(x)) for y, x in element)
    height, width = images.shape[-2:]
    padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin)), constant_values=np.float32(fill_value))
    best = np.full_like(images, fill_value)
    for down, right in element:
        top, left = margin - down, margin - right
        extremum(best, padded[:, top : top + height, left : left + width], out=best)
    return best
