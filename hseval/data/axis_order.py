"""Axis order of stored cubes, decided from their shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from hseval.utils.errors import HsevalError, format_suggestion
from hseval.utils.plural import format_count

if TYPE_CHECKING:
    from hseval.utils.arrays import Array

Layout = Literal["byx", "yxb"]
LAYOUTS: tuple[Layout, ...] = ("byx", "yxb")


def check_layout(text: str | None) -> Layout | None:
    """Return a layout that a user typed, after checking it.

    Raises:
        HsevalError: it is neither ``byx`` nor ``yxb``.
    """
    if text is None or text in LAYOUTS:
        return text
    raise HsevalError(f"layout: {text!r} is not an axis order{format_suggestion(text, LAYOUTS)}")


def choose_layout(
    shape: Sequence[int],
    *,
    location: str,
    declared: Layout | None = None,
    requested: Layout | None = None,
    bands: int | None = None,
) -> tuple[Layout, str | None]:
    """Decide the axis order of a cube with three axes.

    In this order: the container's statement; the user's request; the first or last axis that has the length of the
    wavelength list, unless both have; the strictly smallest axis, if it is the first.

    Args:
        shape: the three axes' lengths, as stored.
        location: the path, for messages.
        declared: layout that the container states, or None.
        requested: the user's ``--layout``, or None.
        bands: length of the wavelength list, or None.

    Returns:
        the layout, and a note on the choice for reports, or None.

    Raises:
        HsevalError: the axes are ambiguous (the message names both readings), or none fits.
    """
    if len(shape) != 3:
        raise HsevalError(
            f"{location}: {_format_axes(shape)} are not a cube: three axes (band, y, x) or (y, x, band) expected"
        )
    if declared is not None:
        ignored = f"layout {requested} not applied: the file itself states {declared}"
        note = None if requested in (None, declared) else ignored
        return _check_band_count(shape, declared, bands, location), note
    if requested is not None:
        return _check_band_count(shape, requested, bands, location), None
    if bands is not None:
        return _choose_by_band_count(shape, bands, location), None
    if shape[0] < min(shape[1:]):
        axes = _format_axes(shape)
        return "byx", f"axes {axes} read as (band, y, x), as the first is the smallest (otherwise: --layout yxb)"
    raise HsevalError(f"{location}: {_format_ambiguity(shape)}; give --layout byx|yxb, or the wavelengths")


def count_bands(shape: Sequence[int], layout: Layout) -> int:
    """Return the number of bands of a stored cube."""
    return int(shape[0] if layout == "byx" else shape[-1])


def to_byx_shape(shape: Sequence[int], layout: Layout) -> tuple[int, int, int]:
    """Return a stored cube's shape as ``(band, y, x)``."""
    first, middle, last = (int(length) for length in shape)
    return (first, middle, last) if layout == "byx" else (last, first, middle)


def move_bands_first(cube: Array, layout: Layout) -> Array:
    """Return a view ``(band, y, x)`` of a cube stored in ``layout``."""
    return cube if layout == "byx" else cube.transpose(2, 0, 1)


def _choose_by_band_count(shape: Sequence[int], bands: int, location: str) -> Layout:
    matching = [layout for layout in LAYOUTS if count_bands(shape, layout) == bands]
    if len(matching) == 1:
        return matching[0]
    if matching:
        reason = f"{_format_ambiguity(shape)}, and {bands} wavelengths fit both; give --layout byx|yxb"
    else:
        axes = _format_axes(shape)
        reason = f"{format_count(bands, 'wavelength')}, but axes {axes}: the first or last must have that length"
    raise HsevalError(f"{location}: {reason}")


def _check_band_count(shape: Sequence[int], layout: Layout, bands: int | None, location: str) -> Layout:
    n_bands = count_bands(shape, layout)
    if bands is not None and n_bands != bands:
        raise HsevalError(
            f"{location}: {format_count(bands, 'wavelength')}, but {format_count(n_bands, 'band')} "
            f"(axes {_format_axes(shape)} read as {layout})"
        )
    return layout


def _format_ambiguity(shape: Sequence[int]) -> str:
    first, second, third = shape
    return (
        f"axes {_format_axes(shape)} could be "
        f"(band, y, x) with {format_count(first, 'band')} of {second} x {third} pixels "
        f"or (y, x, band) with {format_count(third, 'band')} of {first} x {second} pixels"
    )


def _format_axes(shape: Sequence[int]) -> str:
    return "(" + ", ".join(str(int(length)) for length in shape) + ")"
