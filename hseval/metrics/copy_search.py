"""Search for copies that were rotated, mirrored, shifted, brightened or made noisy.

Any two eyes are similar in what all eyes share: falloff of illumination, a bright disc, the field's shape. They
differ in detail of small and middle size (which vessel runs where). So maps are band-passed and divided by their
local contrast (or the disc alone would decide), the field's rim is left out, the mean detail of the training set
is subtracted, and the angle between the residuals is the distance; a gain cancels.
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

CHUNK = 1024  # base vectors that are compared at a time
MISS_PROBABILITY = 1e-3  # that a random subset, of the share that lists are made for, holds none of a list's cubes


class NeighborLists(NamedTuple):
    """Nearest base cubes of each query, nearest first: distance (n, k), base row (n, k), placement index (n, k).

    Where there are fewer than k cubes to list, the distance is infinite and the row -1.
    """

    distance: Float64Array
    row: NDArray[np.int64]
    placement: NDArray[np.int64]


def compute_list_length(count: int, share: float) -> int:
    """Return how many of ``count`` cubes to list so that a random ``share`` of them contains one of the list."""
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

    float32 products choose cubes and placements, float64 differences give the distances and their order. A cube
    within float32's rounding (about 1e-3 for copies, 1e-6 for others) of the list's last may take its place.

    Args:
        maps: ``(n, C, G, G)``, from :func:`compute_residual_details`.
        base: ``(m, D)`` unit vectors of the base's maps, from :func:`to_unit_vectors`.
        placements: from :func:`list_placements`.
        k: length of the lists, 1 to m.
        groups: ``(n,)``; base cubes of a query's own group are not listed. None: all are.
        base_groups: ``(m,)``, with ``groups``.
    """
    blocks = []
    for start in range(0, len(maps), QUERIES_PER_BLOCK):
        block = slice(start, start + QUERIES_PER_BLOCK)
        vectors = np.stack(
            [to_unit_vectors(apply_placement(maps[block], placement)) for placement in placements], axis=1
        )
        is_excluded = None if groups is None else groups[block, None] == base_groups
        blocks.append(_find_k_nearest_in_block(vectors, base, k, is_excluded))
    return NeighborLists(*(np.concatenate(columns) for columns in zip(*blocks, strict=True)))


def _find_k_nearest_in_block(
    query_vectors: NDArray[np.float32], base: NDArray[np.float32], k: int, is_excluded: Any
) -> NeighborLists:
    """Return the lists of a block of queries, whose placements are vectors ``(n, placements, D)``."""
    squared = np.empty((len(query_vectors), len(base)), dtype=np.float32)
    placement = np.empty((len(query_vectors), len(base)), dtype=np.int64)
    flat = query_vectors.reshape(-1, query_vectors.shape[-1])
    squared_norms = np.einsum("npd,npd->np", query_vectors, query_vectors)[:, :, None]
    for start in range(0, len(base), CHUNK):
        columns = slice(start, start + CHUNK)
        partial = squared_norms - 2 * (flat @ base[columns].T).reshape(*query_vectors.shape[:2], -1)
        placement[:, columns] = partial.argmin(axis=1)
        squared[:, columns] = partial.min(axis=1) + np.einsum("md,md->m", base[columns], base[columns])
    if is_excluded is not None:
        squared[is_excluded] = np.inf
    first = np.argpartition(squared, k - 1, axis=1)[:, :k]
    lists = [
        _sort_by_exact_distance(query_vectors[i], base, first[i], placement[i, first[i]], squared[i, first[i]])
        for i in range(len(query_vectors))
    ]
    return NeighborLists(*(np.stack(columns) for columns in zip(*lists, strict=True)))


def _sort_by_exact_distance(
    placement_vectors: NDArray[np.float32],
    base: NDArray[np.float32],
    row: NDArray[np.int64],
    placement: NDArray[np.int64],
    squared_distances: NDArray[np.float32],
) -> NeighborLists:
    """Return one query's list in order, with distances in float64."""
    is_listed = np.isfinite(squared_distances)
    difference = placement_vectors[placement].astype(np.float64) - base[row]
    distance = np.where(is_listed, np.sqrt(np.einsum("kd,kd->k", difference, difference)), np.inf)
    row = np.where(is_listed, row, -1)
    order = np.lexsort((row, distance))
    return NeighborLists(distance[order], row[order], placement[order])


MAX_SHIFT_STEPS = 2  # steps: the largest shift searched
MAX_SHIFT_SHARE = 0.25  # of a map's side: with a larger shift the overlap of two cubes says little


class Placement(NamedTuple):
    """How a query was aligned with the base: rotated by quarter turns, mirrored, then shifted by cells."""

    turns: int
    mirrored: bool
    down: int
    right: int

    def __str__(self) -> str:
        turn = f"turned {90 * self.turns} degrees" if self.turns else ""
        shift = f"shifted by ({self.down}, {self.right}) cells" if self.down or self.right else ""
        steps = [step for step in (turn, "mirrored" if self.mirrored else "", shift) if step]
        return ", ".join(steps) or "as it is"


def compute_shift_step(extents: NDArray[Any], map_size: int) -> tuple[float, float]:
    """Return how many cells a shift by one step is, down and to the right.

    A step is a pixel or a cell, whichever is larger. So shifts cover at least 2 pixels whatever the cubes' size, down
    to 8 pixels a side, and the number of placements is the same for all sizes.

    Args:
        extents: rows and columns ``(n, 2)`` of pixels that the maps cover; the median cube decides.
        map_size: cells along each side of a map.
    """
    cells = map_size / np.median(extents, axis=0)
    down, right = np.clip(cells, 1.0, max(1.0, MAX_SHIFT_SHARE * map_size / MAX_SHIFT_STEPS)).tolist()
    return down, right


@functools.cache
def list_placements(step: tuple[float, float]) -> tuple[Placement, ...]:
    """Return the 104 placements: eight orientations, each shifted by up to two steps.

    They are sorted by the size of the shift: among equal distances, the smallest shift is reported.
    """
    shifts = [
        (round(down * step[0]), round(right * step[1]))
        for down in range(-MAX_SHIFT_STEPS, MAX_SHIFT_STEPS + 1)
        for right in range(-MAX_SHIFT_STEPS, MAX_SHIFT_STEPS + 1)
        if down**2 + right**2 <= MAX_SHIFT_STEPS**2
    ]
    placements = [
        Placement(turns, mirrored, *shift) for turns in range(4) for mirrored in (False, True) for shift in shifts
    ]
    return tuple(sorted(placements, key=lambda placement: (placement.down**2 + placement.right**2, placement)))


def orient_maps(maps: NDArray[Any], turns: int, mirrored: bool) -> NDArray[Any]:
    """Turn maps ``(..., G, G)`` by 90 degrees ``turns`` times, then mirror them left to right if ``mirrored``."""
    rotated = np.rot90(maps, turns, axes=(-2, -1))
    return rotated[..., ::-1] if mirrored else rotated


def shift_maps(maps: NDArray[Any], down: int, right: int) -> NDArray[Any]:
    """Shift maps ``(..., G, G)`` by whole cells; cells that enter are 0."""
    size = maps.shape[-1]
    shifted = np.zeros_like(maps)
    shifted[..., max(down, 0) : size + min(down, 0), max(right, 0) : size + min(right, 0)] = maps[
        ..., max(-down, 0) : size + min(-down, 0), max(-right, 0) : size + min(-right, 0)
    ]
    return shifted


def apply_placement(maps: NDArray[np.float32], placement: Placement) -> NDArray[np.float32]:
    """Return maps ``(n, C, G, G)`` rotated, mirrored and shifted."""
    return shift_maps(orient_maps(maps, placement.turns, placement.mirrored), placement.down, placement.right)


def apply_placements(
    maps: NDArray[np.float32], placement_index: NDArray[np.int64], placements: Sequence[Placement]
) -> NDArray[np.float32]:
    """Return maps ``(n, C, G, G)``, each after its own placement (an index into ``placements``)."""
    placed = np.empty_like(maps)
    for index in np.unique(placement_index):
        has_placement = placement_index == index
        placed[has_placement] = apply_placement(maps[has_placement], placements[index])
    return placed


FINE_SIGMA, COARSE_SIGMA = 0.75, 1.5  # in cells, of the two Gaussians whose difference is the band-pass
CONTRAST_SIGMA = 3.0  # in cells, of the Gaussian over which local contrast is measured
GLOBAL_CONTRAST_WEIGHT = 0.2  # of the overall contrast, added to the local one: flat regions must not become all noise
CONTRAST_EPSILON = 1e-6  # contrast (of a map whose mean value is 1) that is no more than rounding
RIM_CELLS = 3  # cells at the field's rim that do not count: a shifted copy brings its surround in there
MIN_FIELD_SHARE = 0.25  # the rim of a field counts if less than this share of the field would remain without it
QUERIES_PER_BLOCK = 32  # queries whose placements are in memory at a time
MAP_CHUNK = 256  # maps that are filtered at a time


class NearestMatches(NamedTuple):
    """Nearest base cube of each query: distance between 0 and 2, base row, index of the placement; ``(n,)`` each."""

    distance: Float64Array
    row: NDArray[np.int64]
    placement: NDArray[np.int64]


def extract_details(maps: NDArray[Any]) -> tuple[Float64Array, NDArray[np.bool_]]:
    """Return the local detail of each cell: band-passed maps over their local contrast.

    Args:
        maps: ``(n, C, G, G)``, NaN where not valid.

    Returns:
        float64 ``(n, C, G, G)``, 0 where not valid or at the rim, and bool ``(n, C, G, G)``, the cells that count.
    """
    valid = np.isfinite(maps)
    values = np.where(valid, maps, 0.0).astype(np.float64)
    inside = erode_rim(valid)
    band_passed = (
        normalized_convolution(values, valid, FINE_SIGMA) - normalized_convolution(values, valid, COARSE_SIGMA)
    ) * inside
    local_contrast = np.sqrt(normalized_convolution(band_passed**2, inside, CONTRAST_SIGMA))
    n_cells = np.maximum(inside.sum(axis=(2, 3), keepdims=True), 1)
    overall_contrast = np.sqrt((band_passed**2).sum(axis=(2, 3), keepdims=True) / n_cells)
    return band_passed / (local_contrast + GLOBAL_CONTRAST_WEIGHT * overall_contrast + CONTRAST_EPSILON), inside


def normalized_convolution(values: Float64Array, valid: NDArray[np.bool_], sigma: float) -> Float64Array:
    """Blur the valid cells of ``(..., G, G)``; values are 0 elsewhere.

    The blur is divided by the blurred validity (Knutsson and Westin, CVPR 1993, normalized convolution with a
    constant basis), so neither the field's rim nor a gap inside it becomes an edge.
    """
    position = np.arange(values.shape[-1])
    kernel = np.exp(-0.5 * ((position - position[:, None]) / sigma) ** 2)
    mass = kernel @ valid.astype(np.float64) @ kernel.T
    smooth: Float64Array = kernel @ values @ kernel.T / np.maximum(mass, 1e-12)
    return smooth


def erode_rim(valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return cells ``(..., G, G)`` with no invalid cell within ``RIM_CELLS`` cells; beyond the map none is valid.

    A field of which less than ``MIN_FIELD_SHARE`` would remain is returned unchanged.
    """
    position = np.arange(valid.shape[-1])
    box = (np.abs(position - position[:, None]) <= RIM_CELLS).astype(np.float64)
    inside = box @ valid.astype(np.float64) @ box.T > (2 * RIM_CELLS + 1) ** 2 - 0.5
    enough = inside.sum(axis=(-2, -1), keepdims=True) >= MIN_FIELD_SHARE * valid.sum(axis=(-2, -1), keepdims=True)
    return np.where(enough, inside, valid).astype(bool)


def compute_common_details(maps: NDArray[Any]) -> Float64Array:
    """Return what the training maps ``(n, C, G, G)`` have in common: ``(C, G, G)``.

    This is the mean of their details over cubes and over the eight orientations, so that subtracting it treats a
    rotated copy as it does the original.
    """
    total = sum(extract_details(maps[chunk])[0].sum(axis=0) for chunk in _list_chunks(len(maps)))
    oriented = [orient_maps(np.asarray(total), turns, mirrored) for turns in range(4) for mirrored in (False, True)]
    mean: Float64Array = np.mean(oriented, axis=0) / len(maps)
    return mean


def compute_residual_details(maps: NDArray[Any], common: Float64Array) -> NDArray[np.float32]:
    """Return the details of maps ``(n, C, G, G)`` minus the common ones; 0 where they do not count."""
    residuals = np.empty(maps.shape, dtype=np.float32)
    for chunk in _list_chunks(len(maps)):
        detail, inside = extract_details(maps[chunk])
        residuals[chunk] = (detail - common) * inside
    return residuals


def to_unit_vectors(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return maps ``(..., C, G, G)`` as vectors ``(..., D)`` of norm 1 (0 where a map is 0 throughout).

    Cells are averaged two by two (after the shift, which is by whole cells of the finer grid): vectors become a
    quarter as long, and shifts by parts of a cell are tolerated.
    """
    vectors = _downsample_maps(maps).reshape(*maps.shape[:-3], -1)
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    units: NDArray[np.float32] = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
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
        base: unit vectors of the base's maps, from :func:`to_unit_vectors`.
        placements: from :func:`list_placements`.
        exclude: ``(n,)`` one base row for each query that does not count, or None.
    """
    blocks = []
    for start in range(0, len(maps), QUERIES_PER_BLOCK):
        excluded = None if exclude is None else exclude[start : start + QUERIES_PER_BLOCK]
        blocks.append(_find_nearest_in_block(maps[start : start + QUERIES_PER_BLOCK], base, placements, excluded))
    return NearestMatches(*(np.concatenate(columns) for columns in zip(*blocks, strict=True)))


def _find_nearest_in_block(
    maps: NDArray[np.float32], base: NearestNeighbors, placements: Sequence[Placement], exclude: NDArray[Any] | None
) -> NearestMatches:
    vectors = np.stack([to_unit_vectors(apply_placement(maps, placement)) for placement in placements], axis=1)
    shape = vectors.shape[:2]
    vectors = vectors.reshape(-1, vectors.shape[-1])
    excluded = None if exclude is None else np.repeat(exclude, len(placements))
    squared, error = (bound.reshape(shape) for bound in base.bound_nearest(vectors, exclude=excluded))
    candidates = np.flatnonzero(squared - error <= (squared + error).min(axis=1, keepdims=True))
    distance, row = np.full(shape, np.inf), np.zeros(shape, dtype=np.int64)
    distance.flat[candidates], row.flat[candidates] = (
        column[:, 0]
        for column in base.find_nearest(vectors[candidates], exclude=None if excluded is None else excluded[candidates])
    )
    best, queries = distance.argmin(axis=1), np.arange(len(maps))
    return NearestMatches(distance[queries, best], row[queries, best], best)


def _downsample_maps(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average cells two by two; an odd last row or column is dropped, maps of one cell are returned unchanged."""
    size = maps.shape[-1] // 2 * 2
    if size == 0:
        return maps
    row_sums = maps[..., 0:size:2, :] + maps[..., 1:size:2, :]
    means: NDArray[np.float32] = (row_sums[..., 0:size:2] + row_sums[..., 1:size:2]) * np.float32(0.25)
    return means


def _list_chunks(count: int) -> list[slice]:
    return [slice(start, start + MAP_CHUNK) for start in range(0, count, MAP_CHUNK)]
