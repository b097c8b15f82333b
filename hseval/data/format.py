"""Constants of hseval's HDF5 format, and writers of its columns, for reader and writer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    import h5py

CUBES_FORMAT = "hseval-cubes"
CUBES_VERSION = 1


def check_unique_ids(ids: Iterable[str], *, location: str) -> None:
    """Raise HsevalError if an id occurs twice."""
    known: set[str] = set()
    for name in ids:
        if name in known:
            raise HsevalError(f"{location}: {name!r} occurs more than once; unique ids expected")
        known.add(name)


def write_strings(file: h5py.File, name: str, values: str | Sequence[str]) -> None:
    """Write a string, or one string a cube, as UTF-8."""
    import h5py

    file.create_dataset(name, data=values, dtype=h5py.string_dtype())


def write_column(file: h5py.File, name: str, values: Sequence[Any]) -> None:
    """Write one value a cube: as numbers where all are numbers, else as strings."""
    if all(isinstance(value, (bool, int, float, np.number, np.bool_)) for value in values):
        file[name] = np.asarray(values)
    else:
        write_strings(file, name, [str(value) for value in values])
