"""TIFF files: one page a band, or one page with many channels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hseval.errors import HsevalError
from hseval.layout import Layout
from hseval.readers.headers import Header, check_cube

if TYPE_CHECKING:
    import tifffile

NAME = "TIFF"
SUFFIXES: tuple[str, ...] = (".tif", ".tiff")
# Samples or channels are bands by the file's own word. Plain pages are not: a cube (y, x, band) saved
# without further thought becomes y pages.
_STATED: dict[str, Layout] = {"SYX": "byx", "CYX": "byx", "YXS": "yxb", "YXC": "yxb"}


def header(path: Path) -> Header:
    """Read shape, axes and the value of missing pixels from the tags."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        series = _cube(file, path)
        shape = tuple(int(length) for length in series.shape)
        check_cube(shape, series.dtype, where=str(path))
        if len(shape) == 4:
            raise HsevalError(f"{path}: axes {series.axes} of shape {shape}; a TIFF is read as one cube of three axes")
        _check_pages(file, path)
        ignore = _nodata(file)
        return Header((path,), shape, stated=_STATED.get(series.axes), ignore=ignore, notes=_notes(ignore))


def pixels(path: Path, header: Header, index: int) -> NDArray[Any]:
    """Read all pages of the cube."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        return np.asarray(_cube(file, path).asarray(maxworkers=1))


def mask(path: Path, header: Header, structure: str, index: int) -> NDArray[Any]:
    """A TIFF has no masks."""
    raise KeyError(structure)


def _cube(file: tifffile.TiffFile, path: Path) -> tifffile.TiffPageSeries:
    series = file.series
    solid = [one for one in series if len(one.shape) >= 3]
    if len(solid) == 1 or len(series) == 1:
        return solid[0] if solid else series[0]
    listed = ", ".join(f"{one.axes} {one.shape}" for one in series[:6])
    raise HsevalError(f"{path}: holds {len(series)} images ({listed}); pages of one size and type expected")


def _check_pages(file: tifffile.TiffFile, path: Path) -> None:
    # Only the last page's strips are looked at: in a file that was cut off, those are what is missing.
    length = path.stat().st_size
    last = file.pages[-1]
    ends = [start + count for start, count in zip(last.dataoffsets, last.databytecounts, strict=True)]
    if max(ends, default=0) > length:
        raise HsevalError(f"{path}: truncated: its pages reach to byte {max(ends)}, the file has {length}")


def _nodata(file: tifffile.TiffFile) -> float | None:
    tag = file.pages.first.tags.get("GDAL_NODATA")
    try:
        return None if tag is None else float(str(tag.value).strip("\x00 "))
    except ValueError:
        return None


def _notes(ignore: float | None) -> tuple[str, ...]:
    return () if ignore is None else (f"stored value {ignore:g} marks missing pixels (GDAL_NODATA): read as NaN",)
