"""hseval's HDF5 format: ``cubes`` (n, band, y, x), ``wavelengths``, ``masks/<structure>``, ids, groups, labels."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hseval.core.cubes import Cube, CubeSet, IndexIds, SetInfo
from hseval.data.axis_order import Layout, check_layout
from hseval.data.format import CUBES_FORMAT, CUBES_VERSION, check_unique_ids
from hseval.data.limits import MAX_TEXT, check_count
from hseval.data.wavelengths import has_same_wavelengths, order_bands
from hseval.readers import hdf5_foreign as h5
from hseval.readers.fileset import FileSet
from hseval.readers.hdf5_foreign import check_all_stored, read_item
from hseval.readers.header import check_cube, format_group_notes, wrap_errors
from hseval.readers.mask_arrays import check_wavelengths
from hseval.utils.arrays import Array
from hseval.utils.errors import HsevalError
from hseval.utils.input_files import check_unchanged, identify_file
from hseval.utils.plural import format_count

if TYPE_CHECKING:
    import h5py


_TEXTS_A_BLOCK = 256


class Hdf5Reader:
    """Reads hseval's HDF5 format, and other HDF5 files in which one dataset is identifiable as the cubes."""

    name: ClassVar[str] = "hdf5"
    summary: ClassVar[str] = "HDF5: hseval's own format, or any file with one dataset of cubes"

    def claims(self, path: Path) -> bool:
        """Return whether a file has an HDF5 signature or suffix (except MATLAB's v7.3 files)."""
        suffix = path.suffix.lower()
        return path.is_file() and suffix != ".mat" and (suffix in h5.SUFFIXES or h5.has_signature(path))

    def open(self, path: Path, *, layout: str | None = None, wavelengths: Array | None = None) -> CubeSet:
        """Open a file from its headers.

        Raises:
            HsevalError: the file is truncated, refers to other files, or does not match the format.
        """
        with h5.open_file(path) as file:
            is_hseval = _decode_text(file.attrs.get("format", "")) == CUBES_FORMAT
        if is_hseval:
            return HsevalHdf5Set(path, layout=check_layout(layout), wavelengths=wavelengths)
        return FileSet(path, [path], h5.NAME, layout=layout, wavelengths=wavelengths)


class HsevalHdf5Set(CubeSet):
    """A file in hseval's HDF5 format. Each process opens it separately, at the first read."""

    def __init__(self, path: Path, *, layout: Layout | None = None, wavelengths: Array | None = None) -> None:
        self._path = path
        self._identity = identify_file(path)
        self._file: tuple[int, h5py.File] | None = None
        with wrap_errors(path, "can't be read"), h5.open_file(path) as file:
            datasets = h5.find_datasets(file, location=str(path))
            _check_format(file, datasets, path)
            self._shape: tuple[int, int, int, int] = datasets["cubes"].shape
            stored = _read_wavelengths(datasets["wavelengths"], path) if "wavelengths" in datasets else None
            bands = order_bands(stored if wavelengths is None else wavelengths, self._shape[1], location=str(path))
            self._order = bands.order
            groups = _read_strings(datasets["groups"], path) if "groups" in datasets else None
            notes = (
                *_format_notes(layout, stored, wavelengths),
                *bands.notes,
                *format_group_notes(groups or (), location="groups"),
            )
            self._masks = tuple(sorted(name.removeprefix("masks/") for name in datasets if name.startswith("masks/")))
            self.info = SetInfo(
                location=str(path),
                ids=_read_ids(datasets, path, self._shape[0]),
                wavelengths=bands.wavelengths,
                wavelengths_known=bands.wavelengths_known,
                structures=self._masks,
                groups=groups,
                labels={
                    name.removeprefix("labels/"): _read_values(datasets[name], path) for name in _find_labels(datasets)
                },
                units=_read_units(file, datasets, path),
                notes=notes,
                provenance=_read_provenance(file, path),
            )

    def read(self, index: int) -> Cube:
        """Return one cube with its masks."""
        with wrap_errors(self._path, f"cube {index} ({self.ids[index]}) can't be read, the file may be truncated"):
            stored = read_item(self._get_file()["cubes"], index, location=f"{self._path}: cubes")
            self._check_open_file()
        with np.errstate(over="ignore"):
            data = np.ascontiguousarray(stored if self._order is None else stored[self._order], dtype=np.float32)
        group = self.groups[index] if self.groups is not None else None
        return Cube(data, self.read_masks(index), self.ids[index], group)

    def read_masks(self, index: int) -> Mapping[str, Array]:
        """Return the masks of one cube, without reading its pixels."""
        with wrap_errors(self._path, f"masks of cube {index} can't be read, the file may be truncated"):
            file, location = self._get_file(), f"{self._path}: masks"
            masks = {name: read_item(file[f"masks/{name}"], index, location=location) > 0 for name in self._masks}
            self._check_open_file()
            return masks

    def shape(self, index: int) -> tuple[int, int, int]:
        """Return ``(band, y, x)``, the same for all cubes."""
        return self._shape[1:]

    def sources(self, index: int) -> tuple[Path, ...]:
        """Return the file; nothing once it was replaced, as an open set still reads the old one."""
        return (self._path,) if identify_file(self._path) == self._identity else ()

    def recipe(self, index: int) -> str:
        """Return index and band order."""
        order = "as stored" if self._order is None else ",".join(map(str, self._order))
        return f"{CUBES_FORMAT} cubes[{index}] bands {order}"

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the open file, for pickling."""
        return {**self.__dict__, "_file": None}

    def _get_file(self) -> h5py.File:
        # A forked child opens the file again: sharing a handle with the parent is unsafe.
        if self._file is None or self._file[0] != os.getpid():
            check_unchanged(self._path, self._identity, identify_file(self._path))
            self._file = (os.getpid(), h5.open_file(self._path))
        return self._file[1]

    def _check_open_file(self) -> None:
        # HDF5 reads zeros where an open file was cut off. One that was replaced is still the old one.
        check_unchanged(self._path, self._identity, identify_file(self._get_file().id.get_vfd_handle()))


def _check_format(file: h5py.File, datasets: Mapping[str, h5py.Dataset], path: Path) -> None:
    version = file.attrs.get("version", CUBES_VERSION)
    if not isinstance(version, (int, np.integer)) or version > CUBES_VERSION:
        raise HsevalError(f"{path}: version {version} of {CUBES_FORMAT}; this hseval reads version {CUBES_VERSION}")
    if "cubes" not in datasets:
        raise HsevalError(f"{path}: has no dataset 'cubes', though its format is {CUBES_FORMAT}")
    shape = datasets["cubes"].shape
    check_cube(shape, datasets["cubes"].dtype, location=f"{path}: cubes")
    if len(shape) != 4:
        raise HsevalError(f"{path}: cubes of shape {shape}; (n, band, y, x) expected")
    check_all_stored(datasets["cubes"], location=f"{path}: cubes")
    for name, dataset in datasets.items():
        if name.startswith("masks/"):
            _check_mask(dataset, name, shape, path)
        if (name in ("ids", "groups") or name.startswith("labels/")) and dataset.shape != (shape[0],):
            raise HsevalError(
                f"{path}: {name} of shape {dataset.shape}, but {format_count(shape[0], 'cube')}: expected one per cube"
            )


def _check_mask(dataset: h5py.Dataset, name: str, shape: tuple[int, ...], path: Path) -> None:
    expected = (shape[0], *shape[2:])
    if dataset.shape != expected:
        raise HsevalError(f"{path}: {name} of shape {dataset.shape}; {expected}, the cubes' (n, y, x), expected")
    if dataset.dtype.kind not in "biu":
        raise HsevalError(f"{path}: {name} of type {dataset.dtype}; uint8 or bool expected")


def _format_notes(layout: Layout | None, stored: Array | None, requested: Array | None) -> tuple[str, ...]:
    notes = []
    if layout == "yxb":
        notes.append(f"layout yxb not applied: {CUBES_FORMAT} states (n, band, y, x)")
    if requested is not None and stored is not None and not has_same_wavelengths(stored.ravel(), requested):
        notes.append("the given wavelengths replace those in the file")
    return tuple(notes)


def _read_wavelengths(dataset: h5py.Dataset, path: Path) -> Array:
    check_wavelengths(dataset.shape, dataset.dtype, location=f"{path}: wavelengths")
    return read_item(dataset, None, location=f"{path}: wavelengths")


def _read_ids(datasets: Mapping[str, h5py.Dataset], path: Path, count: int) -> Sequence[str]:
    if "ids" not in datasets:
        return IndexIds(count)
    ids = _read_strings(datasets["ids"], path)
    check_unique_ids(ids, location=f"{path}: ids")
    return ids


def _find_labels(datasets: Mapping[str, h5py.Dataset]) -> list[str]:
    return sorted(name for name in datasets if name.startswith("labels/"))


def _read_values(dataset: h5py.Dataset, path: Path) -> list[Any]:
    if dataset.dtype.kind in "OSU":
        return list(_read_strings(dataset, path))
    return list(read_item(dataset, None, location=f"{path}: {dataset.name}").tolist())


def _read_strings(dataset: h5py.Dataset, path: Path) -> tuple[str, ...]:
    """Return one text a cube, equal ones as one object.

    They are read in blocks, as all cubes may refer to one long text.
    """
    location = f"{path}: {dataset.name.lstrip('/')}"
    texts: dict[str, str] = {}
    check_all_stored(dataset, location=location)
    check_count(_find_text_bytes(dataset, path), 4 * MAX_TEXT, "bytes in a text", location=location)
    column = []
    for start in range(0, len(dataset), _TEXTS_A_BLOCK):
        for value in dataset[start : start + _TEXTS_A_BLOCK].tolist():
            text = _decode_text(value)
            check_count(len(text), MAX_TEXT, "characters in a text", location=location)
            column.append(texts.setdefault(text, text))
    return tuple(column)


def _find_text_bytes(dataset: h5py.Dataset, path: Path) -> int:
    """Return the length of the longest text as far as it is known without reading one: HDF5 allocates what it is."""
    if dataset.dtype.kind != "O":
        return int(dataset.dtype.itemsize)
    if dataset.chunks is None and dataset.id.get_offset() is not None:
        raw = np.fromfile(path, np.uint8, dataset.id.get_storage_size(), offset=dataset.id.get_offset()).tobytes()
    elif dataset.chunks is not None and dataset.id.get_create_plist().get_nfilters() == 0:
        starts = (tuple(part.start for part in parts) for parts in dataset.iter_chunks())
        raw = b"".join(dataset.id.read_direct_chunk(start)[1] for start in starts)
    else:
        return 0
    # An element is a length, and the place of the text in one of the file's heaps: an address and an index.
    address_size = dataset.file.id.get_create_plist().get_sizes()[0]
    element = np.dtype([("length", "<u4"), ("address", "V", address_size), ("index", "<u4")])
    return int(np.frombuffer(raw, element)["length"].max(initial=0))


def _decode_text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _read_units(file: h5py.File, datasets: Mapping[str, h5py.Dataset], path: Path) -> str | None:
    if "units" not in datasets:
        stored = file.attrs.get("units")
        return None if stored is None else _decode_text(stored)
    dataset = datasets["units"]
    if dataset.size != 1:
        raise HsevalError(f"{path}: units of shape {dataset.shape}; one text expected")
    check_count(_find_text_bytes(dataset, path), 4 * MAX_TEXT, "bytes in a text", location=f"{path}: units")
    return _decode_text(dataset[()])


def _read_provenance(file: h5py.File, path: Path) -> dict[str, Any]:
    try:
        provenance = json.loads(_decode_text(file.attrs.get("provenance", "{}")))
    except ValueError as error:
        raise HsevalError(f"{path}: its attribute 'provenance' is not JSON: {error}") from error
    return provenance if isinstance(provenance, dict) else {"provenance": provenance}
