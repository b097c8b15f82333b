"""TIFF files: one page a band, or one page with many channels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from hseval.data.axis_order import Layout
from hseval.data.limits import MAX_PAGES, MAX_STRIPS, check_count, check_expansion
from hseval.readers.header import Header, check_cube, check_length, mute_logger
from hseval.utils.arrays import Array
from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    import tifffile

NAME = "TIFF"
SUFFIXES: tuple[str, ...] = (".tif", ".tiff")
# Samples and channels are bands by definition. Plain pages may not be: a cube (y, x, band) saved as it is has y pages.
BYTE_ORDERS: dict[str, Literal["little", "big"]] = {"<": "little", ">": "big"}
_COMPRESSIONS = ("NONE", "LZW", "ADOBE_DEFLATE", "DEFLATE", "PACKBITS", "LZMA", "ZSTD")
_LAYOUT_BY_AXES: dict[str, Layout] = {"SYX": "byx", "CYX": "byx", "YXS": "yxb", "YXC": "yxb"}


def read_header(path: Path) -> Header:
    """Return shape, axes and the value of missing pixels, from the tags."""
    with _open_file(path) as file:
        _check_complete(file, path)
        _check_imagej(file, path)
        series = _find_series(file, path)
        shape = tuple(int(length) for length in series.shape)
        check_cube(shape, series.dtype, location=str(path))
        _check_series(series, path)
        if len(shape) == 4:
            raise HsevalError(
                f"{path}: axes {series.axes} of shape {shape}; expected three: a TIFF is read as one cube"
            )
        layout, nodata = _LAYOUT_BY_AXES.get(series.axes), _read_nodata(file)
        return Header((path,), shape, declared_layout=layout, nodata=nodata, notes=_format_notes(nodata))


def read_pixels(path: Path, header: Header, index: int) -> Array:
    """Return all pages of the cube."""
    with _open_file(path) as file:
        return np.asarray(_find_series(file, path).asarray(maxworkers=1))


def _find_series(file: tifffile.TiffFile, path: Path) -> tifffile.TiffPageSeries:
    series = file.series
    candidates = [image for image in series if len(image.shape) >= 3]
    if len(candidates) == 1 or len(series) == 1:
        return candidates[0] if candidates else series[0]
    listed = ", ".join(f"{image.axes} {image.shape}" for image in series[:6])
    raise HsevalError(f"{path}: holds {len(series)} images ({listed}); pages of one size and type expected")


def _check_complete(file: tifffile.TiffFile, path: Path) -> None:
    """Raise HsevalError if a page lies beyond the file's end, or declares more than it stores.

    tifffile skips pages beyond the end, and a cube could become a 2D image.
    """
    offsets, strip_count, stored_bytes, declared = set(), 0, 0, 0
    try:
        for number, page in enumerate(file.pages, start=1):
            check_count(number, MAX_PAGES, "pages or more", location=str(path))
            strip_count += len(page.dataoffsets)
            check_count(strip_count, MAX_STRIPS, "strips or more", location=str(path))
            _check_compression(page, path)
            ends = [start + length for start, length in zip(page.dataoffsets, page.databytecounts, strict=False)]
            check_length(path, max(ends, default=path.stat().st_size + 1))
            offsets.add(page.offset)
            stored_bytes, declared = stored_bytes + sum(page.databytecounts), declared + page.nbytes
    except HsevalError:
        raise
    except Exception as error:  # tifffile.TiffFileError, or struct's
        raise HsevalError(f"{path}: truncated, or its pages are damaged: {error}") from error
    check_expansion(min(stored_bytes, path.stat().st_size), declared, location=str(path))
    # Directories form a chain, of which the last one has the offset 0 (TIFF 6.0, section 2).
    file.filehandle.seek(file.pages.next_page_offset or 0)
    stored = file.filehandle.read(file.tiff.offsetsize)
    next_offset = int.from_bytes(stored, BYTE_ORDERS[file.byteorder])
    is_known = next_offset == 0 or next_offset in offsets
    if len(stored) < file.tiff.offsetsize or not is_known:
        raise HsevalError(f"{path}: truncated: a page lies beyond its end")


def _check_series(series: tifffile.TiffPageSeries, path: Path) -> None:
    """Raise HsevalError if metadata (of OME, ImageJ, tifffile) declare images that are missing: they would be zeros."""
    if series.dataoffset is not None:
        check_length(path, series.dataoffset + series.nbytes)
        return
    stored = sum(page.nbytes for page in series.pages if page is not None)
    if stored < series.nbytes:
        raise HsevalError(f"{path}: metadata declare {series.nbytes} bytes of pixels, its pages have {stored}")


def _check_compression(page: tifffile.TiffPage | tifffile.TiffFrame, path: Path) -> None:
    # These expand to what the tags declare. A picture format in a TIFF (JPEG, WebP ...) declares another size itself.
    compression = page.keyframe.compression if page.keyframe else None
    name = getattr(compression, "name", str(compression))
    if name not in _COMPRESSIONS:
        raise HsevalError(f"{path}: compressed by {name}; expected one of {', '.join(_COMPRESSIONS)}")


def _check_imagej(file: tifffile.TiffFile, path: Path) -> None:
    # Beyond 4 GB ImageJ writes one directory with a page count, and the pages follow contiguously.
    images, first = int((file.imagej_metadata or {}).get("images", 1)), file.pages.first
    if images > len(file.pages) == 1 and first.dataoffsets:
        check_length(path, first.dataoffsets[0] + images * first.nbytes)


@contextlib.contextmanager
def _open_file(path: Path) -> Iterator[tifffile.TiffFile]:
    import tifffile

    with mute_logger("tifffile"):
        try:
            file = tifffile.TiffFile(path, _multifile=False)  # OME's metadata can name other files
        except Exception as error:  # it raises struct's errors, too
            raise HsevalError(f"{path}: truncated, or not a TIFF file: {error}") from error
        with file:
            yield file


def _read_nodata(file: tifffile.TiffFile) -> float | None:
    tag = file.pages.first.tags.get("GDAL_NODATA")
    try:
        return None if tag is None else float(str(tag.value).strip("\x00 "))
    except ValueError:
        return None


def _format_notes(nodata: float | None) -> tuple[str, ...]:
    return () if nodata is None else (f"stored value {nodata:g} marks missing pixels (GDAL_NODATA): read as NaN",)
