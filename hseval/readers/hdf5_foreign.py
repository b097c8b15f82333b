"""HDF5 files in other formats than hseval's: one or several cubes, with masks and wavelengths."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hseval.data.limits import (
    MAX_ARRAYS,
    MAX_DEFLATE_RATIO,
    MIN_EXPANDED_BYTES,
    check_count,
    check_expansion,
    check_inflated,
)
from hseval.readers.header import Header
from hseval.readers.mask_arrays import build_container_header
from hseval.utils.arrays import Array
from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    import h5py

NAME = "HDF5"
SUFFIXES: tuple[str, ...] = (".h5", ".hdf5", ".he5")
SIGNATURE = b"\x89HDF\r\n\x1a\n"
_PIECE = 2**16
_GZIP, _SZIP, _LZF = 1, 4, 32000  # numbers of HDF5's filters
_COMPRESSION_FILTERS = (_GZIP, _SZIP, _LZF)


def read_header(path: Path) -> Header:
    """Return shapes and wavelengths."""
    with open_file(path) as file:
        datasets = _drop_aliases(find_datasets(file, location=str(path)))
        arrays = {name: (dataset.shape, dataset.dtype) for name, dataset in datasets.items()}
        header = build_container_header(path, arrays, lambda names: read_arrays(datasets, names, path))
        check_all_stored(datasets[header.array_name], location=f"{path}: {header.array_name}")
        return header


def read_pixels(path: Path, header: Header, index: int) -> Array:
    """Return one cube."""
    with open_file(path) as file:
        return read_item(file[header.array_name], index if len(header.shape) == 4 else None, location=str(path))


def read_masks(path: Path, header: Header, index: int) -> Mapping[str, Array]:
    """Return the masks of one cube."""
    position = index if len(header.shape) == 4 else None
    with open_file(path) as file:
        return {
            structure: read_item(file[name], position, location=f"{path}: {name}")
            for structure, name in header.masks.items()
        }


def read_arrays(datasets: Mapping[str, h5py.Dataset], names: Sequence[str], path: Path) -> Iterator[tuple[str, Array]]:
    """Yield datasets with their names, read as a whole."""
    for name in names:
        yield name, read_item(datasets[name], None, location=f"{path}: {name}")


def read_item(dataset: h5py.Dataset, index: int | None, *, location: str) -> Array:
    """Return item ``index`` of the first axis, or all of a dataset.

    Raises:
        HsevalError: its chunks expand to far more than they store, or than they declare.
    """
    if dataset.chunks is not None and (filters := _get_filters(dataset)):
        _check_chunks(dataset, index, filters, location)
    return np.asarray(dataset[() if index is None else index])


def _get_filters(dataset: h5py.Dataset) -> list[int]:
    plist = dataset.id.get_create_plist()
    return [plist.get_filter(position)[0] for position in range(plist.get_nfilters())]


def _check_chunks(dataset: h5py.Dataset, index: int | None, filters: list[int], location: str) -> None:
    """Check the chunks of an item: HDF5 allocates what one declares, and expands gzip to the end of its data."""
    if sum(code in _COMPRESSION_FILTERS for code in filters) > 1:
        raise HsevalError(f"{location}: compressed twice; expected one compression filter")
    chunk_bytes, stored = math.prod(dataset.chunks) * dataset.dtype.itemsize, 0
    limit = max(MIN_EXPANDED_BYTES, 2 * chunk_bytes)
    selection = (slice(None) if index is None else slice(index, index + 1), *[slice(None)] * (dataset.ndim - 1))
    for parts in dataset.iter_chunks(selection):
        start = tuple(part.start // length * length for part, length in zip(parts, dataset.chunks, strict=True))
        info = dataset.id.get_chunk_info_by_coord(start)
        check_expansion(info.size, chunk_bytes, location=f"{location}: a chunk")
        stored += info.size
        is_deflated = _GZIP in filters and not info.filter_mask >> filters.index(_GZIP) & 1
        if is_deflated and info.size * MAX_DEFLATE_RATIO > limit:
            data = dataset.id.read_direct_chunk(start)[1]
            pieces = (data[first : first + _PIECE] for first in range(0, len(data), _PIECE))
            check_inflated(pieces, limit, location=f"{location}: a chunk")
    count = dataset.size if index is None else dataset.size // dataset.shape[0]
    check_expansion(stored, count * dataset.dtype.itemsize, location=location)


def check_all_stored(dataset: h5py.Dataset, *, location: str) -> None:
    """Raise HsevalError if a part of the cubes was never written, which HDF5 would read as zeros.

    A program that was killed leaves such a file. A mask may lack chunks: some programs write those of structures only.
    """
    if dataset.chunks is None:
        stored, expected, unit = dataset.id.get_storage_size(), dataset.nbytes, "bytes"
    else:
        expected = math.prod(-(-length // chunk) for length, chunk in zip(dataset.shape, dataset.chunks, strict=True))
        stored, unit = dataset.id.get_num_chunks(), "chunks"
    if stored < expected:
        raise HsevalError(f"{location}: {stored} of {expected} {unit} are stored; the file was not written to its end")


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
    return {name: dataset for name, dataset in datasets.items() if dataset.shape is not None}


def _walk(file: h5py.File, location: str) -> tuple[dict[str, h5py.Dataset], list[str]]:
    """Return the datasets by their shortest path, and the names of soft links, which are not followed."""
    datasets: dict[str, h5py.Dataset] = {}
    soft_links: list[str] = []
    visited, link_count = {_get_address(file["/"])}, 0
    queue = deque([("", file["/"])])
    while queue:
        prefix, group = queue.popleft()
        link_count += len(group)
        check_count(link_count, MAX_ARRAYS, "datasets and groups", location=location)
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
