"""HDF5 files in other formats than hseval's: one or several cubes, with masks and wavelengths."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hseval.readers.header import Header
from hseval.readers.mask_arrays import build_container_header
from hseval.utils.arrays import Array
from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    import h5py

NAME = "HDF5"
SUFFIXES: tuple[str, ...] = (".h5", ".hdf5", ".he5")
SIGNATURE = b"\x89HDF\r\n\x1a\n"


def read_header(path: Path) -> Header:
    """Return shapes and wavelengths."""
    with open_file(path) as file:
        datasets = _drop_aliases(find_datasets(file, location=str(path)))
        numeric = {name: dataset for name, dataset in datasets.items() if dataset.dtype.kind in "fiub"}
        arrays = {name: (dataset.shape, dataset.dtype) for name, dataset in numeric.items()}
        return build_container_header(path, arrays, lambda name: datasets[name][()])


def read_pixels(path: Path, header: Header, index: int) -> Array:
    """Return one cube."""
    with open_file(path) as file:
        return np.asarray(file[header.array_name][index] if len(header.shape) == 4 else file[header.array_name][()])


def read_mask(path: Path, header: Header, structure: str, index: int) -> Array:
    """Return one mask."""
    with open_file(path) as file:
        stored = file[header.masks[structure]]
        return np.asarray(stored[index] if len(header.shape) == 4 else stored[()])


def has_signature(path: Path) -> bool:
    """Return whether a file starts with the HDF5 signature."""
    try:
        with path.open("rb") as handle:
            return handle.read(len(SIGNATURE)) == SIGNATURE
    except OSError:
        return False


def open_file(path: Path) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises:
        HsevalError: it is truncated, or not an HDF5 file.
    """
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as error:
        message = str(error).lower()
        if "truncated" in message:
            raise HsevalError(f"{path}: truncated: the HDF5 file is shorter than its header states") from error
        if "signature not found" in message:
            raise HsevalError(f"{path}: not an HDF5 file, or its beginning is damaged") from error
        raise HsevalError(f"{path}: can't be opened as HDF5: {' '.join(str(error).split())}") from error


def find_datasets(file: h5py.File, *, location: str) -> dict[str, h5py.Dataset]:
    """Return all datasets of a file by their path.

    Raises:
        HsevalError: the file refers to others (external links or storage, virtual datasets): a file from an untrusted
            source could read any file of this machine.
    """
    datasets, soft_links = _walk(file, location)
    for name in soft_links:  # safe to follow now: nothing in the file refers to others
        target = file.get(name)
        if _is_dataset(target):
            datasets[name] = target
    return datasets


def _walk(file: h5py.File, location: str) -> tuple[dict[str, h5py.Dataset], list[str]]:
    """Return the datasets by their shortest path, and the names of soft links, which are not followed."""
    datasets: dict[str, h5py.Dataset] = {}
    soft_links: list[str] = []
    visited = {_get_address(file["/"])}
    queue = deque([("", file["/"])])
    while queue:
        prefix, group = queue.popleft()
        for key in group:
            name = f"{prefix}{key}"
            kind = _classify_link(group, key, f"{location}: {name!r}")
            if kind == "soft":
                soft_links.append(name)
                continue
            target = group[key]
            if _is_dataset(target):
                _check_internal(target, f"{location}: {name!r}")
                datasets[name] = target
            elif hasattr(target, "keys") and _get_address(target) not in visited:  # hard links may form a loop
                visited.add(_get_address(target))
                queue.append((f"{name}/", target))
    return datasets, soft_links


def _classify_link(group: h5py.Group, key: str, label: str) -> str:
    import h5py

    link = group.get(key, getlink=True)
    if isinstance(link, h5py.SoftLink):
        return "soft"
    if not isinstance(link, h5py.HardLink):
        raise HsevalError(f"{label} is an external link; expected all data in the file itself")
    return "hard"


def _is_dataset(target: object) -> bool:
    import h5py

    return isinstance(target, h5py.Dataset)


def _get_address(target: h5py.Group | h5py.Dataset) -> int:
    import h5py

    return int(h5py.h5o.get_info(target.id).addr)


def _drop_aliases(datasets: Mapping[str, h5py.Dataset]) -> dict[str, h5py.Dataset]:
    """Return each dataset under its first name only: some formats (NeXus) link one from several groups."""
    first: dict[int, str] = {}
    for name, dataset in datasets.items():
        first.setdefault(_get_address(dataset), name)
    return {name: datasets[name] for name in first.values()}


def _check_internal(dataset: h5py.Dataset, label: str) -> None:
    if dataset.is_virtual:
        raise HsevalError(f"{label} is a virtual dataset; expected all data in the file itself")
    if dataset.external:
        raise HsevalError(f"{label} stores its values in another file; expected all data in the file itself")
