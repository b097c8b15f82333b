"""What looks wrong in a set: each finding is one line, with the cubes that show it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.core.cubes import CubeSet
from hseval.data.wavelengths import OUT_OF_ORDER
from hseval.inspection.cube_stats import CubeFacts

LISTED = 6  # bands listed one by one in a finding; of more, the runs of neighbours are told
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
    dead = constant & ~np.any(constant & (level != 0), axis=0)
    alive = constant & ~dead
    yield from _band_finding(cubes, unfit, "{} has no finite value", "{} bands without a finite value")
    yield from _band_finding(cubes, dead, "{} is dead (0)", "{} dead bands")
    values = np.unique(level[alive])
    told = f" ({values[0]:g})" if len(values) == 1 else ""
    yield from _band_finding(cubes, alive, f"{{}} is constant{told}", f"{{}} constant bands{told}")


def _band_finding(cubes: CubeSet, shown: NDArray[np.bool_], one: str, several: str) -> Iterator[str]:
    """Yield one line for all bands that show something; ``shown`` is ``(cube, band)``."""
    bands, where = np.flatnonzero(shown.any(axis=0)), np.flatnonzero(shown.any(axis=1))
    if len(bands) == 1:
        yield f"{one.format(_band(cubes, bands[0]))} in {_named(cubes, where)}"
    elif len(bands):
        same = bool((shown[where][:, bands]).all())
        listed = f"{several.format(len(bands))}: {_bands_listed(cubes, bands)}"
        yield f"{listed}, {'in' if same else 'not the same ones in each of'} {_named(cubes, where)}"


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


def _bands_listed(cubes: CubeSet, bands: NDArray[Any]) -> str:
    """List a few bands by their wavelengths, or by their places; more of them as runs, ``450 to 905 nm``."""
    known = cubes.info.wavelengths_known
    names = [f"{cubes.wavelengths[band]:g}" if known else str(band) for band in range(len(cubes.wavelengths))]
    runs = np.split(bands, np.flatnonzero(np.diff(bands) > 1) + 1)
    if len(bands) <= LISTED:
        runs = [bands[place : place + 1] for place in range(len(bands))]
    told = [names[run[0]] if len(run) == 1 else f"{names[run[0]]} to {names[run[-1]]}" for run in runs]
    more = f" and {len(told) - LISTED} more runs" if len(told) > LISTED else ""
    return ("" if known else "numbers ") + ", ".join(told[:LISTED]) + (" nm" if known else "") + more


def _named(cubes: CubeSet, where: Sequence[int] | NDArray[Any]) -> str:
    names = ", ".join(cubes.ids[index] for index in where[:NAMED]) + (", ..." if len(where) > NAMED else "")
    every = "all " if len(where) == len(cubes) > 1 else ""
    return f"{every}{len(where)} of {len(cubes)} cubes ({names})" if not every else f"all {len(cubes)} cubes"
