"""Inspection of a set: one streaming pass over the pixels, and a list of everything that looks wrong."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hseval.core.cubes import CubeSet
from hseval.inspection.checks import find_problems
from hseval.inspection.cube_stats import CubeStats, compute_cube_stats

MAX_SAMPLED_VALUES = 4_000_000  # values stored for the quantiles, over all cubes
MAX_SAMPLED_PER_CUBE = 16_384  # values of one cube
QUANTILES = (0.01, 0.5, 0.99)


@dataclasses.dataclass(frozen=True)
class StructureInfo:
    """One structure's masks.

    Attributes:
        area: mean share of the image over the cubes that have the mask.
        cubes: number of cubes that have the mask.
        empty: number of those masks without a pixel.
    """

    area: float
    cubes: int
    empty: int


@dataclasses.dataclass(frozen=True)
class Inspection:
    """Summary of a set, and what looks wrong in it.

    Attributes:
        location: its path.
        count: number of cubes.
        shapes: ``"16 x 224 x 224"`` (band, y, x) -> number of cubes.
        wavelengths: nm, ascending (band indices where ``wavelengths_known`` is False).
        wavelengths_known: whether these are wavelengths.
        structures: name -> its masks.
        groups: number of groups, or None if the set has none.
        labels: label -> value -> number of cubes.
        units: of the values.
        values: ``min, q01, median, q99, max`` of the valid pixels (empty if there are none). The quantiles are
            of a seeded sample of at most 4 million values.
        invalid: share of pixels inside the field of view with NaN or Inf in some band.
        outside: share of pixels outside the field of view.
        provenance: as stored in the file.
        notes: what the reader assumed or fixed automatically.
        problems: one line per finding.
    """

    location: str
    count: int
    shapes: Mapping[str, int]
    wavelengths: tuple[float, ...]
    wavelengths_known: bool
    structures: Mapping[str, StructureInfo]
    groups: int | None
    labels: Mapping[str, Mapping[str, int]]
    units: str | None
    values: Mapping[str, float]
    invalid: float
    outside: float
    provenance: Mapping[str, Any]
    notes: tuple[str, ...]
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the inspection as a dict that fits into JSON."""
        return {"format": "hseval-info", "version": 2, **dataclasses.asdict(self)}


def inspect_set(cubes: CubeSet, *, progress: Callable[[int], None] | None = None) -> Inspection:
    """Read every cube of a set once and return its summary.

    Args:
        cubes: the set.
        progress: called with the number of cubes done, after each.

    Raises:
        HsevalError: a cube can't be read.
    """
    max_samples = max(64, min(MAX_SAMPLED_PER_CUBE, MAX_SAMPLED_VALUES // max(1, len(cubes))))
    cube_stats = []
    for index in range(len(cubes)):
        cube_stats.append(compute_cube_stats(cubes.read(index), index, max_samples))
        if progress is not None:
            progress(index + 1)
    return _summarize(cubes, cube_stats)


def _summarize(cubes: CubeSet, cube_stats: list[CubeStats]) -> Inspection:
    info = cubes.info
    pixels = sum(stats.shape[1] * stats.shape[2] for stats in cube_stats)
    field = sum(stats.field_pixel_count for stats in cube_stats)
    return Inspection(
        location=info.location,
        count=len(cubes),
        shapes=dict(Counter(" x ".join(map(str, stats.shape)) for stats in cube_stats).most_common()),
        wavelengths=tuple(float(center) for center in info.wavelengths),
        wavelengths_known=info.wavelengths_known,
        structures=_summarize_structures(info.structures, cube_stats),
        groups=None if info.groups is None else _count_groups(info.groups),
        labels={name: _count_values(values) for name, values in info.labels.items()},
        units=info.units,
        values=_summarize_values(cube_stats),
        invalid=1 - sum(stats.valid_pixel_count for stats in cube_stats) / field if field else 0.0,
        outside=1 - field / pixels if pixels else 0.0,
        provenance=dict(info.provenance),
        notes=info.notes,
        problems=tuple(find_problems(cubes, cube_stats)),
    )


def _count_groups(groups: Sequence[str]) -> int:
    """Count groups; a cube with an empty group is a group of its own."""
    return len(set(groups) - {""}) + sum(not group for group in groups)


def _count_values(values: Any) -> dict[str, int]:
    return dict(Counter(str(value) for value in values).most_common())


def _summarize_structures(names: tuple[str, ...], cube_stats: list[CubeStats]) -> dict[str, StructureInfo]:
    structures = {}
    for name in names:
        areas = [stats.mask_shares[name] for stats in cube_stats if name in stats.mask_shares]
        area = float(np.mean(areas)) if areas else 0.0
        structures[name] = StructureInfo(area, len(areas), sum(share == 0 for share in areas))
    return structures


def _summarize_values(cube_stats: list[CubeStats]) -> dict[str, float]:
    if not any(stats.valid_pixel_count for stats in cube_stats):
        return {}
    quantiles = np.quantile(np.concatenate([stats.sampled_values for stats in cube_stats]), QUANTILES)
    low, high = min(stats.min_value for stats in cube_stats), max(stats.max_value for stats in cube_stats)
    names = ("min", "q01", "median", "q99", "max")
    return dict(zip(names, map(float, (low, *quantiles, high)), strict=True))
