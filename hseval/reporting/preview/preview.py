"""Contact sheets and films of a set: rows of colour and wavelengths, columns of cubes, drawn by content."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.cubes import FOV, CubeSet
from hseval.core.figure_data import RenderStyle
from hseval.data.color import format_band_name
from hseval.data.preprocessing import compute_valid_mask
from hseval.pipeline.extract import extract_features
from hseval.pipeline.worker import ExtractionPlan
from hseval.reporting.preview.render import CubeRenderer, compute_finite_mask, downsample, mask_invalid
from hseval.utils.errors import HsevalError, format_suggestion
from hseval.utils.feature_cache import FeatureCache
from hseval.utils.random_streams import create_rng

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

DEFAULT_ROW_COUNT = 4  # wavelengths shown below the colour pictures, unless they are named
MAX_BAND_DISTANCE = (
    0.5  # of the widest distance between bands: a wavelength further from every band than this is not there
)


@dataclasses.dataclass(frozen=True, eq=False)
class SheetRow:
    """One row of a sheet: what it is called, and a picture ``(y, x)`` or ``(y, x, 3)`` of each cube."""

    name: str
    images: tuple[Bytes, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Preview:
    """A few cubes of a set, painted.

    Attributes:
        title: which set, how many of its cubes, and how they were drawn.
        ids: one a cube.
        valid: bool ``(y, x)`` a cube.
        rows: colour, then wavelengths.
        frames: every shown band, as rows.
        style: how the pictures were made.
    """

    title: str
    ids: tuple[str, ...]
    valid: tuple[NDArray[np.bool_], ...]
    rows: tuple[SheetRow, ...]
    frames: tuple[SheetRow, ...]
    style: RenderStyle


def draw_indices(
    cubes: CubeSet, count: int, *, seed: int, cache: FeatureCache, progress: Callable[[int, int], None] | None = None
) -> list[int]:
    """Return the places of ``count`` cubes that have valid pixels, drawn by content: neither order nor names decide.

    Raises:
        HsevalError: no cube has a valid pixel, or one can't be read.
    """
    plan = ExtractionPlan((), tuple(sorted({FOV, *cubes.structures})), cubes.wavelengths, None)
    described = extract_features(cubes, plan, cache=cache, progress=progress)
    order = create_rng(seed, "preview").permutation(len(described.index))
    return [int(described.index[i]) for i in order[:count]]


def find_indices(cubes: CubeSet, ids: Sequence[str]) -> list[int]:
    """Return the places of the cubes with these ids.

    Raises:
        HsevalError: an id is not there; the nearest one is named.
    """
    places = {name: place for place, name in enumerate(cubes.ids)}
    for each in ids:
        if each not in places:
            hint = format_suggestion(each, places) if len(places) <= 1000 else ""
            raise HsevalError(f"--ids {each}: {cubes.info.location} has no cube of that id{_drop_long_hint(hint)}")
    return [places[each] for each in ids]


def build_preview(
    cubes: CubeSet, indices: Sequence[int], *, wavelengths: Sequence[float] = (), size: int = 160
) -> Preview:
    """Return the cubes at ``indices``, painted.

    Args:
        cubes: the set.
        indices: which of its cubes.
        wavelengths: nm (or band numbers where wavelengths are unknown) of the rows; none: four spread over the bands.
        size: px that a picture should be wide, about.

    Raises:
        HsevalError: a wavelength is far from every band, or no cube has a valid pixel.
    """
    info = cubes.info
    bands = _find_bands(cubes, wavelengths)
    read = [cubes[place] for place in indices]
    data = [mask_invalid(cube.data, compute_valid_mask(cube)) for cube in read]
    if not any(compute_finite_mask(cube).any() for cube in data):
        raise HsevalError(f"{info.location}: none of the cubes to be shown has a valid pixel")
    painter = CubeRenderer.from_reference(
        data,
        cubes.wavelengths,
        wavelengths_known=info.wavelengths_known,
        units=info.units,
        max_side=max(1, 3 * size // 2),
    )
    small = [downsample(cube, painter.factor) for cube in data]
    look = painter.build_style("these cubes'")
    return Preview(
        title=f"{info.location}: {len(read)} of {len(cubes)} cubes",
        ids=tuple(cube.id for cube in read),
        valid=tuple(compute_finite_mask(cube) for cube in small),
        rows=tuple(_build_rows(painter, look, small, bands)),
        frames=tuple(_build_frames(painter, small)),
        style=look,
    )


def _build_rows(
    renderer: CubeRenderer, style: RenderStyle, downsampled: Sequence[Any], bands: Sequence[int]
) -> Iterator[SheetRow]:
    if style.color_label is not None:
        yield SheetRow(style.color_label, tuple(np.asarray(renderer.render_color(cube)) for cube in downsampled))
    else:
        yield SheetRow("false colour", tuple(renderer.render_composite(cube) for cube in downsampled))
    single = dataclasses.replace(renderer, bands=np.asarray(bands, dtype=np.intp))
    grey = [single.render_gray(cube) for cube in downsampled]
    for i, band in enumerate(bands):
        yield SheetRow(
            format_band_name(renderer.wavelengths[band], wavelengths_known=renderer.wavelengths_known),
            tuple(cube[i] for cube in grey),
        )


def _build_frames(renderer: CubeRenderer, downsampled: Sequence[Any]) -> Iterator[SheetRow]:
    grey = [renderer.render_gray(cube) for cube in downsampled]
    for i, band in enumerate(renderer.bands):
        yield SheetRow(
            format_band_name(renderer.wavelengths[band], wavelengths_known=renderer.wavelengths_known),
            tuple(cube[i] for cube in grey),
        )


def _find_bands(cubes: CubeSet, requested: Sequence[float]) -> list[int]:
    """Return the bands nearest the wavelengths asked for."""
    centres = np.asarray(cubes.wavelengths, dtype=np.float64)
    if not len(requested):
        return sorted({round(place) for place in np.linspace(0, len(centres) - 1, DEFAULT_ROW_COUNT + 2)[1:-1]})
    reach = MAX_BAND_DISTANCE * float(np.diff(centres).max()) if len(centres) > 1 else float("inf")
    found = []
    for each in requested:
        band = int(np.abs(centres - each).argmin())
        if abs(centres[band] - each) > max(reach, 1.0):
            ends = f"{centres[0]:g} to {centres[-1]:g}" + (" nm" if cubes.info.wavelengths_known else "")
            raise HsevalError(f"--wavelengths-shown {each:g}: no band of {cubes.info.location} is near it ({ends})")
        found.append(band)
    return found


def _drop_long_hint(hint: str, max_length: int = 160) -> str:
    return hint if len(hint) <= max_length else ""
