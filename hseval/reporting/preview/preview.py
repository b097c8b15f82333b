"""Contact sheets and films of a set: rows of colour and wavelengths, columns of cubes, drawn by content."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.cubes import FIELD, CubeSet
from hseval.core.figure_data import Look
from hseval.data.color import band_name
from hseval.data.preprocessing import valid_pixels
from hseval.pipeline.extract import describe
from hseval.pipeline.worker import Plan
from hseval.reporting.preview.render import Painter, masked, reduced, valid_of
from hseval.utils.errors import HsevalError, nearest
from hseval.utils.feature_cache import Cache
from hseval.utils.random_streams import stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

ROWS = 4  # wavelengths shown below the colour pictures, unless they are named
FAR = 0.5  # of the widest distance between bands: a wavelength further from every band than this is not there


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """One row of a sheet: what it is called, and a picture ``(y, x)`` or ``(y, x, 3)`` of each cube."""

    name: str
    pictures: tuple[Bytes, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Preview:
    """A few cubes of a set, painted.

    Attributes:
        title: which set, how many of its cubes, and how they were drawn.
        ids: one a cube.
        valid: bool ``(y, x)`` a cube.
        rows: colour, then wavelengths.
        film: every shown band, as rows.
        look: how the pictures were made.
    """

    title: str
    ids: tuple[str, ...]
    valid: tuple[NDArray[np.bool_], ...]
    rows: tuple[Row, ...]
    film: tuple[Row, ...]
    look: Look


def drawn(
    cubes: CubeSet, count: int, *, seed: int, cache: Cache, progress: Callable[[int, int], None] | None = None
) -> list[int]:
    """Return the places of ``count`` cubes that have valid pixels, drawn by content: neither order nor names decide.

    Raises:
        HsevalError: no cube has a valid pixel, or one can't be read.
    """
    plan = Plan((), tuple(sorted({FIELD, *cubes.structures})), cubes.wavelengths, None)
    described = describe(cubes, plan, cache=cache, progress=progress)
    order = stream(seed, "preview").permutation(len(described.index))
    return [int(described.index[i]) for i in order[:count]]


def named(cubes: CubeSet, ids: Sequence[str]) -> list[int]:
    """Return the places of the cubes with these ids.

    Raises:
        HsevalError: an id is not there; the nearest one is named.
    """
    places = {name: place for place, name in enumerate(cubes.ids)}
    for each in ids:
        if each not in places:
            hint = nearest(each, places) if len(places) <= 1000 else ""
            raise HsevalError(f"--ids {each}: {cubes.info.location} has no cube of that id{_short(hint)}")
    return [places[each] for each in ids]


def preview(cubes: CubeSet, places: Sequence[int], *, wavelengths: Sequence[float] = (), size: int = 160) -> Preview:
    """Return the cubes at ``places``, painted.

    Args:
        cubes: the set.
        places: which of its cubes.
        wavelengths: nm (or band numbers where wavelengths are unknown) of the rows; none: four spread over the bands.
        size: px that a picture should be wide, about.

    Raises:
        HsevalError: a wavelength is far from every band, or no cube has a valid pixel.
    """
    info = cubes.info
    bands = _bands(cubes, wavelengths)
    read = [cubes[place] for place in places]
    data = [masked(cube.data, valid_pixels(cube)) for cube in read]
    if not any(valid_of(cube).any() for cube in data):
        raise HsevalError(f"{info.location}: none of the cubes to be shown has a valid pixel")
    painter = Painter.of(
        data, cubes.wavelengths, known=info.wavelengths_known, units=info.units, side=max(1, 3 * size // 2)
    )
    small = [reduced(cube, painter.factor) for cube in data]
    look = painter.look("these cubes'")
    return Preview(
        title=f"{info.location}: {len(read)} of {len(cubes)} cubes",
        ids=tuple(cube.id for cube in read),
        valid=tuple(valid_of(cube) for cube in small),
        rows=tuple(_rows(painter, look, small, bands)),
        film=tuple(_film(painter, small)),
        look=look,
    )


def _rows(painter: Painter, look: Look, small: Sequence[Any], bands: Sequence[int]) -> Iterator[Row]:
    if look.colour is not None:
        yield Row(look.colour, tuple(np.asarray(painter.colour(cube)) for cube in small))
    else:
        yield Row("false colour", tuple(painter.composite(cube) for cube in small))
    single = dataclasses.replace(painter, bands=np.asarray(bands, dtype=np.intp))
    grey = [single.grey(cube) for cube in small]
    for i, band in enumerate(bands):
        yield Row(band_name(painter.wavelengths[band], known=painter.known), tuple(cube[i] for cube in grey))


def _film(painter: Painter, small: Sequence[Any]) -> Iterator[Row]:
    grey = [painter.grey(cube) for cube in small]
    for i, band in enumerate(painter.bands):
        yield Row(band_name(painter.wavelengths[band], known=painter.known), tuple(cube[i] for cube in grey))


def _bands(cubes: CubeSet, asked: Sequence[float]) -> list[int]:
    """Return the bands nearest the wavelengths asked for."""
    centres = np.asarray(cubes.wavelengths, dtype=np.float64)
    if not len(asked):
        return sorted({round(place) for place in np.linspace(0, len(centres) - 1, ROWS + 2)[1:-1]})
    reach = FAR * float(np.diff(centres).max()) if len(centres) > 1 else float("inf")
    found = []
    for each in asked:
        band = int(np.abs(centres - each).argmin())
        if abs(centres[band] - each) > max(reach, 1.0):
            ends = f"{centres[0]:g} to {centres[-1]:g}" + (" nm" if cubes.info.wavelengths_known else "")
            raise HsevalError(f"--wavelengths-shown {each:g}: no band of {cubes.info.location} is near it ({ends})")
        found.append(band)
    return found


def _short(hint: str, most: int = 160) -> str:
    return hint if len(hint) <= most else ""
