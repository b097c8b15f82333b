"""Contact sheets and films of a set: rows of color and wavelengths, columns of cubes, drawn by content."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.cubes import FOV, Cube, CubeSet
from hseval.core.figure_data import RenderStyle
from hseval.data.color import format_band_name
from hseval.data.field_of_view import find_valid_pixels
from hseval.pipeline.extract import extract_features
from hseval.pipeline.worker import ExtractionPlan
from hseval.reporting.preview.render import CubeRenderer, downsample, mask_invalid
from hseval.utils.errors import HsevalError, format_suggestion
from hseval.utils.feature_cache import FeatureCache
from hseval.utils.plural import format_count
from hseval.utils.random_streams import create_rng

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

DEFAULT_ROW_COUNT = 4  # wavelengths below the color images, unless the user names them
STRUCTURE_COLORS = {"artery": (230, 60, 50), "vein": (70, 120, 240), "onh": (250, 215, 60)}
COLOR_PALETTE = ((80, 200, 120), (240, 140, 40), (190, 110, 220), (60, 200, 210), (240, 130, 180), (160, 160, 90))
MASK_OPACITY, MASK_BACKGROUND_LEVEL = 0.8, 0.45  # of the masks' colors; brightness of the gray band below them
MASK_BACKGROUND_NM = 555  # hemoglobin absorbs here, so vessels are visible
MAX_BAND_DISTANCE = 0.5  # of a wavelength to the nearest band, relative to the widest gap between bands


@dataclasses.dataclass(frozen=True, eq=False)
class SheetRow:
    """One row of a sheet: its name, and an image ``(y, x)`` or ``(y, x, 3)`` of each cube."""

    name: str
    images: tuple[Bytes, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Preview:
    """Rendered images of a few cubes of a set.

    Attributes:
        title: the set, and how many of its cubes are visible.
        ids: one per cube.
        valid: bool ``(y, x)`` per cube.
        rows: color, then wavelengths, then masks if requested.
        frames: one row for each visible band.
        style: how the images were rendered.
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
    """Return the indices of ``count`` cubes with valid pixels, drawn by content: neither order nor names matter.

    Raises:
        HsevalError: no cube has a valid pixel, or a cube can't be read.
    """
    plan = ExtractionPlan((), tuple(sorted({FOV, *cubes.structures})), cubes.wavelengths, None)
    extracted = extract_features(cubes, plan, cache=cache, progress=progress)
    order = create_rng(seed, "preview").permutation(len(extracted.index))
    return [int(extracted.index[i]) for i in order[:count]]


def find_indices(cubes: CubeSet, ids: Sequence[str]) -> list[int]:
    """Return the indices of the cubes with these ids.

    Raises:
        HsevalError: an id does not exist; the error names the nearest one.
    """
    index_by_id = {id: index for index, id in enumerate(cubes.ids)}
    for id in ids:
        if id not in index_by_id:
            hint = format_suggestion(id, index_by_id) if len(index_by_id) <= 1000 else ""
            raise HsevalError(f"--ids {id}: {cubes.info.location} has no cube with that id{_drop_long_hint(hint)}")
    return [index_by_id[id] for id in ids]


def build_preview(
    cubes: CubeSet,
    indices: Sequence[int],
    *,
    wavelengths: Sequence[float] = (),
    size: int = 160,
    show_masks: bool = False,
) -> Preview:
    """Render the cubes at ``indices``.

    Args:
        cubes: the set.
        indices: of its cubes.
        wavelengths: nm (or band numbers where wavelengths are unknown) of the rows; empty: four, evenly spaced.
        size: approximate width of an image in px.
        show_masks: add a row of the structures' masks, in color over one band in gray.

    Raises:
        HsevalError: a wavelength is far from every band.
    """
    info = cubes.info
    bands = _find_bands(cubes, wavelengths)
    selected = [cubes[index] for index in indices]
    data = [mask_invalid(cube.data, find_valid_pixels(cube.data, cube.masks.get(FOV))) for cube in selected]
    renderer = CubeRenderer.from_reference(
        data,
        cubes.wavelengths,
        wavelengths_known=info.wavelengths_known,
        units=info.units,
        max_side=max(1, 3 * size // 2),
    )
    downsampled = [downsample(cube, renderer.factor) for cube in data]
    style = renderer.build_style("these cubes'")
    rows = [*_build_rows(renderer, style, downsampled, bands)]
    structures = sorted(set(cubes.structures) - {FOV})
    if show_masks and structures:
        rows.append(SheetRow("masks", tuple(_paint_masks(renderer, selected, data, structures))))
    return Preview(
        title=f"{info.location}: {len(selected)} of {format_count(len(cubes), 'cube')}",
        ids=tuple(cube.id for cube in selected),
        valid=tuple(find_valid_pixels(cube) for cube in downsampled),
        rows=tuple(rows),
        frames=tuple(_build_frames(renderer, downsampled)),
        style=style,
    )


def _build_rows(
    renderer: CubeRenderer, style: RenderStyle, downsampled: Sequence[Any], bands: Sequence[int]
) -> Iterator[SheetRow]:
    if style.color_label is not None:
        yield SheetRow(style.color_label, tuple(np.asarray(renderer.render_color(cube)) for cube in downsampled))
    else:
        yield SheetRow("false color", tuple(renderer.render_composite(cube) for cube in downsampled))
    single = dataclasses.replace(renderer, bands=np.asarray(bands, dtype=np.intp))
    gray = [single.render_gray(cube) for cube in downsampled]
    for i, band in enumerate(bands):
        yield SheetRow(
            format_band_name(renderer.wavelengths[band], wavelengths_known=renderer.wavelengths_known),
            tuple(cube[i] for cube in gray),
        )


def _build_frames(renderer: CubeRenderer, downsampled: Sequence[Any]) -> Iterator[SheetRow]:
    gray = [renderer.render_gray(cube) for cube in downsampled]
    for i, band in enumerate(renderer.bands):
        yield SheetRow(
            format_band_name(renderer.wavelengths[band], wavelengths_known=renderer.wavelengths_known),
            tuple(cube[i] for cube in gray),
        )


def _paint_masks(
    renderer: CubeRenderer, cubes: Sequence[Cube], data: Sequence[Any], structures: Sequence[str]
) -> Iterator[Bytes]:
    """Yield masks in their colors over a dimmed band in gray, uint8 ``(y, x, 3)``; smaller masks are on top."""
    centers = renderer.wavelengths
    band = int(np.abs(centers - MASK_BACKGROUND_NM).argmin()) if renderer.wavelengths_known else len(centers) // 2
    background = dataclasses.replace(renderer, bands=np.array([band]))
    palette = iter(COLOR_PALETTE * len(structures))
    colors = {name: np.array(STRUCTURE_COLORS.get(name) or next(palette)) for name in structures}
    for cube, masked in zip(cubes, data, strict=True):
        painted = np.repeat(MASK_BACKGROUND_LEVEL * background.render_gray(masked)[0][..., None], 3, axis=-1)
        masks = {name: cube.masks[name] & find_valid_pixels(masked) for name in structures if name in cube.masks}
        for name in sorted(masks, key=lambda name: -int(masks[name].sum())):
            painted[masks[name]] += MASK_OPACITY * (colors[name] - painted[masks[name]])
        reduced = downsample(np.moveaxis(painted, -1, 0), renderer.factor)
        yield np.moveaxis(np.nan_to_num(reduced), 0, -1).round().astype(np.uint8)


def _find_bands(cubes: CubeSet, requested: Sequence[float]) -> list[int]:
    """Return the bands nearest to the requested wavelengths."""
    centers = np.asarray(cubes.wavelengths, dtype=np.float64)
    if not len(requested):
        return sorted({round(index) for index in np.linspace(0, len(centers) - 1, DEFAULT_ROW_COUNT + 2)[1:-1]})
    max_distance = MAX_BAND_DISTANCE * float(np.diff(centers).max()) if len(centers) > 1 else float("inf")
    bands = []
    for wavelength in requested:
        band = int(np.abs(centers - wavelength).argmin())
        if abs(centers[band] - wavelength) > max(max_distance, 1.0):
            ends = f"{centers[0]:g} to {centers[-1]:g}" + (" nm" if cubes.info.wavelengths_known else "")
            raise HsevalError(
                f"--wavelengths-shown {wavelength:g}: no band of {cubes.info.location} is near it ({ends})"
            )
        bands.append(band)
    return bands


def _drop_long_hint(hint: str, max_length: int = 160) -> str:
    return hint if len(hint) <= max_length else ""
