"""Thin dark lines filled from beside them: what a generator that draws no fine vessels leaves out."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hseval.degradations.base import FitForAll, Kind
from hseval.degradations.inside import spoiled, valid_pixels, zero_outside

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.cubes import Cube

    Doubles = NDArray[np.float64]
    Floats = NDArray[np.float32]
    Steps = tuple[tuple[int, int], ...]

DIRECTIONS = 8  # of the segments that follow a line: 22.5 degrees apart


class SmallVessels(FitForAll):
    """Thin dark lines removed, by width."""

    name: ClassVar[str] = "small-vessels"
    summary: ClassVar[str] = "thin dark lines filled from beside them, in any data: vessels up to a width removed"
    kind: ClassVar[Kind] = "spatial"
    unit: ClassVar[str] = "px of width"
    doses: ClassVar[tuple[float, ...]] = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0)
    shared: ClassVar[bool] = True

    def degrade(self, cube: Cube, dose: float, *, wavelengths: Doubles, rng: np.random.Generator) -> Cube:
        """Return the cube without dark lines up to ``dose`` px wide; between whole widths the two are mixed."""
        valid = valid_pixels(cube)
        values = zero_outside(cube, valid)
        width = int(dose)
        share = np.float32(dose - width)
        data = values + (1 - share) * dark_lines(values, valid, width)
        if share:
            data += share * dark_lines(values, valid, width + 1)
        return spoiled(cube, data, valid)


def dark_lines(values: Floats, valid: NDArray[np.bool_], width: int) -> Floats:
    """Return how deep the dark lines of at most ``width`` px are, by band, at every pixel; 0 elsewhere.

    A closing by a square fills all that is dark and narrow; a closing by a segment along the line leaves a line as it
    is and fills what is short (a dark pixel of noise): their difference are lines (the top hats by segments of F. Zana
    and J.-C. Klein, IEEE Trans. Image Processing 10:1010, 2001).

    Args:
        values: ``(band, y, x)``.
        valid: bool ``(y, x)``; other pixels take no part.
        width: px; 0 finds nothing.
    """
    if width == 0:
        return np.zeros_like(values)
    dilated = np.where(valid, values, -np.inf).astype(np.float32, copy=False)
    along = np.full_like(values, np.inf)
    for index in range(DIRECTIONS):
        np.minimum(along, closed(dilated, valid, segment(2 * width + 5, np.pi * index / DIRECTIONS)), out=along)
    filled = _closed_by_square(dilated, valid, width + 1)
    depth = np.subtract(filled, along, out=np.zeros_like(values), where=valid)
    return np.maximum(depth, 0, out=depth)


def segment(length: int, angle: float) -> Steps:
    """Return the pixels (down, right) of a straight segment of odd ``length``, symmetric about the origin."""
    step = np.array([np.sin(angle), np.cos(angle)])
    step = step / np.abs(step).max()
    half = length // 2
    places = np.round(np.arange(1, half + 1)[:, None] * step).astype(int).tolist()
    return ((0, 0), *((y, x) for y, x in places), *((-y, -x) for y, x in places))


def closed(dilated: Floats, valid: NDArray[np.bool_], element: Steps) -> Floats:
    """Return the closing of images that hold -inf where not valid, by a symmetric element, over valid pixels alone."""
    grown = _extreme(dilated, element, np.maximum, -np.inf)
    return _extreme(np.where(valid, grown, np.float32(np.inf)), element, np.minimum, np.inf)


def _closed_by_square(dilated: Floats, valid: NDArray[np.bool_], size: int) -> Floats:
    """Return the closing by a square of ``size`` px; of an even size, grown to one side and shrunk to the other."""
    down = tuple((y, 0) for y in range(size))
    right = tuple((0, x) for x in range(size))
    up = tuple((-y, 0) for y, _ in down)
    left = tuple((0, -x) for _, x in right)
    grown = _extreme(_extreme(dilated, down, np.maximum, -np.inf), right, np.maximum, -np.inf)
    shrunk = np.where(valid, grown, np.float32(np.inf))
    return _extreme(_extreme(shrunk, up, np.minimum, np.inf), left, np.minimum, np.inf)


def _extreme(images: Floats, element: Steps, pick: np.ufunc, beyond: float) -> Floats:
    """Return the extreme of ``images[..., y - down, x - right]`` over an element; ``beyond`` lies outside."""
    reach = max(max(abs(y), abs(x)) for y, x in element)
    height, width = images.shape[-2:]
    padded = np.pad(images, ((0, 0), (reach, reach), (reach, reach)), constant_values=np.float32(beyond))
    best = np.full_like(images, beyond)
    for down, right in element:
        top, left = reach - down, reach - right
        pick(best, padded[:, top : top + height, left : left + width], out=best)
    return best
