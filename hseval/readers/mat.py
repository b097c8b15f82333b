"""MATLAB files: v5 by scipy, v7.3 (which is HDF5) by h5py, structs of v5 by pymatreader.

Axes are in MATLAB's order: ``(y, x, band)`` in MATLAB is ``(y, x, band)`` here, in both versions.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from hseval.readers import hdf5_foreign as h5
from hseval.readers.header import Header
from hseval.readers.mask_arrays import build_container_header
from hseval.utils.arrays import Array
from hseval.utils.errors import HsevalError

NAME = "MATLAB"
SUFFIXES: tuple[str, ...] = (".mat",)
_NUMERIC_CLASSES = {
    "double",
    "single",
    "logical",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
}


def read_header(path: Path) -> Header:
    """Return the cube's name and shape, masks and wavelengths."""
    shapes, structs = _read_variables_v73(path) if _is_hdf5(path) else _read_variables_v5(path)
    # v5 only: in HDF5 the fields are datasets.
    structures = {name: f"masks.{name}" for name in _load(path, "masks")} if "masks" in structs else {}
    # Numbers in MATLAB are doubles by default. As integers, their values decide whether they are a mask.
    arrays = {name: (shape, np.dtype(np.uint8)) for name, shape in shapes.items()}
    header = build_container_header(path, arrays, lambda name: _load(path, name), structs=structures)
    if len(header.shape) == 4:
        axes = f"{header.array_name} has four axes {header.shape}"
        raise HsevalError(f"{path}: {axes}; expected three: a .mat file is read as one cube")
    return header


def read_pixels(path: Path, header: Header, index: int) -> Array:
    """Return the cube."""
    return np.asarray(_load(path, header.array_name))


def read_mask(path: Path, header: Header, structure: str, index: int) -> Array:
    """Return one mask: a variable, or a field of the struct ``masks``."""
    name = header.masks[structure]
    return np.asarray(_load(path, "masks")[structure] if name == f"masks.{structure}" else _load(path, name))


def _is_hdf5(path: Path) -> bool:
    # A v7.3 file starts with 512 bytes of MATLAB's own: h5py looks for the signature at all allowed offsets.
    import h5py

    return bool(h5py.is_hdf5(path))


def _read_variables_v5(path: Path) -> tuple[dict[str, tuple[int, ...]], set[str]]:
    from scipy.io import whosmat

    _check_complete(path)
    try:
        variables = whosmat(path)
    except NotImplementedError as error:  # raised for a v7.3 header, which HDF5 should follow
        raise HsevalError(f"{path}: truncated: a MATLAB v7.3 file without its HDF5 part") from error
    except Exception as error:  # scipy raises many types on damaged files
        raise HsevalError(f"{path}: not a MATLAB file (neither v5 nor v7.3), or its beginning is damaged") from error
    numeric = {name: tuple(shape) for name, shape, kind in variables if kind in _NUMERIC_CLASSES}
    return numeric, {name for name, _, kind in variables if kind == "struct"}


def _check_complete(path: Path) -> None:
    # whosmat skips from variable to variable and does not notice that a file is truncated.
    with path.open("rb") as handle:
        order = {b"IM": "<", b"MI": ">"}.get(handle.read(128)[126:])
        length = path.stat().st_size
        while order is not None and (tag := handle.read(8)):
            size = struct.unpack(f"{order}II", tag)[1] if len(tag) == 8 else length
            if handle.seek(size, 1) > length:
                raise HsevalError(
                    f"{path}: truncated: its variables end at byte {handle.tell()}, the file has {length}"
                )


def _read_variables_v73(path: Path) -> tuple[dict[str, tuple[int, ...]], set[str]]:
    with h5.open_file(path) as file:
        datasets = h5.find_datasets(file, location=str(path))
        return {
            name: tuple(dataset.shape[::-1])
            for name, dataset in datasets.items()
            if name.startswith("masks/") or ("/" not in name and dataset.dtype.kind in "fiub")
        }, set()


def _load(path: Path, name: str) -> Any:
    if _is_hdf5(path):  # by h5py: pymatreader rejects files without MATLAB's first bytes
        with h5.open_file(path) as file:
            return np.asarray(file[name][()]).T
    from pymatreader import read_mat

    return read_mat(path, variable_names=[name])[name]
