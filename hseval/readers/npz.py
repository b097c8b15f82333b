"""NumPy archives: ``.npz`` with the cube, and optionally ``wavelengths`` and masks."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, cast

import numpy as np

from hseval.readers.header import Header
from hseval.readers.mask_arrays import build_container_header
from hseval.readers.npy import read_array_header
from hseval.utils.arrays import Array
from hseval.utils.errors import HsevalError

NAME = "npz"
SUFFIXES: tuple[str, ...] = (".npz",)


def read_header(path: Path) -> Header:
    """Return the members' headers, and the wavelengths."""
    return build_container_header(path, _read_member_headers(path), lambda name: _load(path, name))


def read_pixels(path: Path, header: Header, index: int) -> Array:
    """Return the cube; a member of an archive can only be read as a whole."""
    stored = _load(path, header.array_name)
    return stored[index] if stored.ndim == 4 else stored


def read_mask(path: Path, header: Header, structure: str, index: int) -> Array:
    """Return one mask."""
    stored = _load(path, header.masks[structure])
    return stored[index] if len(header.shape) == 4 else stored


def _read_member_headers(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    if not zipfile.is_zipfile(path):
        raise HsevalError(f"{path}: truncated, or not an archive of numpy.savez")
    with zipfile.ZipFile(path) as archive:
        headers = {}
        for name in archive.namelist():
            if name.endswith(".npy"):
                with archive.open(name) as member:
                    headers[name.removesuffix(".npy")] = read_array_header(
                        cast(Any, member), location=f"{path}: {name}"
                    )
    return headers


def _load(path: Path, name: str) -> Array:
    with np.load(path, allow_pickle=False) as archive:
        return np.asarray(archive[name])
