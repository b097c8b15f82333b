"""Looking at a set: one streaming pass over the pixels, and everything in it that looks wrong."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hseval.core.cubes import CubeSet
from hseval.inspection.checks import find_suspicious
from hseval.inspection.cube_stats import CubeFacts, cube_facts

SAMPLED = 4_000_000  # values kept, over all cubes, for the quantiles
PER_CUBE = 16_384  # at most so many of one cube
QUANTILES = (0.01, 0.5, 0.99)


@dataclasses.dataclass(frozen=True)
class StructureInfo:
    """One structure's masks.

    Attributes:
        area: mean share of the picture over the cubes that have the mask.
        cubes: number of cubes that have the mask.
        empty: how many of those masks hold no pixel.
    """

    area: float
    cubes: int
    empty: int


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What a set is, and what looks wrong in it.

    Attributes:
        location: its path.
        count: number of cubes.
        shapes: ``"16 x 224 x 224"`` (band, y, x) -> number of cubes.
        wavelengths: nm, ascending (the band index, where ``wavelengths_known`` is False).
        wavelengths_known: whether those are wavelengths.
        structures: name -> its masks.
        groups: number of groups, or None where the set has none.
        labels: label -> value -> number of cubes.
        units: of the values.
        values: ``min, q01, median, q99, max`` of the valid pixels (empty: there are none). The quantiles are
            of a seeded sample of at most 4 million values.
        invalid: share of pixels inside the field of view that hold NaN or Inf in some band.
        outside: share of pixels outside the field of view.
        provenance: as the file says.
        notes: what the reader assumed or mended.
        suspicious: one line each.
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
    suspicious: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON can hold it."""
        return {"format": "hseval-info", "version": 1, **dataclasses.asdict(self)}


def inspect_set(cubes: CubeSet, *, progress: Callable[[int], None] | None = None) -> Inspection:
    """Read every cube of a set once and return what it holds.

    Args:
        cubes: the set.
        progress: called with the number of cubes done, after each.

    Raises:
        HsevalError: a cube can't be read.
    """
    budget = max(64, min(PER_CUBE, SAMPLED // max(1, len(cubes))))
    facts = []
    for index in range(len(cubes)):
        facts.append(cube_facts(cubes.read(index), index, budget))
        if progress is not None:
            progress(index + 1)
    return _summary(cubes, facts)


def _summary(cubes: CubeSet, facts: list[CubeFacts]) -> Inspection:
    info = cubes.info
    pixels = sum(one.shape[1] * one.shape[2] for one in facts)
    field = sum(one.field for one in facts)
    return Inspection(
        location=info.location,
        count=len(cubes),
        shapes=dict(Counter(" x ".join(map(str, one.shape)) for one in facts).most_common()),
        wavelengths=tuple(float(centre) for centre in info.wavelengths),
        wavelengths_known=info.wavelengths_known,
        structures=_structures(info.structures, facts),
        groups=None if info.groups is None else _group_count(info.groups),
        labels={name: _counted(values) for name, values in info.labels.items()},
        units=info.units,
        values=_values(facts),
        invalid=1 - sum(one.valid for one in facts) / field if field else 0.0,
        outside=1 - field / pixels if pixels else 0.0,
        provenance=dict(info.provenance),
        notes=info.notes,
        suspicious=tuple(find_suspicious(cubes, facts)),
    )


def _group_count(groups: Sequence[str]) -> int:
    """Count groups; a cube whose group is empty stands alone."""
    return len(set(groups) - {""}) + sum(not group for group in groups)


def _counted(values: Any) -> dict[str, int]:
    return dict(Counter(str(value) for value in values).most_common())


def _structures(names: tuple[str, ...], facts: list[CubeFacts]) -> dict[str, StructureInfo]:
    found = {}
    for name in names:
        areas = [one.areas[name] for one in facts if name in one.areas]
        area = float(np.mean(areas)) if areas else 0.0
        found[name] = StructureInfo(area, len(areas), sum(share == 0 for share in areas))
    return found


def _values(facts: list[CubeFacts]) -> dict[str, float]:
    if not any(one.valid for one in facts):
        return {}
    quantiles = np.quantile(np.concatenate([one.sample for one in facts]), QUANTILES)
    low, high = min(one.low for one in facts), max(one.high for one in facts)
    names = ("min", "q01", "median", "q99", "max")
    return dict(zip(names, map(float, (low, *quantiles, high)), strict=True))
