"""NumPy archives: ``.npz`` with the cube, and optionally ``wavelengths`` and masks."""

from __future__ import annotations

import functools
import math
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from hseval.data.limits import MAX_ARRAYS, check_count, check_expansion
from hseval.readers.header import Header
from hseval.readers.mask_arrays import build_container_header
from hseval.readers.npy import read_array_header
from hseval.utils.arrays import Array
from hseval.utils.errors import HsevalError

NAME = "npz"
SUFFIXES: tuple[str, ...] = (".npz",)


def read_header(path: Path) -> Header:
    """Return the members' headers, and the wavelengths."""
    return build_container_header(path, _read_member_headers(path), lambda names: _load(path, names))


def read_pixels(path: Path, header: Header, index: int) -> Array:
    """Return one cube; a member of an archive can only be read as a whole."""
    return next(iter(_read_arrays(path, header, [header.array_name], index)))


def read_masks(path: Path, header: Header, index: int) -> Mapping[str, Array]:
    """Return the masks of one cube."""
    return dict(zip(header.masks, _read_arrays(path, header, list(header.masks.values()), index), strict=True))


def _read_arrays(path: Path, header: Header, names: Sequence[str], index: int) -> Iterable[Array]:
    if len(header.shape) == 3:
        return (values for _, values in _load(path, names))
    stat = path.stat()
    stacks = _load_stacks(path, tuple(names), (stat.st_size, stat.st_mtime_ns, stat.st_ino))
    return (stack[index] for stack in stacks)


def _read_member_headers(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    if not zipfile.is_zipfile(path):
        raise HsevalError(f"{path}: truncated, or not an archive of numpy.savez")
    headers = {}
    with zipfile.ZipFile(path) as archive:
        check_count(len(archive.namelist()), MAX_ARRAYS, "members", location=str(path))
        for info in archive.infolist():
            if info.filename.endswith(".npy"):
                location = f"{path}: {info.filename}"
                with archive.open(info) as member:
                    shape, dtype = read_array_header(cast(Any, member), location=location)
                    declared = member.tell() + math.prod(shape) * dtype.itemsize
                check_expansion(info.compress_size, info.file_size, location=location)
                if not dtype.hasobject and declared > info.file_size:
                    sizes = f"shape {shape} of {dtype} takes {declared} bytes, the member has {info.file_size}"
                    raise HsevalError(f"{location}: truncated: {sizes}")
                headers[info.filename.removesuffix(".npy")] = shape, dtype
    return headers


def _load(path: Path, names: Sequence[str]) -> Iterator[tuple[str, Array]]:
    """Yield arrays of an archive, which is opened once."""
    with zipfile.ZipFile(path) as archive:
        for name in names:
            with archive.open(f"{name}.npy") as member:
                yield name, np.lib.format.read_array(cast(Any, member), allow_pickle=False)


@functools.lru_cache(maxsize=2)  # cubes and masks: every cube would expand all others again
def _load_stacks(path: Path, names: tuple[str, ...], stamp: tuple[int, ...]) -> list[Array]:
    return [values for _, values in _load(path, names)]
