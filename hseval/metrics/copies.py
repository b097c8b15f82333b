"""Finding copies that were turned, mirrored, shifted, brightened or made noisy: the numerics of the search.

Two eyes look alike in what all eyes share: falloff of illumination, brightness, the field's shape. What tells
one from another is detail of middle size (which vessel runs where). So maps are band-passed, what the training
set has in common is taken away, and the angle between what is left decides; a gain cancels.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hseval.neighbors import Neighbors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FINE, COARSE = 0.75, 3.0  # standard deviations, in cells, of the two Gaussians whose difference is the band-pass
REACH = 2  # cells: the largest shift searched
BLOCK = 32  # queries whose placements are held at a time


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


PLACEMENTS = sorted(
    (
        Placement(turns, mirrored, down, right)
        for turns in range(4)
        for mirrored in (False, True)
        for down in range(-REACH, REACH + 1)
        for right in range(-REACH, REACH + 1)
        if down**2 + right**2 <= REACH**2
    ),
    key=lambda place: (place.down**2 + place.right**2, place),
)  # the least moved first: among equals it is the one reported


class Found(NamedTuple):
    """The nearest base cube of each query: distance between 0 and 2, its row, the index of the placement."""

    distance: Floats
    row: NDArray[np.int64]
    placement: NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Common:
    """What the training set has in common, to be taken away.

    Attributes:
        mean: ``(C, G, G)`` mean band-passed map over training cubes and the eight orientations, so that a
            turned copy is treated as the original is.
        scale: ``(C,)`` root mean square of what is left, by window: all windows count, none dominates.
    """

    mean: Floats
    scale: Floats

    @classmethod
    def of(cls, maps: NDArray[Any]) -> Common:
        """Learn from training maps ``(n, C, G, G)``, NaN where not valid."""
        passed, valid = band_pass(maps)
        mean = sum(oriented(passed.mean(axis=0), *each) for each in _orientations()) / 8
        left = (passed - mean) * valid
        scale = np.sqrt(np.mean(left**2, axis=(0, 2, 3)))
        return cls(np.asarray(mean), np.where(scale > 0, scale, 1.0))

    def removed(self, maps: NDArray[Any]) -> NDArray[np.float32]:
        """Return what is left of maps ``(n, C, G, G)``; 0 where not valid."""
        passed, valid = band_pass(maps)
        return ((passed - self.mean) * valid / self.scale[:, None, None]).astype(np.float32)


def band_pass(maps: NDArray[Any]) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the difference of two Gaussian blurs of the valid cells, and which cells are valid.

    Blurs are normalised by the blurred validity (Knutsson and Westin, CVPR 1993, equation 7 with constant
    basis), so neither the field's rim nor gaps inside it become edges.

    Args:
        maps: ``(n, C, G, G)``, NaN where not valid.

    Returns:
        float64 ``(n, C, G, G)``, 0 where not valid, and bool ``(n, C, G, G)``.
    """
    valid = np.isfinite(maps)
    values = np.where(valid, maps, 0.0).astype(np.float64)
    size = maps.shape[-1]
    blurred = []
    for sigma in (FINE, COARSE):
        kernel = _gaussian(size, sigma)
        mass = kernel @ valid.astype(np.float64) @ kernel.T
        blurred.append((kernel @ values @ kernel.T) / np.maximum(mass, 1e-12))
    return (blurred[0] - blurred[1]) * valid, valid


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


def vectors(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return maps ``(..., C, G, G)`` as rows ``(..., D)`` of length 1 (0 where a map is 0 throughout).

    Cells are averaged two by two (after the shift: shifts are finer than rows), which makes rows a quarter as
    long and tolerates shifts by parts of a cell.
    """
    rows = _halved(maps).reshape(*maps.shape[:-3], -1)
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    units: NDArray[np.float32] = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    return units


def search(maps: NDArray[np.float32], base: Neighbors, *, exclude: NDArray[Any] | None = None) -> Found:
    """Find each query's nearest base cube over all placements of the query.

    Args:
        maps: ``(n, C, G, G)``, from :meth:`Common.removed`.
        base: rows by :func:`vectors` of the base's maps.
        exclude: ``(n,)`` one base row for each query that does not count, or None.
    """
    found = []
    for start in range(0, len(maps), BLOCK):
        barred = None if exclude is None else exclude[start : start + BLOCK]
        found.append(_search_block(maps[start : start + BLOCK], base, barred))
    return Found(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _search_block(maps: NDArray[np.float32], base: Neighbors, exclude: NDArray[Any] | None) -> Found:
    rows = np.stack([vectors(_placed(maps, place)) for place in PLACEMENTS], axis=1)
    shape = rows.shape[:2]
    rows = rows.reshape(-1, rows.shape[-1])
    barred = None if exclude is None else np.repeat(exclude, len(PLACEMENTS))
    squared, error = (each.reshape(shape) for each in base.screen(rows, exclude=barred))
    hopeful = np.flatnonzero(squared - error <= (squared + error).min(axis=1, keepdims=True))
    distance, row = np.full(shape, np.inf), np.zeros(shape, dtype=np.int64)
    distance.flat[hopeful], row.flat[hopeful] = (
        each[:, 0] for each in base.nearest(rows[hopeful], exclude=None if barred is None else barred[hopeful])
    )
    best, own = distance.argmin(axis=1), np.arange(len(maps))
    return Found(distance[own, best], row[own, best], best)


def _placed(maps: NDArray[np.float32], place: Placement) -> NDArray[np.float32]:
    return shifted(oriented(maps, place.turns, place.mirrored), place.down, place.right)


def _halved(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average cells two by two; an odd last row or column is left out, maps of one cell stay."""
    size = maps.shape[-1] // 2 * 2
    if size == 0:
        return maps
    rows = maps[..., 0:size:2, :] + maps[..., 1:size:2, :]
    halves: NDArray[np.float32] = (rows[..., 0:size:2] + rows[..., 1:size:2]) * np.float32(0.25)
    return halves


def _orientations() -> list[tuple[int, bool]]:
    return [(turns, mirrored) for turns in range(4) for mirrored in (False, True)]


def _gaussian(size: int, sigma: float) -> Floats:
    """Return a ``(size, size)`` blur; row i weighs the cells by their distance from cell i."""
    place = np.arange(size)
    kernel: Floats = np.exp(-0.5 * ((place - place[:, None]) / sigma) ** 2)
    return kernel
