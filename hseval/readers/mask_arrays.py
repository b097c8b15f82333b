"""Containers of named arrays: which is the cube, and which arrays of its spatial size are masks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hseval.data.limits import MAX_ARRAYS, MAX_BANDS, check_count, check_expansion
from hseval.readers.header import (
    WAVELENGTH_NAMES,
    Header,
    MaskCandidate,
    check_cube,
    check_real,
    find_mask_names,
    pick_array,
)
from hseval.utils.arrays import Array

MAX_LISTED = 6  # arrays named in a note; the rest is counted


def build_container_header(
    path: Path,
    arrays: Mapping[str, tuple[Sequence[int], np.dtype[Any]]],
    load: Callable[[Sequence[str]], Iterable[tuple[str, Array]]],
    *,
    structs: Mapping[str, str] | None = None,
) -> Header:
    """Return the header of a container of named arrays: which are the cube, its wavelengths, and its masks.

    Args:
        path: of the container.
        arrays: shape and type by name.
        load: yields arrays with their names; it opens the container once.
        structs: further masks: structure -> name.

    Raises:
        HsevalError: no array, or several, can be the cube; masks or wavelengths are no numbers.
    """
    check_count(len(arrays), MAX_ARRAYS, "arrays", location=str(path))
    masks = {**find_mask_names(arrays), **(structs or {})}
    for array_name in masks.values():
        if array_name in arrays:
            check_real(arrays[array_name][1], location=f"{path}: {array_name}")
    wavelengths_name = next((name for name in WAVELENGTH_NAMES if name in arrays), None)
    known = {wavelengths_name, *masks.values()}
    others = {name: array for name, array in arrays.items() if name not in known}
    numeric = {name: tuple(shape) for name, (shape, dtype) in others.items() if dtype.kind in "fiub"}
    cube = pick_array(numeric or {name: tuple(shape) for name, (shape, _) in others.items()}, location=str(path))
    cube_shape = tuple(arrays[cube][0])
    check_cube(*arrays[cube], location=f"{path}: {cube}")
    wavelengths = None
    if wavelengths_name is not None:
        check_wavelengths(*arrays[wavelengths_name], location=f"{path}: {wavelengths_name}")
        [(_, stored)] = load([wavelengths_name])
        wavelengths = np.asarray(stored, dtype=np.float64).ravel()
    count, axes = cube_shape[:-3], cube_shape[-3:]
    sizes = {(*count, *axes[1:]), (*count, *axes[:2])}  # under either axis order
    similar = {name: arrays[name] for name, shape in numeric.items() if shape in sizes}
    is_mask = {name: dtype.kind == "b" and not count for name, (_, dtype) in similar.items()}
    declared = [arrays[name] for name in {*masks.values(), *similar} if name in arrays]
    mask_bytes = sum(math.prod(shape) * dtype.itemsize for shape, dtype in declared)
    check_expansion(path.stat().st_size, mask_bytes, location=f"{path}: its masks")
    integers = [name for name, (_, dtype) in similar.items() if dtype.kind in "ui"]
    if integers and not count:  # the masks of many cubes are too large to be read at opening
        for name, values in load(integers):
            is_mask[name] = bool(np.logical_or(values == 0, values == 1).all())
    candidates = tuple(MaskCandidate(name, numeric[name], is_mask[name]) for name in similar)
    return Header((path,), cube_shape, cube, wavelengths=wavelengths, masks=masks, mask_candidates=candidates)


def check_wavelengths(shape: Sequence[int], dtype: np.dtype[Any], *, location: str) -> None:
    """Raise HsevalError unless an array of that shape and type can be a list of band centers."""
    check_real(dtype, location=location)
    check_count(math.prod(shape), MAX_BANDS, "wavelengths", location=location)


def add_mask_arrays(header: Header, image_shape: Sequence[int]) -> Header:
    """Return a header with the masks under their own names added, and a note on the arrays that are not masks.

    Args:
        header: header as the format read it.
        image_shape: ``(y, x)`` of the cube.
    """
    count = header.shape[:-3]
    candidates = [array for array in header.mask_candidates if array.shape == (*count, *image_shape)]
    masks = {
        _get_structure_name(array.array_name, header.array_name): array.array_name
        for array in candidates
        if array.is_mask
    }
    duplicates = [array_name for name, array_name in masks.items() if name in header.masks]
    others = [array.array_name for array in candidates if not array.is_mask]
    reason = "masks of several cubes are called masks/NAME or mask_NAME" if count else "a mask is bool or 0/1"
    notes = (
        *_format_unread_notes(others, reason),
        *_format_unread_notes(duplicates, "a mask of that name is already in masks/ or mask_"),
    )
    return dataclasses.replace(header, masks={**masks, **header.masks}, notes=(*header.notes, *notes))


def _get_structure_name(array_name: str, cube_name: str) -> str:
    """Return a structure's name: the array's path, relative to the cube's group where it is inside."""
    return array_name.removeprefix(cube_name[: cube_name.rfind("/") + 1])


def _format_unread_notes(arrays: Iterable[str], reason: str) -> list[str]:
    names = sorted(arrays)
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return (
        [f"{'array' if len(names) == 1 else 'arrays'} {', '.join(names[:MAX_LISTED])}{more} not read ({reason})"]
        if names
        else []
    )
