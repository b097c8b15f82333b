"""Contact sheets of cubes: rows of RGB, single bands in gray and masks; one column per cube."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hseval.core.cubes import FOV
from hseval.utils.atomic_files import write_atomically
from hseval.utils.plural import format_count

Array = NDArray[Any]

DISPLAY_NM = (900, 815, 730, 640, 555, 465)
RGB_NM = (640, 555, 465)
GRAY_NM = 555  # background of the masks: hemoglobin absorbs here, so vessels are visible
STRUCTURE_COLORS = {"artery": (230, 60, 50), "vein": (70, 120, 240), "onh": (250, 215, 60)}
COLOR_PALETTE = ((80, 200, 120), (240, 140, 40), (190, 110, 220), (60, 200, 210), (240, 130, 180), (160, 160, 90))
MAX_SHEET_WIDTH_PX = 1500  # of all columns, up to which tiles are enlarged
MAX_TILE_PX = 256  # longer side of a tile; larger cubes are reduced
GAP, MARGIN = 3, 10
PERCENTILES = (2, 98)
RGB_GAMMA = 1.2  # makes the color of dark vessels visible
TEXT_COLOR, BACKGROUND_COLOR = (20, 20, 20), (255, 255, 255)


def save_contact_sheet(
    cubes: Array,
    wavelengths: Array | None,
    *,
    out: Path,
    titles: Sequence[str],
    field: Array | None = None,
    masks: Mapping[str, Array] | None = None,
    display_nm: Sequence[float] = DISPLAY_NM,
) -> None:
    """Write a PNG whose rows are RGB, the bands nearest to ``display_nm`` and, if given, masks over a gray band.

    Each row has one gray scale for all columns, from the 2nd to the 98th percentile inside the field of view,
    so that columns are comparable. Small cubes are enlarged by an integer factor, without interpolation.

    Args:
        cubes: ``(n, band, y, x)`` in physical units.
        wavelengths: ``(band,)`` nm; None: RGB and rows are bands spread evenly over the range.
        out: the PNG.
        titles: a title for each cube.
        field: bool ``(n, y, x)``; black outside. None: everything is visible.
        masks: structure -> bool ``(n, y, x)``; ``fov`` is ignored.
        display_nm: bands to show; fewer rows if there are fewer bands.

    Raises:
        HsevalError: ``out`` could not be written.
    """
    if len(titles) != len(cubes):
        raise ValueError(f"{format_count(len(titles), 'title')} for {format_count(len(cubes), 'cube')}")
    visible: Array = np.asarray(np.isfinite(cubes).all(axis=1))
    if field is not None:
        visible = visible & np.asarray(field, dtype=bool)
    rows = {"RGB": _render_rgb(cubes[:, select_rgb_bands(wavelengths, cubes.shape[1])], visible)}
    for band in select_bands(wavelengths, cubes.shape[1], display_nm):
        name = f"band {band}" if wavelengths is None else f"{wavelengths[band]:.0f} nm"
        rows[name] = _render_gray(cubes[:, band], visible)
    visible_masks = {
        name: np.asarray(mask, dtype=bool) & visible for name, mask in (masks or {}).items() if name != FOV
    }
    if visible_masks:
        gray = _render_gray(cubes[:, find_nearest_band(wavelengths, cubes.shape[1], GRAY_NM)], visible)
        rows["masks"] = _overlay_masks(gray, visible_masks)
    with write_atomically(out) as temporary:
        _compose_sheet(rows, titles).save(temporary, format="PNG", optimize=True)


def select_bands(wavelengths: Array | None, n_bands: int, display_nm: Sequence[float] = DISPLAY_NM) -> list[int]:
    """Return the distinct bands nearest to ``display_nm``, in its order; spread evenly without wavelengths."""
    if wavelengths is None:
        evenly_spaced = np.linspace(n_bands - 1, 0, min(len(display_nm), n_bands))
        return [int(band) for band in dict.fromkeys(evenly_spaced.round())]
    return list(dict.fromkeys(find_nearest_band(wavelengths, n_bands, nm) for nm in display_nm))


def select_rgb_bands(wavelengths: Array | None, n_bands: int) -> list[int]:
    """Return bands for red, green, blue: the nearest to 640, 555, 465 nm, or the middles of thirds of the bands."""
    if wavelengths is None:
        return [(2 * third + 1) * n_bands // 6 for third in (2, 1, 0)]
    return [find_nearest_band(wavelengths, n_bands, nm) for nm in RGB_NM]


def find_nearest_band(wavelengths: Array | None, n_bands: int, nm: float) -> int:
    """Return the band nearest to ``nm``; the middle one if wavelengths are unknown."""
    return n_bands // 2 if wavelengths is None else int(np.abs(np.asarray(wavelengths) - nm).argmin())


def _render_rgb(values: Array, visible: Array) -> Array:
    """Map red, green, blue ``(n, 3, y, x)`` to uint8 ``(n, y, x, 3)``, black where not ``visible``.

    Each channel's scale is the geometric mean of its own 98th percentile and the brightest channel's: with a common
    scale a fundus is entirely red, with three independent ones it is gray and its hue is lost.
    """
    inside = np.moveaxis(values, 1, -1)[visible]
    high = np.percentile(inside, PERCENTILES[1], axis=0) if inside.size else np.ones(3)
    scale = np.sqrt(high.clip(min=1e-12) * max(high.max(), 1e-12))
    scaled = (np.moveaxis(values, 1, -1) / scale).clip(0, 1) ** (1 / RGB_GAMMA)
    return _to_uint8(np.where(visible[..., None], scaled, 0))


def _render_gray(values: Array, visible: Array) -> Array:
    """Map one band ``(n, y, x)`` to gray uint8 ``(n, y, x, 3)``, black where not ``visible``."""
    low, high = np.percentile(values[visible], PERCENTILES) if visible.any() else (0.0, 1.0)
    scaled = np.where(visible, (values - low) / max(high - low, 1e-12), 0)
    return np.repeat(_to_uint8(scaled)[..., None], 3, axis=-1)


def _to_uint8(scaled: Array) -> Array:
    levels: Array = np.rint(scaled.clip(0, 1) * 255).astype(np.uint8)
    return levels


def _overlay_masks(gray: Array, masks: Mapping[str, Array]) -> Array:
    """Fill masks in their colors over a dimmed gray image ``(n, y, x, 3)``, smaller ones on top."""
    painted = gray * 0.45
    palette = iter(COLOR_PALETTE * len(masks))
    colors = {name: STRUCTURE_COLORS.get(name) or next(palette) for name in sorted(masks)}
    for name in sorted(masks, key=lambda name: -int(masks[name].sum())):
        painted[masks[name]] = 0.2 * painted[masks[name]] + 0.8 * np.array(colors[name])
    return _to_uint8(painted / 255)


def _compose_sheet(rows: Mapping[str, Array], titles: Sequence[str]) -> Image.Image:
    """Arrange the tiles, with labels at the left and titles on top."""
    height, width = next(iter(rows.values())).shape[1:3]
    height, width = _compute_tile_size(height, width, len(titles))
    font = _load_font(min(max(width // 9, 12), 18))
    left = MARGIN + int(max(font.getlength(name) for name in rows)) + MARGIN
    top = MARGIN + sum(font.getmetrics()) + 6
    size = (
        left + len(titles) * (width + GAP) - GAP + MARGIN,
        top + len(rows) * (height + GAP) - GAP + MARGIN,
    )
    sheet = Image.new("RGB", size, BACKGROUND_COLOR)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        middle = left + column * (width + GAP) + width // 2
        draw.text((middle, top - 6), _truncate_title(title, font, width), fill=TEXT_COLOR, font=font, anchor="ms")
    for row, (name, tiles) in enumerate(rows.items()):
        y = top + row * (height + GAP)
        draw.text((left - MARGIN, y + height // 2), name, fill=TEXT_COLOR, font=font, anchor="rm")
        for column, tile in enumerate(tiles):
            sheet.paste(_resize_tile(tile, width, height), (left + column * (width + GAP), y))
    return sheet


def _compute_tile_size(height: int, width: int, n_columns: int) -> tuple[int, int]:
    """Return the size of a tile: enlarged or reduced by an integer factor."""
    factor = MAX_SHEET_WIDTH_PX // (n_columns * width)
    factor = min(factor, max(MAX_TILE_PX // max(height, width), 1))
    if factor >= 1:
        return height * factor, width * factor
    divisor = max(-(-max(height, width) // MAX_TILE_PX), 1)
    return -(-height // divisor), -(-width // divisor)


def _resize_tile(tile: Array, width: int, height: int) -> Image.Image:
    image = Image.fromarray(tile)
    is_enlarged = width >= image.width
    return image.resize((width, height), Image.Resampling.NEAREST if is_enlarged else Image.Resampling.BOX)


def _load_font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _truncate_title(title: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Return a title, truncated to the width of its column."""
    if font.getlength(title) <= width:
        return title
    while title and font.getlength(f"{title}...") > width:
        title = title[:-1]
    return f"{title}..."
