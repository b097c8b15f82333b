"""MATLAB files: v5 by scipy, v7.3 (which is HDF5) by h5py.

Axes are in MATLAB's order: ``(y, x, band)`` in MATLAB is ``(y, x, band)`` here, in both versions.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hseval.data.limits import MAX_ARRAYS, check_count, check_expansion, check_inflated
from hseval.readers import hdf5_foreign as h5
from hseval.readers.header import Header, check_real
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
# Numbers in MATLAB are doubles by default. As integers, their values decide whether they are a mask.
_NUMBERS, _TEXT, _OTHER = np.dtype(np.uint8), np.dtype("U1"), np.dtype(object)
_MATRIX, _COMPRESSED = 14, 15  # types of v5's elements
_STRUCT, _NUMBER_CLASSES, _IS_COMPLEX = 2, range(6, 16), 0x800  # flags of a matrix
_NUMBER_TYPES = (1, 2, 3, 4, 5, 6, 7, 9, 12, 13)  # types of elements with numbers
_PIECE = 2**16

Element = tuple[int, int, int]  # type, first byte, length


def read_header(path: Path) -> Header:
    """Return the cube's name and shape, masks and wavelengths."""
    is_hdf5 = _is_hdf5(path)
    arrays, structs = _read_variables_v73(path) if is_hdf5 else _read_variables_v5(path)
    # v5 only: in HDF5 the fields are datasets.
    structures = {name: f"masks.{name}" for name in _load_struct(path, "masks")} if "masks" in structs else {}
    header = build_container_header(path, arrays, lambda names: _load(path, names), structs=structures)
    if len(header.shape) == 4:
        axes = f"{header.array_name} has four axes {header.shape}"
        raise HsevalError(f"{path}: {axes}; expected three: a .mat file is read as one cube")
    if is_hdf5:
        with h5.open_file(path) as file:
            h5.check_all_stored(file[header.array_name], location=f"{path}: {header.array_name}")
    return header


def read_pixels(path: Path, header: Header, index: int) -> Array:
    """Return the cube."""
    return np.asarray(next(_load(path, [header.array_name]))[1])


def read_masks(path: Path, header: Header, index: int) -> Mapping[str, Array]:
    """Return the masks: variables, or fields of the struct ``masks``."""
    fields = {structure: name for structure, name in header.masks.items() if name == f"masks.{structure}"}
    variables = {name: structure for structure, name in header.masks.items() if structure not in fields}
    masks = {variables[name]: values for name, values in _load(path, list(variables))} if variables else {}
    struct_fields = _load_struct(path, "masks") if fields else {}
    return masks | {structure: struct_fields[structure] for structure in fields}


def _is_hdf5(path: Path) -> bool:
    # A v7.3 file starts with 512 bytes of MATLAB's own: h5py looks for the signature at all allowed offsets.
    import h5py

    return bool(h5py.is_hdf5(path))


def _read_variables_v5(path: Path) -> tuple[dict[str, tuple[tuple[int, ...], np.dtype[Any]]], set[str]]:
    _read_elements(path)
    variables = _list_variables(path)
    structs = {name for name, _, kind in variables if kind == "struct"}
    types = {"char": _TEXT, **dict.fromkeys(_NUMERIC_CLASSES, _NUMBERS)}
    arrays = {name: (tuple(shape), types.get(kind, _OTHER)) for name, shape, kind in variables if name not in structs}
    return arrays, structs


def _list_variables(path: Path) -> Sequence[tuple[str, tuple[int, ...], str]]:
    from scipy.io import whosmat

    try:
        variables = whosmat(path)
    except NotImplementedError as error:  # raised for a v7.3 header, which HDF5 should follow
        raise HsevalError(f"{path}: truncated: a MATLAB v7.3 file without its HDF5 part") from error
    except Exception as error:  # scipy raises many types on damaged files
        raise HsevalError(f"{path}: not a MATLAB file (neither v5 nor v7.3), or its beginning is damaged") from error
    if len({name for name, _, _ in variables}) < len(variables):
        raise HsevalError(f"{path}: holds several variables of one name; expected one of each")
    return variables


def _read_elements(path: Path) -> list[Element]:
    """Return the elements of a v5 file, one a variable; none for another version.

    Raises:
        HsevalError: the file ends before one of them does, which whosmat does not notice.
    """
    elements: list[Element] = []
    with path.open("rb") as handle:
        order = _get_byte_order(handle.read(128))
        length = path.stat().st_size
        while order and (tag := handle.read(8)):
            kind, size = struct.unpack(f"{order}II", tag) if len(tag) == 8 else (0, length)
            elements.append((kind, handle.tell(), size))
            check_count(len(elements), MAX_ARRAYS, "variables", location=str(path))
            if handle.seek(size, 1) > length:
                raise HsevalError(
                    f"{path}: truncated: its variables end at byte {handle.tell()}, the file has {length}"
                )
    return elements


def _get_byte_order(header: bytes) -> str:
    return {b"IM": "<", b"MI": ">"}.get(header[126:], "")


def _read_variables_v73(path: Path) -> tuple[dict[str, tuple[tuple[int, ...], np.dtype[Any]]], set[str]]:
    with h5.open_file(path) as file:
        datasets = h5.find_datasets(file, location=str(path))
        return {
            name: (dataset.shape[::-1], _find_type_v73(dataset))
            for name, dataset in datasets.items()
            if name.startswith("masks/") or "/" not in name
        }, set()


def _find_type_v73(dataset: Any) -> np.dtype[Any]:
    if dataset.attrs.get("MATLAB_class") == b"char":  # stored as integers
        return _TEXT
    return _NUMBERS if dataset.dtype.kind in "fiub" else dataset.dtype


def _load(path: Path, names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield variables with their names; the file is opened once."""
    if not names:
        return
    if _is_hdf5(path):
        with h5.open_file(path) as file:
            for name in names:
                yield name, h5.read_item(file[name], None, location=f"{path}: {name}").T
        return
    from scipy.io import loadmat

    _check_variables_v5(path, set(names))
    loaded = loadmat(path, variable_names=list(names))
    for name in names:
        yield name, loaded.pop(name)


def _load_struct(path: Path, name: str) -> dict[str, Array]:
    """Return the fields of a struct of a v5 file.

    Raises:
        HsevalError: it is an array of structs, or a field holds something else than numbers.
    """
    stored = next(_load(path, [name]))[1]
    if stored.size != 1:
        raise HsevalError(f"{path}: {name} is an array of {stored.size} structs; expected one")
    fields = {str(field): np.asarray(stored[field].item()) for field in stored.dtype.names or ()}
    for field, values in fields.items():
        check_real(values.dtype, location=f"{path}: {name}.{field}")
    return fields


def _check_variables_v5(path: Path, names: set[str]) -> None:
    """Check variables before scipy expands them, and follows structs in structs until the process ends."""
    variables = zip(_list_variables(path), _read_elements(path), strict=False)
    with path.open("rb") as handle:
        order = _get_byte_order(handle.read(128))
        for (name, _, kind), (element_type, start, size) in variables:
            if name not in names:
                continue
            handle.seek(start)
            location = f"{path}: {name}"
            data = handle.read(size if kind == "struct" or element_type == _COMPRESSED else min(size, _PIECE))
            if element_type == _COMPRESSED:
                declared = 8 + struct.unpack(f"{order}II", zlib.decompressobj().decompress(data, 8))[1]
                check_expansion(size, declared, location=location)
                check_inflated((data[i : i + _PIECE] for i in range(0, size, _PIECE)), declared, location=location)
                data = zlib.decompressobj().decompress(data, 0 if kind == "struct" else _PIECE)[8:]
            _check_matrix(data, 0, order, location, is_field=False)


def _check_matrix(data: bytes, start: int, order: str, location: str, *, is_field: bool) -> None:
    """Check a matrix of numbers, or a struct of them.

    scipy follows structs in structs, and takes the type of values from the file: both end the process in a bad file.
    """
    flags = struct.unpack_from(f"{order}I", data, start + 8)[0]
    position = start + 16
    for _ in ("shape", "name"):
        position = _read_tag(data, position, order)[2]
    if flags & 0xFF in _NUMBER_CLASSES:
        kind = _read_tag(data, position, order)[0]
        if kind not in _NUMBER_TYPES or flags & _IS_COMPLEX:
            found = "complex values" if flags & _IS_COMPLEX else f"values of the unknown type {kind}"
            raise HsevalError(f"{location}: {found}; real numbers expected")
        return
    if is_field or flags & 0xFF != _STRUCT:
        raise HsevalError(f"{location}: holds text, a cell, a struct or an object; real numbers expected")
    for _ in ("length of names", "names"):
        position = _read_tag(data, position, order)[2]
    while position < len(data):
        kind, size, end = _read_tag(data, position, order)
        if kind == _MATRIX and size:
            _check_matrix(data, position + 8, order, location, is_field=True)
        position = end


def _read_tag(data: bytes, position: int, order: str) -> tuple[int, int, int]:
    """Return type and length of an element, and where the next one begins."""
    kind, size = struct.unpack_from(f"{order}II", data, position)
    if kind >> 16:  # a small element: its length is the type's upper half, its data are in the place of the length
        return kind & 0xFFFF, kind >> 16, position + 8
    return kind, size, position + 8 + size + (0 if kind == _MATRIX else -size % 8)
