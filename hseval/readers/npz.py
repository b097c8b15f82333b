"""NumPy archives: ``.npz`` with the cube, and optionally ``wavelengths`` and masks."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from hseval.readers.header import WAVELENGTH_NAMES, Header, check_cube, find_mask_names, pick_array
from hseval.readers.mask_arrays import find_mask_candidates, is_binary
from hseval.readers.npy import read_array_header
from hseval.utils.errors import HsevalError

NAME = "npz"
SUFFIXES: tuple[str, ...] = (".npz",)


def read_header(path: Path) -> Header:
    """Return the members' headers, and the wavelengths."""
    arrays = _read_member_headers(path)
    masks = find_mask_names(arrays)
    numeric = {name: shape for name, (shape, _) in arrays.items() if name not in masks.values()}
    wavelengths_name = next((name for name in WAVELENGTH_NAMES if name in arrays), None)
    numeric.pop(wavelengths_name or "", None)
    cube = pick_array(numeric, location=str(path))
    check_cube(*arrays[cube], location=f"{path}: {cube}")
    wavelengths = None
    if wavelengths_name is not None:
        wavelengths = np.asarray(_load(path, wavelengths_name), dtype=np.float64).ravel()
    others = {name: shape for name, shape in numeric.items() if arrays[name][1].kind in "fiub"}
    candidates = find_mask_candidates(others, arrays[cube][0], lambda name: _is_mask(path, name, arrays[name][1]))
    return Header((path,), arrays[cube][0], cube, wavelengths=wavelengths, masks=masks, mask_candidates=candidates)


def read_pixels(path: Path, header: Header, index: int) -> NDArray[Any]:
    """Return the cube; a member of an archive can only be read as a whole."""
    stored = _load(path, header.array_name)
    return stored[index] if stored.ndim == 4 else stored


def read_mask(path: Path, header: Header, structure: str, index: int) -> NDArray[Any]:
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


def _is_mask(path: Path, name: str, dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "b" or (dtype.kind in "ui" and is_binary(_load(path, name)))


def _load(path: Path, name: str) -> NDArray[Any]:
    with np.load(path, allow_pickle=False) as archive:
        return np.asarray(archive[name])
