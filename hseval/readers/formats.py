"""The formats of single files, by the ends of their names. A new one is a module and a line here."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from hseval.readers import envi, mat, npy, npz, tiff
from hseval.readers import hdf5_foreign as h5
from hseval.readers.header import Format

FORMATS: tuple[Format, ...] = cast(tuple[Format, ...], (npy, npz, h5, mat, envi, tiff))
SUFFIXES: tuple[str, ...] = tuple(suffix for one in FORMATS for suffix in one.SUFFIXES)


def find_format(path: Path) -> Format | None:
    """Return the format that a file's name tells, or None."""
    suffix = path.suffix.lower()
    return next((one for one in FORMATS if suffix in one.SUFFIXES), None)


def get_format(name: str) -> Format:
    """Return the format of that name; what a set that travelled to another process looks its module up by."""
    return next(one for one in FORMATS if name == one.NAME)


def find_envi_header(path: Path) -> Path | None:
    """Return the ENVI header of a raw file (``a.dat`` -> ``a.hdr`` or ``a.dat.hdr``), or None."""
    candidates = (path.with_suffix(".hdr"), path.with_name(f"{path.name}.hdr"))
    return next((header for header in candidates if path.is_file() and header.is_file()), None)
