"""HDF5 files that are not in the house format: a cube, or several, with masks and wavelengths beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hseval.errors import HsevalError
from hseval.readers.headers import WAVELENGTH_NAMES, Header, check_cube, mask_names, pick_array

if TYPE_CHECKING:
    import h5py

NAME = "HDF5"
SUFFIXES: tuple[str, ...] = (".h5", ".hdf5", ".he5")
SIGNATURE = b"\x89HDF\r\n\x1a\n"


def header(path: Path) -> Header:
    """Read shapes and wavelengths."""
    with open_file(path) as file:
        found = datasets(file, where=str(path))
        masks = mask_names(found)
        known = next((name for name in WAVELENGTH_NAMES if name in found), None)
        rest = {
            name: dataset.shape
            for name, dataset in found.items()
            if name != known and name not in masks.values() and dataset.dtype.kind in "fiub"
        }
        cube = pick_array(rest, where=str(path))
        check_cube(found[cube].shape, found[cube].dtype, where=f"{path}: {cube}")
        wavelengths = None if known is None else np.asarray(found[known][()], dtype=np.float64).ravel()
        return Header((path,), tuple(found[cube].shape), cube, wavelengths=wavelengths, masks=masks)


def pixels(path: Path, header: Header, index: int) -> NDArray[Any]:
    """Read one cube."""
    with open_file(path) as file:
        return np.asarray(file[header.array][index] if len(header.shape) == 4 else file[header.array][()])


def mask(path: Path, header: Header, structure: str, index: int) -> NDArray[Any]:
    """Read one mask."""
    with open_file(path) as file:
        stored = file[header.masks[structure]]
        return np.asarray(stored[index] if len(header.shape) == 4 else stored[()])


def has_signature(path: Path) -> bool:
    """Say whether a file starts as HDF5 does."""
    try:
        with path.open("rb") as handle:
            return handle.read(len(SIGNATURE)) == SIGNATURE
    except OSError:
        return False


def open_file(path: Path) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises:
        HsevalError: it is truncated, or no HDF5 file.
    """
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as error:
        told = str(error).lower()
        if "truncated" in told:
            raise HsevalError(f"{path}: truncated: the HDF5 file is shorter than it says itself") from error
        if "signature not found" in told:
            raise HsevalError(f"{path}: not an HDF5 file, or its beginning is damaged") from error
        raise HsevalError(f"{path}: can't be opened as HDF5: {' '.join(str(error).split())}") from error


def datasets(file: h5py.File, *, where: str) -> dict[str, h5py.Dataset]:
    """Return all datasets of a file by their path.

    Raises:
        HsevalError: something in the file leads out of it (external links or storage, virtual datasets): a file
            that was sent by somebody else would read whatever it likes from this machine.
    """
    return dict(_walk(file, "", where, set()))


def _walk(group: h5py.Group, prefix: str, where: str, seen: set[int]) -> Iterator[tuple[str, h5py.Dataset]]:
    import h5py

    for key in group:
        link = group.get(key, getlink=True)
        name = f"{prefix}{key}"
        if isinstance(link, h5py.SoftLink):
            continue  # stays inside the file unless an external link takes part, and that one is met by itself
        if not isinstance(link, h5py.HardLink):
            raise HsevalError(f"{where}: {name!r} is an external link: cubes have to be in the file itself")
        found = group[key]
        address = h5py.h5o.get_info(found.id).addr
        if address in seen:
            continue  # hard links may form a loop
        seen.add(address)
        if isinstance(found, h5py.Group):
            yield from _walk(found, f"{name}/", where, seen)
        elif isinstance(found, h5py.Dataset):
            _check_inside(found, name, where)
            yield name, found


def _check_inside(dataset: h5py.Dataset, name: str, where: str) -> None:
    if dataset.is_virtual:
        raise HsevalError(f"{where}: {name!r} is a virtual dataset: cubes have to be in the file itself")
    if dataset.external:
        raise HsevalError(f"{where}: {name!r} keeps its values in another file: cubes have to be in the file itself")
