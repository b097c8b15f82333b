"""Axis order: which axis of a stored cube is the band axis, decided from shapes alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from hseval.utils.errors import HsevalError, format_suggestion

if TYPE_CHECKING:
    from numpy.typing import NDArray

Layout = Literal["byx", "yxb"]
LAYOUTS: tuple[Layout, ...] = ("byx", "yxb")


def check_layout(text: str | None) -> Layout | None:
    """Return a layout as typed by a user, checked.

    Raises:
        HsevalError: it is neither ``byx`` nor ``yxb``.
    """
    if text is None or text in LAYOUTS:
        return text
    raise HsevalError(f"layout: {text!r} is no axis order{format_suggestion(text, LAYOUTS)}")


def choose_layout(
    shape: Sequence[int],
    *,
    location: str,
    declared: Layout | None = None,
    requested: Layout | None = None,
    bands: int | None = None,
) -> tuple[Layout, str | None]:
    """Decide the axis order of a cube with three axes.

    In this order: as the container states it; as the user asks; the first or last axis whose length is that
    of the wavelength list, unless both are; the strictly smallest axis, if it comes first.

    Args:
        shape: the three axes' lengths, as stored.
        location: what messages name (a path).
        declared: what the container says, where it says anything.
        requested: the user's ``--layout``.
        bands: length of the wavelength list, where there is one.

    Returns:
        the layout, and what a report has to say about the choice (None: nothing).

    Raises:
        HsevalError: the axes can be read in more than one way, or not at all; the readings are named.
    """
    if len(shape) != 3:
        raise HsevalError(
            f"{location}: {_format_axes(shape)} are no cube: three axes (band, y, x) or (y, x, band) expected"
        )
    if declared is not None:
        ignored = (
            None
            if requested in (None, declared)
            else f"layout {requested} not applied: the file itself states {declared}"
        )
        return _check_band_count(shape, declared, bands, location), ignored
    if requested is not None:
        return _check_band_count(shape, requested, bands, location), None
    if bands is not None:
        return _choose_by_band_count(shape, bands, location), None
    if shape[0] < min(shape[1:]):
        return (
            "byx",
            f"axes {_format_axes(shape)} read as (band, y, x), the smallest one first (otherwise: --layout yxb)",
        )
    raise HsevalError(f"{location}: {_format_ambiguity(shape)}; give --layout byx|yxb, or the wavelengths")


def count_bands(shape: Sequence[int], layout: Layout) -> int:
    """Return the number of bands of a stored cube."""
    return int(shape[0] if layout == "byx" else shape[-1])


def to_byx_shape(shape: Sequence[int], layout: Layout) -> tuple[int, int, int]:
    """Return a stored cube's shape as ``(band, y, x)``."""
    first, middle, last = (int(length) for length in shape)
    return (first, middle, last) if layout == "byx" else (last, first, middle)


def move_bands_first(cube: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """Return a view ``(band, y, x)`` of a cube stored in ``layout``."""
    return cube if layout == "byx" else cube.transpose(2, 0, 1)


def _choose_by_band_count(shape: Sequence[int], bands: int, location: str) -> Layout:
    fitting = [layout for layout in LAYOUTS if count_bands(shape, layout) == bands]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise HsevalError(
            f"{location}: {_format_ambiguity(shape)}, and {bands} wavelengths fit both; give --layout byx|yxb"
        )
    raise HsevalError(
        f"{location}: {bands} wavelengths, but axes {_format_axes(shape)}: the first or last must have that length"
    )


def _check_band_count(shape: Sequence[int], layout: Layout, bands: int | None, location: str) -> Layout:
    found = count_bands(shape, layout)
    if bands is not None and found != bands:
        raise HsevalError(
            f"{location}: {bands} wavelengths, but {found} bands (axes {_format_axes(shape)} read as {layout})"
        )
    return layout


def _format_ambiguity(shape: Sequence[int]) -> str:
    height, width, bands = to_byx_shape(shape, "byx")
    return (
        f"axes {_format_axes(shape)} could be (band, y, x) with {height} bands of {width} x {bands} pixels "
        f"or (y, x, band) with {bands} bands of {height} x {width} pixels"
    )


def _format_axes(shape: Sequence[int]) -> str:
    return "(" + ", ".join(str(int(length)) for length in shape) + ")"
