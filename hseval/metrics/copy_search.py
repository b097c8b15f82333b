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

from hseval.utils.nearest_neighbors import NearestNeighbors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Float64Array = NDArray[np.float64]

CHUNK = 1024  # base rows that are compared at a time
MISS_PROBABILITY = 1e-3  # chance that none of a list's cubes is in a random subset of the share that lists are made for


class NeighborLists(NamedTuple):
    """Lists by query, nearest first: distance (n, k), base row (n, k), index of the placement (n, k).

    Where there are fewer than k cubes to list the distance is infinite and the row -1.
    """

    distance: Float64Array
    row: NDArray[np.int64]
    placement: NDArray[np.int64]


def compute_list_length(count: int, share: float) -> int:
    """Return how many of ``count`` cubes to list, so that a random ``share`` of them holds one of the list."""
    if not 0 < share < 1:
        return 1 if share >= 1 else count
    return min(count, int(np.ceil(np.log(MISS_PROBABILITY) / np.log1p(-share))))


def find_k_nearest(
    maps: NDArray[np.float32],
    base: NDArray[np.float32],
    placements: Sequence[Placement],
    *,
    k: int,
    groups: NDArray[Any] | None = None,
    base_groups: NDArray[Any] | None = None,
) -> NeighborLists:
    """Find each query's ``k`` nearest base cubes, each at the placement of the query that fits it best.

    float32 products choose cubes and placements, float64 differences give the distances and their order; what lies
    within float32's rounding (about 1e-3 for copies, 1e-6 for others) of the list's end may be the wrong one.

    Args:
        maps: ``(n, C, G, G)``, from :func:`hseval.metrics.copy_search.compute_residual_details`.
        base: ``(m, D)`` rows by :func:`hseval.metrics.copy_search.to_unit_vectors` of the base's maps.
        placements: from :func:`hseval.metrics.copy_search.list_placements`.
        k: length of the lists, 1 to m.
        groups: ``(n,)``; base cubes of a query's own group are not listed. None: all are.
        base_groups: ``(m,)``, with ``groups``.
    """
    found = []
    for start in range(0, len(maps), QUERIES_PER_BLOCK):
        block = slice(start, start + QUERIES_PER_BLOCK)
        rows = np.stack([to_unit_vectors(apply_placement(maps[block], place)) for place in placements], axis=1)
        barred = None if groups is None else groups[block, None] == base_groups
        found.append(_find_k_nearest_in_block(rows, base, k, barred))
    return NeighborLists(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _find_k_nearest_in_block(
    query_vectors: NDArray[np.float32], base: NDArray[np.float32], k: int, is_excluded: Any
) -> NeighborLists:
    """Answer queries whose placements are rows ``(n, placements, D)``."""
    squared = np.empty((len(query_vectors), len(base)), dtype=np.float32)
    placement = np.empty((len(query_vectors), len(base)), dtype=np.int64)
    flat, own = (
        query_vectors.reshape(-1, query_vectors.shape[-1]),
        np.einsum("npd,npd->np", query_vectors, query_vectors)[:, :, None],
    )
    for start in range(0, len(base), CHUNK):
        columns = slice(start, start + CHUNK)
        part = own - 2 * (flat @ base[columns].T).reshape(*query_vectors.shape[:2], -1)
        placement[:, columns] = part.argmin(axis=1)
        squared[:, columns] = part.min(axis=1) + np.einsum("md,md->m", base[columns], base[columns])
    if is_excluded is not None:
        squared[is_excluded] = np.inf
    first = np.argpartition(squared, k - 1, axis=1)[:, :k]
    lists = [
        _sort_by_exact_distance(query_vectors[i], base, first[i], placement[i, first[i]], squared[i, first[i]])
        for i in range(len(query_vectors))
    ]
    return NeighborLists(*(np.stack(parts) for parts in zip(*lists, strict=True)))


def _sort_by_exact_distance(
    placement_vectors: NDArray[np.float32],
    base: NDArray[np.float32],
    row: NDArray[np.int64],
    placement: NDArray[np.int64],
    squared_distances: NDArray[np.float32],
) -> NeighborLists:
    """Return one query's list in order, with distances in float64."""
    listed = np.isfinite(squared_distances)
    difference = placement_vectors[placement].astype(np.float64) - base[row]
    distance = np.where(listed, np.sqrt(np.einsum("kd,kd->k", difference, difference)), np.inf)
    row = np.where(listed, row, -1)
    order = np.lexsort((row, distance))
    return NeighborLists(distance[order], row[order], placement[order])


MAX_SHIFT_STEPS = 2  # steps: the largest shift searched
MAX_SHIFT_SHARE = 0.25  # of a map's side, and no farther: what is left of two cubes would tell little


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


def compute_shift_step(extents: NDArray[Any], map_size: int) -> tuple[float, float]:
    """Return how many cells a shift by one step is, down and to the right.

    A step is a pixel or a cell, whichever is larger. So shifts reach at least 2 pixels whatever the cubes' size, down
    to 8 pixels a side, and the number of placements is the same for all of them.

    Args:
        extents: rows and columns ``(n, 2)`` that maps of ``map_size`` cells a side lie over; the median cube decides.
        map_size: cells along each side of a map.
    """
    cells = map_size / np.median(extents, axis=0)
    down, right = np.clip(cells, 1.0, max(1.0, MAX_SHIFT_SHARE * map_size / MAX_SHIFT_STEPS)).tolist()
    return down, right


@functools.cache
def list_placements(step: tuple[float, float]) -> tuple[Placement, ...]:
    """Return the 104 placements: eight orientations, each shifted by up to two steps.

    The least moved come first: among equals it is the one reported.
    """
    shifts = [
        (round(down * step[0]), round(right * step[1]))
        for down in range(-MAX_SHIFT_STEPS, MAX_SHIFT_STEPS + 1)
        for right in range(-MAX_SHIFT_STEPS, MAX_SHIFT_STEPS + 1)
        if down**2 + right**2 <= MAX_SHIFT_STEPS**2
    ]
    every = [Placement(turns, mirrored, *moved) for turns in range(4) for mirrored in (False, True) for moved in shifts]
    return tuple(sorted(every, key=lambda place: (place.down**2 + place.right**2, place)))


def orient_maps(maps: NDArray[Any], turns: int, mirrored: bool) -> NDArray[Any]:
    """Turn maps ``(..., G, G)`` by 90 degrees ``turns`` times, then mirror them left to right if told so."""
    turned = np.rot90(maps, turns, axes=(-2, -1))
    return turned[..., ::-1] if mirrored else turned


def shift_maps(maps: NDArray[Any], down: int, right: int) -> NDArray[Any]:
    """Shift maps ``(..., G, G)`` by whole cells; what comes in is 0."""
    size = maps.shape[-1]
    moved = np.zeros_like(maps)
    moved[..., max(down, 0) : size + min(down, 0), max(right, 0) : size + min(right, 0)] = maps[
        ..., max(-down, 0) : size + min(-down, 0), max(-right, 0) : size + min(-right, 0)
    ]
    return moved


def apply_placement(maps: NDArray[np.float32], placement: Placement) -> NDArray[np.float32]:
    """Return maps ``(n, C, G, G)`` turned, mirrored and shifted."""
    return shift_maps(orient_maps(maps, placement.turns, placement.mirrored), placement.down, placement.right)


def apply_placements(
    maps: NDArray[np.float32], placement_index: NDArray[np.int64], placements: Sequence[Placement]
) -> NDArray[np.float32]:
    """Return each of the maps ``(n, C, G, G)`` laid by its own placement (an index into ``placements``)."""
    found = np.empty_like(maps)
    for index in np.unique(placement_index):
        own = placement_index == index
        found[own] = apply_placement(maps[own], placements[index])
    return found


FINE_SIGMA, COARSE_SIGMA = (
    0.75,
    1.5,
)  # standard deviations, in cells, of the two Gaussians whose difference is the band-pass
CONTRAST_SIGMA = 3.0  # the same of the Gaussian over which local contrast is measured
GLOBAL_CONTRAST_WEIGHT = (
    0.2  # of a map's overall contrast is added to the local one, so that flat regions do not become all noise
)
CONTRAST_EPSILON = 1e-6  # contrast (of a map whose mean value is 1) that is no more than rounding
RIM_CELLS = 3  # cells at the field's rim that do not count: a shifted copy brings its surround in there
MIN_FIELD_SHARE = 0.25  # a rim that leaves less of a field than this is kept
QUERIES_PER_BLOCK = 32  # queries whose placements are held at a time
MAP_CHUNK = 256  # maps that are filtered at a time


class NearestMatches(NamedTuple):
    """The nearest base cube of each query: distance between 0 and 2, its row, the index of the placement."""

    distance: Float64Array
    row: NDArray[np.int64]
    placement: NDArray[np.int64]


def extract_details(maps: NDArray[Any]) -> tuple[Float64Array, NDArray[np.bool_]]:
    """Return what is particular to each place: band-passed maps over their local contrast.

    Args:
        maps: ``(n, C, G, G)``, NaN where not valid.

    Returns:
        float64 ``(n, C, G, G)``, 0 where not valid or at the rim, and bool ``(n, C, G, G)``, where it counts.
    """
    valid = np.isfinite(maps)
    values = np.where(valid, maps, 0.0).astype(np.float64)
    inside = erode_rim(valid)
    passed = (
        normalized_convolution(values, valid, FINE_SIGMA) - normalized_convolution(values, valid, COARSE_SIGMA)
    ) * inside
    local = np.sqrt(normalized_convolution(passed**2, inside, CONTRAST_SIGMA))
    cells = np.maximum(inside.sum(axis=(2, 3), keepdims=True), 1)
    overall = np.sqrt((passed**2).sum(axis=(2, 3), keepdims=True) / cells)
    return passed / (local + GLOBAL_CONTRAST_WEIGHT * overall + CONTRAST_EPSILON), inside


def normalized_convolution(values: Float64Array, valid: NDArray[np.bool_], sigma: float) -> Float64Array:
    """Blur the valid cells of ``(..., G, G)``; values are 0 elsewhere.

    The blur is divided by the blurred validity (Knutsson and Westin, CVPR 1993, normalised convolution with a
    constant basis), so neither the field's rim nor a gap inside it becomes an edge.
    """
    place = np.arange(values.shape[-1])
    kernel = np.exp(-0.5 * ((place - place[:, None]) / sigma) ** 2)
    mass = kernel @ valid.astype(np.float64) @ kernel.T
    smooth: Float64Array = kernel @ values @ kernel.T / np.maximum(mass, 1e-12)
    return smooth


def erode_rim(valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return cells ``(..., G, G)`` with no invalid cell within ``RIM_CELLS`` cells; beyond the map none is valid.

    Where less than a share ``MIN_FIELD_SHARE`` of a field would be left, the field stays as it is.
    """
    place = np.arange(valid.shape[-1])
    box = (np.abs(place - place[:, None]) <= RIM_CELLS).astype(np.float64)
    inside = box @ valid.astype(np.float64) @ box.T > (2 * RIM_CELLS + 1) ** 2 - 0.5
    enough = inside.sum(axis=(-2, -1), keepdims=True) >= MIN_FIELD_SHARE * valid.sum(axis=(-2, -1), keepdims=True)
    return np.where(enough, inside, valid).astype(bool)


def compute_common_details(maps: NDArray[Any]) -> Float64Array:
    """Return what the training maps ``(n, C, G, G)`` have in common: ``(C, G, G)``.

    The mean of their details over cubes and over the eight orientations, so that taking it away treats a
    turned copy as it does the original.
    """
    total = sum(extract_details(maps[chunk])[0].sum(axis=0) for chunk in _list_chunks(len(maps)))
    laid = [orient_maps(np.asarray(total), turns, mirrored) for turns in range(4) for mirrored in (False, True)]
    mean: Float64Array = np.mean(laid, axis=0) / len(maps)
    return mean


def compute_residual_details(maps: NDArray[Any], common: Float64Array) -> NDArray[np.float32]:
    """Return the details of maps ``(n, C, G, G)`` without what is common; 0 where they do not count."""
    found = np.empty(maps.shape, dtype=np.float32)
    for chunk in _list_chunks(len(maps)):
        detail, inside = extract_details(maps[chunk])
        found[chunk] = (detail - common) * inside
    return found


def to_unit_vectors(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return maps ``(..., C, G, G)`` as rows ``(..., D)`` of length 1 (0 where a map is 0 throughout).

    Cells are averaged two by two (after the shift: shifts are finer than rows), which makes rows a quarter as
    long and tolerates shifts by parts of a cell.
    """
    rows = _downsample_maps(maps).reshape(*maps.shape[:-3], -1)
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    units: NDArray[np.float32] = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    return units


def find_nearest(
    maps: NDArray[np.float32],
    base: NearestNeighbors,
    placements: Sequence[Placement],
    *,
    exclude: NDArray[Any] | None = None,
) -> NearestMatches:
    """Find each query's nearest base cube over all placements of the query.

    Args:
        maps: ``(n, C, G, G)``, from :func:`compute_residual_details`.
        base: rows by :func:`to_unit_vectors` of the base's maps.
        placements: from :func:`hseval.metrics.copy_search.list_placements`.
        exclude: ``(n,)`` one base row for each query that does not count, or None.
    """
    found = []
    for start in range(0, len(maps), QUERIES_PER_BLOCK):
        barred = None if exclude is None else exclude[start : start + QUERIES_PER_BLOCK]
        found.append(_find_nearest_in_block(maps[start : start + QUERIES_PER_BLOCK], base, placements, barred))
    return NearestMatches(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _find_nearest_in_block(
    maps: NDArray[np.float32], base: NearestNeighbors, placements: Sequence[Placement], exclude: NDArray[Any] | None
) -> NearestMatches:
    rows = np.stack([to_unit_vectors(apply_placement(maps, place)) for place in placements], axis=1)
    shape = rows.shape[:2]
    rows = rows.reshape(-1, rows.shape[-1])
    barred = None if exclude is None else np.repeat(exclude, len(placements))
    squared, error = (each.reshape(shape) for each in base.bound_nearest(rows, exclude=barred))
    hopeful = np.flatnonzero(squared - error <= (squared + error).min(axis=1, keepdims=True))
    distance, row = np.full(shape, np.inf), np.zeros(shape, dtype=np.int64)
    distance.flat[hopeful], row.flat[hopeful] = (
        each[:, 0] for each in base.find_nearest(rows[hopeful], exclude=None if barred is None else barred[hopeful])
    )
    best, own = distance.argmin(axis=1), np.arange(len(maps))
    return NearestMatches(distance[own, best], row[own, best], best)


def _downsample_maps(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average cells two by two; an odd last row or column is left out, maps of one cell stay."""
    size = maps.shape[-1] // 2 * 2
    if size == 0:
        return maps
    rows = maps[..., 0:size:2, :] + maps[..., 1:size:2, :]
    halves: NDArray[np.float32] = (rows[..., 0:size:2] + rows[..., 1:size:2]) * np.float32(0.25)
    return halves


def _list_chunks(count: int) -> list[slice]:
    return [slice(start, start + MAP_CHUNK) for start in range(0, count, MAP_CHUNK)]
