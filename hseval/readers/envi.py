"""ENVI: a text header ``.hdr`` and a raw file, through memory maps of the package ``spectral``."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from hseval.data.limits import MAX_HEADER_BYTES, MAX_HEADER_LINES, check_count
from hseval.readers.header import Header, check_cube, check_length, mute_logger
from hseval.utils.arrays import Array, Float64Array
from hseval.utils.errors import HsevalError

NAME = "ENVI"
SUFFIXES: tuple[str, ...] = (".hdr",)
_NM_PER_UNIT: dict[str, float] = {
    "nanometers": 1.0, "nanometer": 1.0, "nm": 1.0,
    "micrometers": 1e3, "micrometer": 1e3, "microns": 1e3, "micron": 1e3, "um": 1e3, "µm": 1e3,
    "millimeters": 1e6, "mm": 1e6, "angstroms": 0.1, "angstrom": 0.1,
}  # fmt: skip


def read_header(path: Path) -> Header:
    """Return the text header, after checking the raw file's length against it."""
    _check_header_size(path)
    image = _open_image(path)
    shape = (int(image.nbands), int(image.nrows), int(image.ncols))
    raw = Path(image.filename)
    check_cube(shape, image.dtype, location=str(path))
    check_length(raw, int(image.offset) + math.prod(shape) * np.dtype(image.dtype).itemsize)
    text = image.metadata
    if str(text.get("file compression", "0")).strip() not in ("0", ""):
        raise HsevalError(f"{path}: its raw file is compressed ('file compression'); an uncompressed one expected")
    wavelengths, wavelength_notes = _parse_wavelengths(text, path)
    nodata = _parse_number(text, "data ignore value", path)
    scale = _parse_number(text, "reflectance scale factor", path) or 1.0
    notes = (*wavelength_notes, *_format_value_notes(text, nodata, scale))
    return Header(
        (path, raw),
        shape,
        declared_layout="byx",
        wavelengths=wavelengths,
        nodata=nodata,
        scale_factor=scale,
        notes=notes,
    )


def read_pixels(path: Path, header: Header, index: int) -> Array:
    """Return a view ``(band, y, x)`` into the memory map, whatever the interleave."""
    view = _open_image(path).open_memmap(interleave="bsq")
    if view is None:
        raise HsevalError(f"{path}: its raw file can't be mapped into memory")
    return np.asarray(view)


def _check_header_size(path: Path) -> None:
    check_count(path.stat().st_size, MAX_HEADER_BYTES, "bytes of header", location=str(path))
    # spectral's time grows with the square of the lines.
    check_count(len(path.read_bytes().splitlines()), MAX_HEADER_LINES, "lines of header", location=str(path))


def _open_image(path: Path) -> Any:
    from spectral.io import envi

    with mute_logger("spectral"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on upper-case names in a header
        try:
            image = envi.open(str(path.absolute()))
        except envi.EnviDataFileNotFoundError:
            suffixes = [*envi.KNOWN_EXTS, str(envi.read_envi_header(str(path))["interleave"]).lower()]
            listed = ", ".join([path.stem, *(f"{path.stem}.{suffix}" for suffix in suffixes)])
            raise HsevalError(f"{path}: its raw file is missing; expected one of {listed} in the same folder") from None
    if isinstance(image, envi.SpectralLibrary):
        raise HsevalError(f"{path}: an ENVI spectral library; an image expected")
    return image


def _parse_wavelengths(metadata: dict[str, Any], path: Path) -> tuple[Float64Array | None, tuple[str, ...]]:
    if "wavelength" not in metadata:
        return None, ()
    try:
        words = metadata["wavelength"]
        stored = np.asarray([float(word) for word in ([words] if isinstance(words, str) else words)])
    except (TypeError, ValueError):
        raise HsevalError(f"{path}: its field 'wavelength' holds something that is not a number") from None
    units = str(metadata.get("wavelength units", "")).strip()
    if units.lower() in _NM_PER_UNIT:
        factor = _NM_PER_UNIT[units.lower()]
        return stored * factor, () if factor == 1 else (f"wavelengths converted from {units} to nm",)
    if units.lower() not in ("", "unknown"):
        return None, (f"wavelength units {units!r} are not a length: the header's wavelengths are not used",)
    if stored.size and np.nanmax(stored) < 30:
        return stored * 1e3, ("wavelengths without units and below 30: read as micrometers",)
    return stored, ()


def _format_value_notes(metadata: dict[str, Any], nodata: float | None, scale_factor: float) -> tuple[str, ...]:
    notes = []
    if nodata is not None:
        notes.append(f"stored value {nodata:g} marks missing pixels (data ignore value): read as NaN")
    if scale_factor != 1:
        notes.append(f"values divided by {scale_factor:g} (reflectance scale factor)")
    unused = [name for name in ("data gain values", "data offset values", "bbl") if name in metadata]
    if unused:
        notes.append(f"not applied from the header: {', '.join(unused)}")
    return tuple(notes)


def _parse_number(metadata: dict[str, Any], name: str, path: Path) -> float | None:
    if name not in metadata:
        return None
    try:
        return float(metadata[name])
    except (TypeError, ValueError):
        raise HsevalError(f"{path}: its field {name!r} is {metadata[name]!r}; a number expected") from None
