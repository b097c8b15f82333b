"""Finding copies that were turned, mirrored, shifted, brightened or made noisy: the numerics of the search.

Two eyes look alike in what all eyes share: falloff of illumination, a bright disc, the field's shape. What
tells one from another is detail of small and middle size (which vessel runs where). So maps are band-passed,
divided by their local contrast (or the disc alone would decide), the field's rim is left out, what the
training set has in common is taken away, and the angle between what is left decides; a gain cancels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hseval.metrics.placements import oriented, placed
from hseval.neighbors import Neighbors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hseval.metrics.placements import Placement

    Floats = NDArray[np.float64]

FINE, COARSE = 0.75, 1.5  # standard deviations, in cells, of the two Gaussians whose difference is the band-pass
NEARBY = 3.0  # the same of the Gaussian over which local contrast is measured
STEADY = 0.2  # of a map's overall contrast is added to the local one, so that flat regions do not become all noise
FLAT = 1e-6  # contrast (of a map whose mean value is 1) that is no more than rounding
RIM = 3  # cells at the field's rim that do not count: a shifted copy brings its surround in there
KEPT = 0.25  # a rim that leaves less of a field than this is kept
BLOCK = 32  # queries whose placements are held at a time
CHUNK = 256  # maps that are filtered at a time


class Found(NamedTuple):
    """The nearest base cube of each query: distance between 0 and 2, its row, the index of the placement."""

    distance: Floats
    row: NDArray[np.int64]
    placement: NDArray[np.int64]


def details(maps: NDArray[Any]) -> tuple[Floats, NDArray[np.bool_]]:
    """Return what is particular to each place: band-passed maps over their local contrast.

    Args:
        maps: ``(n, C, G, G)``, NaN where not valid.

    Returns:
        float64 ``(n, C, G, G)``, 0 where not valid or at the rim, and bool ``(n, C, G, G)``, where it counts.
    """
    valid = np.isfinite(maps)
    values = np.where(valid, maps, 0.0).astype(np.float64)
    inside = without_rim(valid)
    passed = (blurred(values, valid, FINE) - blurred(values, valid, COARSE)) * inside
    local = np.sqrt(blurred(passed**2, inside, NEARBY))
    cells = np.maximum(inside.sum(axis=(2, 3), keepdims=True), 1)
    overall = np.sqrt((passed**2).sum(axis=(2, 3), keepdims=True) / cells)
    return passed / (local + STEADY * overall + FLAT), inside


def blurred(values: Floats, valid: NDArray[np.bool_], sigma: float) -> Floats:
    """Blur the valid cells of ``(..., G, G)``; values are 0 elsewhere.

    The blur is divided by the blurred validity (Knutsson and Westin, CVPR 1993, normalised convolution with a
    constant basis), so neither the field's rim nor a gap inside it becomes an edge.
    """
    place = np.arange(values.shape[-1])
    kernel = np.exp(-0.5 * ((place - place[:, None]) / sigma) ** 2)
    mass = kernel @ valid.astype(np.float64) @ kernel.T
    smooth: Floats = kernel @ values @ kernel.T / np.maximum(mass, 1e-12)
    return smooth


def without_rim(valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return cells ``(..., G, G)`` with no invalid cell within ``RIM`` cells; beyond the map none is valid.

    Where less than a share ``KEPT`` of a field would be left, the field stays as it is.
    """
    place = np.arange(valid.shape[-1])
    box = (np.abs(place - place[:, None]) <= RIM).astype(np.float64)
    inside = box @ valid.astype(np.float64) @ box.T > (2 * RIM + 1) ** 2 - 0.5
    enough = inside.sum(axis=(-2, -1), keepdims=True) >= KEPT * valid.sum(axis=(-2, -1), keepdims=True)
    return np.where(enough, inside, valid).astype(bool)


def common_details(maps: NDArray[Any]) -> Floats:
    """Return what the training maps ``(n, C, G, G)`` have in common: ``(C, G, G)``.

    The mean of their details over cubes and over the eight orientations, so that taking it away treats a
    turned copy as it does the original.
    """
    total = sum(details(maps[chunk])[0].sum(axis=0) for chunk in _chunks(len(maps)))
    laid = [oriented(np.asarray(total), turns, mirrored) for turns in range(4) for mirrored in (False, True)]
    mean: Floats = np.mean(laid, axis=0) / len(maps)
    return mean


def particulars(maps: NDArray[Any], common: Floats) -> NDArray[np.float32]:
    """Return the details of maps ``(n, C, G, G)`` without what is common; 0 where they do not count."""
    found = np.empty(maps.shape, dtype=np.float32)
    for chunk in _chunks(len(maps)):
        detail, inside = details(maps[chunk])
        found[chunk] = (detail - common) * inside
    return found


def vectors(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return maps ``(..., C, G, G)`` as rows ``(..., D)`` of length 1 (0 where a map is 0 throughout).

    Cells are averaged two by two (after the shift: shifts are finer than rows), which makes rows a quarter as
    long and tolerates shifts by parts of a cell.
    """
    rows = _halved(maps).reshape(*maps.shape[:-3], -1)
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    units: NDArray[np.float32] = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    return units


def search(
    maps: NDArray[np.float32],
    base: Neighbors,
    places: Sequence[Placement],
    *,
    exclude: NDArray[Any] | None = None,
) -> Found:
    """Find each query's nearest base cube over all placements of the query.

    Args:
        maps: ``(n, C, G, G)``, from :func:`particulars`.
        base: rows by :func:`vectors` of the base's maps.
        places: from :func:`hseval.metrics.placements.placements`.
        exclude: ``(n,)`` one base row for each query that does not count, or None.
    """
    found = []
    for start in range(0, len(maps), BLOCK):
        barred = None if exclude is None else exclude[start : start + BLOCK]
        found.append(_search_block(maps[start : start + BLOCK], base, places, barred))
    return Found(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _search_block(
    maps: NDArray[np.float32], base: Neighbors, places: Sequence[Placement], exclude: NDArray[Any] | None
) -> Found:
    rows = np.stack([vectors(placed(maps, place)) for place in places], axis=1)
    shape = rows.shape[:2]
    rows = rows.reshape(-1, rows.shape[-1])
    barred = None if exclude is None else np.repeat(exclude, len(places))
    squared, error = (each.reshape(shape) for each in base.screen(rows, exclude=barred))
    hopeful = np.flatnonzero(squared - error <= (squared + error).min(axis=1, keepdims=True))
    distance, row = np.full(shape, np.inf), np.zeros(shape, dtype=np.int64)
    distance.flat[hopeful], row.flat[hopeful] = (
        each[:, 0] for each in base.nearest(rows[hopeful], exclude=None if barred is None else barred[hopeful])
    )
    best, own = distance.argmin(axis=1), np.arange(len(maps))
    return Found(distance[own, best], row[own, best], best)


def _halved(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average cells two by two; an odd last row or column is left out, maps of one cell stay."""
    size = maps.shape[-1] // 2 * 2
    if size == 0:
        return maps
    rows = maps[..., 0:size:2, :] + maps[..., 1:size:2, :]
    halves: NDArray[np.float32] = (rows[..., 0:size:2] + rows[..., 1:size:2]) * np.float32(0.25)
    return halves


def _chunks(count: int) -> list[slice]:
    return [slice(start, start + CHUNK) for start in range(0, count, CHUNK)]
