"""NumPy files: ``.npy``, memory-mapped."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hseval.readers.header import Header, check_cube, check_length
from hseval.utils.arrays import Array
from hseval.utils.errors import HsevalError

NAME = "npy"
SUFFIXES: tuple[str, ...] = (".npy",)


def read_header(path: Path) -> Header:
    """Return the shape, after checking the file's length against shape and type."""
    with path.open("rb") as handle:
        shape, dtype = read_array_header(handle, location=str(path))
        start = handle.tell()
    check_cube(shape, dtype, location=str(path))
    check_length(path, start + math.prod(shape) * dtype.itemsize)
    return Header((path,), shape)


def read_pixels(path: Path, header: Header, index: int) -> Array:
    """Return a view into the memory map: only what is copied is read."""
    stored: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    return stored[index] if stored.ndim == 4 else stored


def read_array_header(handle: BinaryIO, *, location: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read the header of an array in NumPy's format, up to the first value.

    Raises:
        HsevalError: it is in another format (such as a bare pickle).
    """
    try:
        version = np.lib.format.read_magic(handle)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(handle)
    except ValueError as error:
        raise HsevalError(
            f"{location}: not a NumPy array (pickles are never loaded); save it with numpy.save"
        ) from error
    return shape, dtype
