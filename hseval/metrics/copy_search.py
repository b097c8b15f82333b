"""Finding copies that were turned, mirrored, shifted, brightened or made noisy: the numerics of the search.

Two eyes look alike in what all eyes share: falloff of illumination, a bright disc, the field's shape. What
tells one from another is detail of small and middle size (which vessel runs where). So maps are band-passed,
divided by their local contrast (or the disc alone would decide), the field's rim is left out, what the
training set has in common is taken away, and the angle between what is left decides; a gain cancels.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hseval.utils.nearest_neighbors import Neighbors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

CHUNK = 1024  # base rows that are compared at a time
MISSED = 1e-3  # chance that none of a list's cubes is in a random subset of the share that lists are made for


class Near(NamedTuple):
    """Lists by query, nearest first: distance (n, k), base row (n, k), index of the placement (n, k).

    Where there are fewer than k cubes to list the distance is infinite and the row -1.
    """

    distance: Floats
    row: NDArray[np.int64]
    placement: NDArray[np.int64]


def list_length(count: int, share: float) -> int:
    """Return how many of ``count`` cubes to list, so that a random ``share`` of them holds one of the list."""
    if not 0 < share < 1:
        return 1 if share >= 1 else count
    return min(count, int(np.ceil(np.log(MISSED) / np.log1p(-share))))


def near(
    maps: NDArray[np.float32],
    base: NDArray[np.float32],
    places: Sequence[Placement],
    *,
    k: int,
    groups: NDArray[Any] | None = None,
    base_groups: NDArray[Any] | None = None,
) -> Near:
    """Find each query's ``k`` nearest base cubes, each at the placement of the query that fits it best.

    float32 products choose cubes and placements, float64 differences give the distances and their order; what lies
    within float32's rounding (about 1e-3 for copies, 1e-6 for others) of the list's end may be the wrong one.

    Args:
        maps: ``(n, C, G, G)``, from :func:`hseval.metrics.copy_search.particulars`.
        base: ``(m, D)`` rows by :func:`hseval.metrics.copy_search.vectors` of the base's maps.
        places: from :func:`hseval.metrics.copy_search.placements`.
        k: length of the lists, 1 to m.
        groups: ``(n,)``; base cubes of a query's own group are not listed. None: all are.
        base_groups: ``(m,)``, with ``groups``.
    """
    found = []
    for start in range(0, len(maps), BLOCK):
        block = slice(start, start + BLOCK)
        rows = np.stack([vectors(placed(maps[block], place)) for place in places], axis=1)
        barred = None if groups is None else groups[block, None] == base_groups
        found.append(_near_block(rows, base, k, barred))
    return Near(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _near_block(rows: NDArray[np.float32], base: NDArray[np.float32], k: int, barred: Any) -> Near:
    """Answer queries whose placements are rows ``(n, placements, D)``."""
    squared = np.empty((len(rows), len(base)), dtype=np.float32)
    placement = np.empty((len(rows), len(base)), dtype=np.int64)
    flat, own = rows.reshape(-1, rows.shape[-1]), np.einsum("npd,npd->np", rows, rows)[:, :, None]
    for start in range(0, len(base), CHUNK):
        columns = slice(start, start + CHUNK)
        part = own - 2 * (flat @ base[columns].T).reshape(*rows.shape[:2], -1)
        placement[:, columns] = part.argmin(axis=1)
        squared[:, columns] = part.min(axis=1) + np.einsum("md,md->m", base[columns], base[columns])
    if barred is not None:
        squared[barred] = np.inf
    first = np.argpartition(squared, k - 1, axis=1)[:, :k]
    lists = [_exact(rows[i], base, first[i], placement[i, first[i]], squared[i, first[i]]) for i in range(len(rows))]
    return Near(*(np.stack(parts) for parts in zip(*lists, strict=True)))


def _exact(
    placements: NDArray[np.float32],
    base: NDArray[np.float32],
    row: NDArray[np.int64],
    placement: NDArray[np.int64],
    squared: NDArray[np.float32],
) -> Near:
    """Return one query's list in order, with distances in float64."""
    listed = np.isfinite(squared)
    difference = placements[placement].astype(np.float64) - base[row]
    distance = np.where(listed, np.sqrt(np.einsum("kd,kd->k", difference, difference)), np.inf)
    row = np.where(listed, row, -1)
    order = np.lexsort((row, distance))
    return Near(distance[order], row[order], placement[order])


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


FINE, COARSE = 0.75, 1.5  # standard deviations, in cells, of the two Gaussians whose difference is the band-pass
NEARBY = 3.0  # the same of the Gaussian over which local contrast is measured
STEADY = 0.2  # of a map's overall contrast is added to the local one, so that flat regions do not become all noise
FLAT = 1e-6  # contrast (of a map whose mean value is 1) that is no more than rounding
RIM = 3  # cells at the field's rim that do not count: a shifted copy brings its surround in there
KEPT = 0.25  # a rim that leaves less of a field than this is kept
BLOCK = 32  # queries whose placements are held at a time
MAP_CHUNK = 256  # maps that are filtered at a time


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
        places: from :func:`hseval.metrics.copy_search.placements`.
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
    return [slice(start, start + MAP_CHUNK) for start in range(0, count, MAP_CHUNK)]
