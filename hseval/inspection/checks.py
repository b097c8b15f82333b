"""What looks wrong in a set: each finding is one line, with the cubes that show it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.core.cubes import CubeSet
from hseval.data.wavelengths import BANDS_SORTED_NOTE
from hseval.inspection.cube_stats import CubeStats

MAX_LISTED_BANDS = 6  # bands listed one by one in a finding; of more, the runs of neighbours are told
MAX_NAMED_CUBES = 3  # cubes named by id in a finding; the others are counted


def find_problems(cubes: CubeSet, cube_stats: Sequence[CubeStats]) -> Iterator[str]:
    """Yield one line for each thing that a user should look at before scoring."""
    if BANDS_SORTED_NOTE in cubes.info.notes:
        yield BANDS_SORTED_NOTE
    yield from _check_validity(cubes, cube_stats)
    yield from _check_bands(cubes, cube_stats)
    yield from _check_shapes_and_duplicates(cubes, cube_stats)
    yield from _check_masks(cubes, cube_stats)
    yield from _check_negative_values(cubes, cube_stats)


def _check_validity(cubes: CubeSet, cube_stats: Sequence[CubeStats]) -> Iterator[str]:
    dead = [index for index, one in enumerate(cube_stats) if not one.valid_pixel_count]
    if dead:
        yield f"no valid pixel in {_format_cubes(cubes, dead)}"
    spoiled = [index for index, one in enumerate(cube_stats) if 0 < one.valid_pixel_count < one.field_pixel_count]
    if spoiled:
        yield f"NaN or Inf inside the field of view in {_format_cubes(cubes, spoiled)}"


def _check_bands(cubes: CubeSet, cube_stats: Sequence[CubeStats]) -> Iterator[str]:
    unfit = np.array([one.invalid_bands for one in cube_stats])
    constant = np.array([one.constant_bands for one in cube_stats])
    level = np.array([one.first_values for one in cube_stats])
    dead = constant & ~np.any(constant & (level != 0), axis=0)
    alive = constant & ~dead
    yield from _report_bands(cubes, unfit, "{} has no finite value", "{} bands without a finite value")
    yield from _report_bands(cubes, dead, "{} is dead (0)", "{} dead bands")
    values = np.unique(level[alive])
    told = f" ({values[0]:g})" if len(values) == 1 else ""
    yield from _report_bands(cubes, alive, f"{{}} is constant{told}", f"{{}} constant bands{told}")


def _report_bands(cubes: CubeSet, flagged: NDArray[np.bool_], singular: str, plural: str) -> Iterator[str]:
    """Yield one line for all bands that show something; ``flagged`` is ``(cube, band)``."""
    bands, where = np.flatnonzero(flagged.any(axis=0)), np.flatnonzero(flagged.any(axis=1))
    if len(bands) == 1:
        yield f"{singular.format(_format_band(cubes, bands[0]))} in {_format_cubes(cubes, where)}"
    elif len(bands):
        same = bool((flagged[where][:, bands]).all())
        listed = f"{plural.format(len(bands))}: {_format_bands(cubes, bands)}"
        yield f"{listed}, {'in' if same else 'not the same ones in each of'} {_format_cubes(cubes, where)}"


def _check_shapes_and_duplicates(cubes: CubeSet, cube_stats: Sequence[CubeStats]) -> Iterator[str]:
    shapes = Counter(one.shape for one in cube_stats)
    if len(shapes) > 1:
        yield "mixed shapes: " + ", ".join(f"{count} of {' x '.join(map(str, s))}" for s, count in shapes.most_common())
    same: dict[bytes, list[int]] = defaultdict(list)
    for index, one in enumerate(cube_stats):
        same[one.digest].append(index)
    copies = [where for where in same.values() if len(where) > 1]
    if copies:
        extra = sum(len(where) - 1 for where in copies)
        yield f"{extra} exact duplicates: for one, {' = '.join(cubes.ids[i] for i in copies[0][:MAX_NAMED_CUBES])}"


def _check_masks(cubes: CubeSet, cube_stats: Sequence[CubeStats]) -> Iterator[str]:
    for name in cubes.structures:
        areas = [one.mask_shares[name] for one in cube_stats if name in one.mask_shares]
        if not any(areas):
            yield f"mask {name!r} is empty in every cube"
        missing = len(cube_stats) - len(areas)
        if missing and areas:
            yield f"mask {name!r} is missing in {missing} of {len(cube_stats)} cubes"
    surround = [index for index, one in enumerate(cube_stats) if one.has_surround]
    if surround:
        yield f"a surround of zeros and no 'fov' mask that leaves it out, in {_format_cubes(cubes, surround)}"


def _check_negative_values(cubes: CubeSet, cube_stats: Sequence[CubeStats]) -> Iterator[str]:
    negative = [index for index, one in enumerate(cube_stats) if one.negative_share > 0]
    if negative:
        share = float(np.mean([one.negative_share for one in cube_stats if one.valid_pixel_count]))
        yield f"negative values ({share:.2%} of all) in {_format_cubes(cubes, negative)}"


def _format_band(cubes: CubeSet, band: Any) -> str:
    nm = f" ({cubes.wavelengths[band]:g} nm)" if cubes.info.wavelengths_known else ""
    return f"band {band}{nm}"


def _format_bands(cubes: CubeSet, bands: NDArray[Any]) -> str:
    """List a few bands by their wavelengths, or by their places; more of them as runs, ``450 to 905 nm``."""
    known = cubes.info.wavelengths_known
    names = [f"{cubes.wavelengths[band]:g}" if known else str(band) for band in range(len(cubes.wavelengths))]
    runs = np.split(bands, np.flatnonzero(np.diff(bands) > 1) + 1)
    if len(bands) <= MAX_LISTED_BANDS:
        runs = [bands[place : place + 1] for place in range(len(bands))]
    told = [names[run[0]] if len(run) == 1 else f"{names[run[0]]} to {names[run[-1]]}" for run in runs]
    more = f" and {len(told) - MAX_LISTED_BANDS} more runs" if len(told) > MAX_LISTED_BANDS else ""
    return ("" if known else "numbers ") + ", ".join(told[:MAX_LISTED_BANDS]) + (" nm" if known else "") + more


def _format_cubes(cubes: CubeSet, indices: Sequence[int] | NDArray[Any]) -> str:
    names = ", ".join(cubes.ids[index] for index in indices[:MAX_NAMED_CUBES]) + (
        ", ..." if len(indices) > MAX_NAMED_CUBES else ""
    )
    every = "all " if len(indices) == len(cubes) > 1 else ""
    return f"{every}{len(indices)} of {len(cubes)} cubes ({names})" if not every else f"all {len(cubes)} cubes"
