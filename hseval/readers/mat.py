"""MATLAB files: v5 by scipy, v7.3 (which is HDF5) by h5py, structs of v5 by pymatreader.

Axes are given as MATLAB shows them: ``(y, x, band)`` there is ``(y, x, band)`` here, in both versions.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.readers import hdf5_foreign as h5
from hseval.readers.header import WAVELENGTH_NAMES, Header, check_cube, find_mask_names, pick_array
from hseval.readers.mask_arrays import find_mask_candidates, is_binary
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
    """Read the variables' names, shapes and classes, and the wavelengths."""
    shapes, structs = _read_variables_v73(path) if _is_hdf5(path) else _read_variables_v5(path)
    masks = find_mask_names(shapes)
    if "masks" in structs:  # of v5: in HDF5 its fields have names of their own
        masks |= {name: f"masks.{name}" for name in _load(path, "masks")}
    known = next((name for name in WAVELENGTH_NAMES if name in shapes), None)
    rest = {name: shape for name, shape in shapes.items() if name != known and name not in masks.values()}
    cube = pick_array(rest, location=str(path))
    check_cube(shapes[cube], np.float64, location=f"{path}: {cube}")
    if len(shapes[cube]) == 4:
        raise HsevalError(f"{path}: {cube} has four axes {shapes[cube]}; a .mat file is read as one cube of three")
    wavelengths = None if known is None else np.asarray(_load(path, known), dtype=np.float64).ravel()
    # Numbers are doubles in MATLAB unless said otherwise: the values decide, whatever the type.
    pictures = find_mask_candidates(rest, shapes[cube], lambda name: is_binary(np.asarray(_load(path, name))))
    return Header((path,), shapes[cube], cube, wavelengths=wavelengths, masks=masks, mask_candidates=pictures)


def read_pixels(path: Path, header: Header, index: int) -> NDArray[Any]:
    """Read the cube."""
    return np.asarray(_load(path, header.array_name))


def read_mask(path: Path, header: Header, structure: str, index: int) -> NDArray[Any]:
    """Read one mask: a variable, or a field of the struct ``masks``."""
    name = header.masks[structure]
    return np.asarray(_load(path, "masks")[structure] if name == f"masks.{structure}" else _load(path, name))


def _is_hdf5(path: Path) -> bool:
    # A v7.3 file starts with 512 bytes of MATLAB's own, so h5py's look at all possible places is needed.
    import h5py

    return bool(h5py.is_hdf5(path))


def _read_variables_v5(path: Path) -> tuple[dict[str, tuple[int, ...]], set[str]]:
    from scipy.io import whosmat

    _check_complete(path)
    try:
        found = whosmat(path)
    except NotImplementedError as error:  # what scipy says of a v7.3 header, which HDF5 should have followed
        raise HsevalError(f"{path}: truncated: a MATLAB v7.3 file without its HDF5 part") from error
    except Exception as error:  # scipy finds nonsense in all kinds of ways
        raise HsevalError(f"{path}: no MATLAB file (neither v5 nor v7.3), or its beginning is damaged") from error
    numeric = {name: tuple(shape) for name, shape, kind in found if kind in _NUMERIC_CLASSES}
    return numeric, {name for name, _, kind in found if kind == "struct"}


def _check_complete(path: Path) -> None:
    # whosmat jumps from variable to variable and takes the end of a file that was cut off for its end.
    with path.open("rb") as handle:
        order = {b"IM": "<", b"MI": ">"}.get(handle.read(128)[126:])
        length = path.stat().st_size
        while order is not None and (tag := handle.read(8)):
            size = struct.unpack(f"{order}II", tag)[1] if len(tag) == 8 else length
            if handle.seek(size, 1) > length:
                raise HsevalError(f"{path}: truncated: its variables reach to byte {handle.tell()} of {length}")


def _read_variables_v73(path: Path) -> tuple[dict[str, tuple[int, ...]], set[str]]:
    with h5.open_file(path) as file:
        found = h5.find_datasets(file, location=str(path))
        return {
            name: tuple(dataset.shape[::-1])
            for name, dataset in found.items()
            if name.startswith("masks/") or ("/" not in name and dataset.dtype.kind in "fiub")
        }, set()


def _load(path: Path, name: str) -> Any:
    if _is_hdf5(path):  # by h5py itself: pymatreader takes a file without MATLAB's first bytes for damaged
        with h5.open_file(path) as file:
            return np.asarray(file[name][()]).T
    from pymatreader import read_mat

    return read_mat(path, variable_names=[name])[name]
