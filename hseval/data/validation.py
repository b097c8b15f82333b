"""Checks of cubes before they are written, and of sets before a network learns them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hseval.core.cubes import CubeSet
from hseval.utils.arrays import Array
from hseval.utils.errors import HsevalError
from hseval.utils.plural import format_count


def check_sample(
    cube: Array, masks: Mapping[str, Array], structures: Sequence[str], wavelengths: Array | None, *, location: str
) -> None:
    """Raise HsevalError unless a cube and its masks fit a set of these structures and wavelengths."""
    if cube.ndim != 3 or cube.dtype != np.float32 or 0 in cube.shape:
        raise HsevalError(f"{location}: shape {cube.shape} of {cube.dtype}; float32 (band, y, x) expected")
    if wavelengths is not None and len(wavelengths) != cube.shape[0]:
        bands = format_count(cube.shape[0], "band")
        raise HsevalError(f"{location}: {bands}, but {format_count(len(wavelengths), 'wavelength')}")
    if set(masks) != set(structures):
        raise HsevalError(f"{location}: masks {sorted(masks)}; {sorted(structures)} expected")
    for name, mask in masks.items():
        # In HDF5 a slash makes a group, which can't be a mask as well.
        is_storable = "\0" not in name and not {"", ".", ".."} & set(name.split("/"))
        if not is_storable or any(other.startswith(f"{name}/") for other in masks):
            raise HsevalError(f"{location}: a mask called {name!r}; a name that fits into HDF5 expected")
        if mask.shape != cube.shape[1:]:
            raise HsevalError(f"{location}: mask {name!r} of shape {mask.shape}, but the cube has {cube.shape[1:]}")
        if mask.dtype.kind not in "biu":
            raise HsevalError(f"{location}: mask {name!r} of type {mask.dtype}; bool or uint8 expected")


def get_common_shape(data: CubeSet) -> tuple[int, int, int]:
    """Return ``(band, y, x)`` of a set's cubes.

    Raises:
        HsevalError: there is no cube, or they have several shapes.
    """
    if not len(data):
        raise HsevalError(f"{data.info.location}: holds no cubes; nothing to learn")
    shape = data.shape(0)
    for index, name in enumerate(data.ids):
        if data.shape(index) != shape:
            mismatch = f"cube {name!r} has shape {data.shape(index)}, cube {data.ids[0]!r} has {shape}"
            raise HsevalError(f"{data.info.location}: {mismatch}; a network needs cubes of one shape")
    return shape
