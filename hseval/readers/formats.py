"""The formats of single files, by suffix. A new one needs a module and an entry here."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from hseval.readers import envi, mat, npy, npz, tiff
from hseval.readers import hdf5_foreign as h5
from hseval.readers.header import Format

FORMATS: tuple[Format, ...] = cast(tuple[Format, ...], (npy, npz, h5, mat, envi, tiff))
SUFFIXES: tuple[str, ...] = tuple(suffix for file_format in FORMATS for suffix in file_format.SUFFIXES)


def find_format(path: Path) -> Format | None:
    """Return the format of a file's suffix, or None."""
    suffix = path.suffix.lower()
    return next((file_format for file_format in FORMATS if suffix in file_format.SUFFIXES), None)


def get_format(name: str) -> Format:
    """Return the format of that name, by which a pickled set finds its module."""
    return next(file_format for file_format in FORMATS if name == file_format.NAME)


def find_envi_header(path: Path) -> Path | None:
    """Return the ENVI header of a raw file (``a.dat`` -> ``a.hdr`` or ``a.dat.hdr``), or None."""
    candidates = (path.with_suffix(".hdr"), path.with_name(f"{path.name}.hdr"))
    return next((header for header in candidates if path.is_file() and header.is_file()), None)
