"""Checks of a set: each finding is one line that names the cubes concerned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from hseval.core.cubes import CubeSet
from hseval.data.wavelengths import BANDS_SORTED_NOTE
from hseval.inspection.cube_stats import CubeStats
from hseval.inspection.duplicates import describe_duplicates
from hseval.utils.arrays import Array, BoolArray
from hseval.utils.plural import format_count

MAX_LISTED_BANDS = 6  # bands listed one by one in a finding; more are listed as runs
MAX_NAMED_CUBES = 3  # cubes named by id in a finding; the others are only counted


def find_problems(cubes: CubeSet, cube_stats: Sequence[CubeStats]) -> Iterator[str]:
    """Yield one line for each problem that a user should look at before scoring."""
    if BANDS_SORTED_NOTE in cubes.info.notes:
        yield BANDS_SORTED_NOTE
    yield from _check_validity(cubes, cube_stats)
    yield from _check_bands(cubes, cube_stats)
    yield from _check_shapes_and_duplicates(cubes, cube_stats)
    yield from _check_masks(cubes, cube_stats)
    yield from _check_negative_values(cubes, cube_stats)


def _check_validity(cubes: CubeSet, cube_stats: Sequence[CubeStats]) -> Iterator[str]:
    dead = [index for index, stats in enumerate(cube_stats) if not stats.valid_pixel_count]
    if dead:
        yield f"no valid pixel in {_format_cubes(cubes, dead)}"
    invalid = [index for index, stats in enumerate(cube_stats) if 0 < stats.valid_pixel_count < stats.field_pixel_count]
    if invalid:
        yield f"NaN or Inf inside the field of view in {_format_cubes(cubes, invalid)}"


def _check_bands(cubes: CubeSet, cube_stats: Sequence[CubeStats]) -> Iterator[str]:
    invalid = np.array([stats.invalid_bands for stats in cube_stats])
    constant = np.array([stats.constant_bands for stats in cube_stats])
    level = np.array([stats.first_values for stats in cube_stats])
    dead = constant & ~np.any(constant & (level != 0), axis=0)
    nonzero = constant & ~dead
    yield from _report_bands(cubes, invalid, "{} has no finite value", "{} bands without a finite value")
    yield from _report_bands(cubes, dead, "{} is dead (0)", "{} dead bands")
    values = np.unique(level[nonzero])
    suffix = f" ({values[0]:g})" if len(values) == 1 else ""
    yield from _report_bands(cubes, nonzero, f"{{}} is constant{suffix}", f"{{}} constant bands{suffix}")


def _report_bands(cubes: CubeSet, flagged: BoolArray, singular: str, plural: str) -> Iterator[str]:
    """Yield one line for all flagged bands; ``flagged`` is bool ``(cube, band)``."""
    bands, indices = np.flatnonzero(flagged.any(axis=0)), np.flatnonzero(flagged.any(axis=1))
    if len(bands) == 1:
        yield f"{singular.format(_format_band(cubes, bands[0]))} in {_format_cubes(cubes, indices)}"
    elif len(bands):
        same_in_all = bool((flagged[indices][:, bands]).all())
        listed = f"{plural.format(len(bands))}: {_format_bands(cubes, bands)}"
        yield f"{listed}, {'in' if same_in_all else 'not the same ones in each of'} {_format_cubes(cubes, indices)}"


def _check_shapes_and_duplicates(cubes: CubeSet, cube_stats: Sequence[CubeStats]) -> Iterator[str]:
    shapes = Counter(stats.shape for stats in cube_stats)
    if len(shapes) > 1:
        yield "mixed shapes: " + ", ".join(
            f"{count} of {' x '.join(map(str, shape))}" for shape, count in shapes.most_common()
        )
    if duplicates := describe_duplicates((stats.digest for stats in cube_stats), cubes.ids):
        yield duplicates


def _check_masks(cubes: CubeSet, cube_stats: Sequence[CubeStats]) -> Iterator[str]:
    for name in cubes.structures:
        areas = [stats.mask_shares[name] for stats in cube_stats if name in stats.mask_shares]
        if not any(areas):
            yield f"mask {name!r} is empty in every cube"
        missing = len(cube_stats) - len(areas)
        if missing and areas:
            yield f"mask {name!r} is missing in {missing} of {format_count(len(cube_stats), 'cube')}"
    surround = [index for index, stats in enumerate(cube_stats) if stats.has_surround]
    if surround:
        yield f"a surround of zeros, and no 'fov' mask that excludes it, in {_format_cubes(cubes, surround)}"


def _check_negative_values(cubes: CubeSet, cube_stats: Sequence[CubeStats]) -> Iterator[str]:
    negative = [index for index, stats in enumerate(cube_stats) if stats.negative_share > 0]
    if negative:
        share = float(np.mean([stats.negative_share for stats in cube_stats if stats.valid_pixel_count]))
        yield f"negative values ({share:.2%} of all) in {_format_cubes(cubes, negative)}"


def _format_band(cubes: CubeSet, band: Any) -> str:
    nm = f" ({cubes.wavelengths[band]:g} nm)" if cubes.info.wavelengths_known else ""
    return f"band {band}{nm}"


def _format_bands(cubes: CubeSet, bands: Array) -> str:
    """List a few bands by wavelength or by index; more of them as runs, ``450 to 905 nm``."""
    known = cubes.info.wavelengths_known
    names = [f"{cubes.wavelengths[band]:g}" if known else str(band) for band in range(len(cubes.wavelengths))]
    runs = np.split(bands, np.flatnonzero(np.diff(bands) > 1) + 1)
    if len(bands) <= MAX_LISTED_BANDS:
        runs = [bands[i : i + 1] for i in range(len(bands))]
    listed = [names[run[0]] if len(run) == 1 else f"{names[run[0]]} to {names[run[-1]]}" for run in runs]
    more = f" and {len(listed) - MAX_LISTED_BANDS} more runs" if len(listed) > MAX_LISTED_BANDS else ""
    return ("" if known else "indices ") + ", ".join(listed[:MAX_LISTED_BANDS]) + (" nm" if known else "") + more


def _format_cubes(cubes: CubeSet, indices: Sequence[int] | Array) -> str:
    names = ", ".join(cubes.ids[index] for index in indices[:MAX_NAMED_CUBES]) + (
        ", ..." if len(indices) > MAX_NAMED_CUBES else ""
    )
    if len(indices) == len(cubes) > 1:
        return f"all {len(cubes)} cubes"
    return f"{len(indices)} of {format_count(len(cubes), 'cube')} ({names})"
