"""What looks wrong in a set: each finding is one line, with the cubes that show it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.cubefacts import CubeFacts
from hseval.cubes import CubeSet
from hseval.wavelengths import OUT_OF_ORDER

NAMED = 3  # cubes named by id in a finding; the others are counted


def find_suspicious(cubes: CubeSet, facts: Sequence[CubeFacts]) -> Iterator[str]:
    """Yield one line for each thing that a user should look at before scoring."""
    if OUT_OF_ORDER in cubes.info.notes:
        yield OUT_OF_ORDER
    yield from _validity(cubes, facts)
    yield from _bands(cubes, facts)
    yield from _sameness(cubes, facts)
    yield from _masks(cubes, facts)
    yield from _signs(cubes, facts)


def _validity(cubes: CubeSet, facts: Sequence[CubeFacts]) -> Iterator[str]:
    dead = [index for index, one in enumerate(facts) if not one.valid]
    if dead:
        yield f"no valid pixel in {_named(cubes, dead)}"
    spoiled = [index for index, one in enumerate(facts) if 0 < one.valid < one.field]
    if spoiled:
        yield f"NaN or Inf inside the field of view in {_named(cubes, spoiled)}"


def _bands(cubes: CubeSet, facts: Sequence[CubeFacts]) -> Iterator[str]:
    unfit = np.array([one.unfit for one in facts])
    constant = np.array([one.constant for one in facts])
    level = np.array([one.level for one in facts])
    for band in np.flatnonzero(unfit.any(axis=0)):
        yield f"{_band(cubes, band)} has no finite value in {_named(cubes, np.flatnonzero(unfit[:, band]))}"
    for band in np.flatnonzero(constant.any(axis=0)):
        where = np.flatnonzero(constant[:, band])
        values = np.unique(level[where, band])
        told = f" ({values[0]:g})" if len(values) == 1 else ""
        yield f"{_band(cubes, band)} is {'dead' if not values.any() else 'constant'}{told} in {_named(cubes, where)}"


def _sameness(cubes: CubeSet, facts: Sequence[CubeFacts]) -> Iterator[str]:
    shapes = Counter(one.shape for one in facts)
    if len(shapes) > 1:
        yield "mixed shapes: " + ", ".join(f"{count} of {' x '.join(map(str, s))}" for s, count in shapes.most_common())
    same: dict[bytes, list[int]] = defaultdict(list)
    for index, one in enumerate(facts):
        same[one.digest].append(index)
    copies = [where for where in same.values() if len(where) > 1]
    if copies:
        extra = sum(len(where) - 1 for where in copies)
        yield f"{extra} exact duplicates: for one, {' = '.join(cubes.ids[i] for i in copies[0][:NAMED])}"


def _masks(cubes: CubeSet, facts: Sequence[CubeFacts]) -> Iterator[str]:
    for name in cubes.structures:
        areas = [one.areas[name] for one in facts if name in one.areas]
        if not any(areas):
            yield f"mask {name!r} is empty in every cube"
        missing = len(facts) - len(areas)
        if missing and areas:
            yield f"mask {name!r} is missing in {missing} of {len(facts)} cubes"
    surround = [index for index, one in enumerate(facts) if one.surround]
    if surround:
        yield f"a surround of zeros and no 'fov' mask that leaves it out, in {_named(cubes, surround)}"


def _signs(cubes: CubeSet, facts: Sequence[CubeFacts]) -> Iterator[str]:
    negative = [index for index, one in enumerate(facts) if one.negative > 0]
    if negative:
        share = float(np.mean([one.negative for one in facts if one.valid]))
        yield f"negative values ({share:.2%} of all) in {_named(cubes, negative)}"


def _band(cubes: CubeSet, band: Any) -> str:
    nm = f" ({cubes.wavelengths[band]:g} nm)" if cubes.info.wavelengths_known else ""
    return f"band {band}{nm}"


def _named(cubes: CubeSet, where: Sequence[int] | NDArray[Any]) -> str:
    names = ", ".join(cubes.ids[index] for index in where[:NAMED]) + (", ..." if len(where) > NAMED else "")
    every = "all " if len(where) == len(cubes) > 1 else ""
    return f"{every}{len(where)} of {len(cubes)} cubes ({names})" if not every else f"all {len(cubes)} cubes"
