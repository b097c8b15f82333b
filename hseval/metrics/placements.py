"""How a cube may lie on another one: turned, mirrored, and shifted by a little."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

REACH = 2  # steps: the largest shift searched
LARGEST = 0.25  # of a map's side, and no farther: what is left of two cubes would tell little


class Placement(NamedTuple):
    """How a query was laid on the base: turned, mirrored, then shifted by cells."""

    turns: int
    mirrored: bool
    down: int
    right: int

    def __str__(self) -> str:
        turned = f"turned {90 * self.turns} degrees" if self.turns else ""
        moved = f"shifted by ({self.down}, {self.right}) cells" if self.down or self.right else ""
        said = [word for word in (turned, "mirrored" if self.mirrored else "", moved) if word]
        return ", ".join(said) or "as it is"


def step_of(pixels: NDArray[Any], size: int) -> tuple[float, float]:
    """Return how many cells a shift by one step is, down and to the right.

    A step is a pixel or a cell, whichever is larger. So shifts reach at least 2 pixels whatever the cubes' size, down
    to 8 pixels a side, and the number of placements is the same for all of them.

    Args:
        pixels: rows and columns ``(n, 2)`` that maps of ``size`` cells a side lie over; the median cube decides.
        size: cells along each side of a map.
    """
    cells = size / np.median(pixels, axis=0)
    down, right = np.clip(cells, 1.0, max(1.0, LARGEST * size / REACH)).tolist()
    return down, right


@functools.cache
def placements(step: tuple[float, float]) -> tuple[Placement, ...]:
    """Return the 104 placements: eight orientations, each shifted by up to two steps.

    The least moved come first: among equals it is the one reported.
    """
    shifts = [
        (round(down * step[0]), round(right * step[1]))
        for down in range(-REACH, REACH + 1)
        for right in range(-REACH, REACH + 1)
        if down**2 + right**2 <= REACH**2
    ]
    every = [Placement(turns, mirrored, *moved) for turns in range(4) for mirrored in (False, True) for moved in shifts]
    return tuple(sorted(every, key=lambda place: (place.down**2 + place.right**2, place)))


def oriented(maps: NDArray[Any], turns: int, mirrored: bool) -> NDArray[Any]:
    """Turn maps ``(..., G, G)`` by 90 degrees ``turns`` times, then mirror them left to right if told so."""
    turned = np.rot90(maps, turns, axes=(-2, -1))
    return turned[..., ::-1] if mirrored else turned


def shifted(maps: NDArray[Any], down: int, right: int) -> NDArray[Any]:
    """Shift maps ``(..., G, G)`` by whole cells; what comes in is 0."""
    size = maps.shape[-1]
    moved = np.zeros_like(maps)
    moved[..., max(down, 0) : size + min(down, 0), max(right, 0) : size + min(right, 0)] = maps[
        ..., max(-down, 0) : size + min(-down, 0), max(-right, 0) : size + min(-right, 0)
    ]
    return moved


def placed(maps: NDArray[np.float32], place: Placement) -> NDArray[np.float32]:
    """Return maps ``(n, C, G, G)`` turned, mirrored and shifted."""
    return shifted(oriented(maps, place.turns, place.mirrored), place.down, place.right)


def laid(maps: NDArray[np.float32], placement: NDArray[np.int64], places: Sequence[Placement]) -> NDArray[np.float32]:
    """Return each of the maps ``(n, C, G, G)`` laid by its own placement (an index into ``places``)."""
    found = np.empty_like(maps)
    for index in np.unique(placement):
        own = placement == index
        found[own] = placed(maps[own], places[index])
    return found
