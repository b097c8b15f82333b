"""Containers of named arrays: which is the cube, and which arrays of its spatial size are masks."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hseval.readers.header import WAVELENGTH_NAMES, Header, MaskCandidate, check_cube, find_mask_names, pick_array

MAX_LISTED = 6  # arrays named in a note; the rest is counted


def build_container_header(
    path: Path,
    arrays: Mapping[str, tuple[Sequence[int], np.dtype[Any]]],
    load: Callable[[str], Any],
    *,
    structs: Mapping[str, str] | None = None,
) -> Header:
    """Return the header of a container of named arrays: which are the cube, its wavelengths, and its masks.

    Args:
        path: of the container.
        arrays: shape and type by name.
        load: returns an array by name.
        structs: further masks: structure -> name.

    Raises:
        HsevalError: no array, or several, can be the cube.
    """
    masks = {**find_mask_names(arrays), **(structs or {})}
    wavelengths_name = next((name for name in WAVELENGTH_NAMES if name in arrays), None)
    others = {name: array for name, array in arrays.items() if name not in (wavelengths_name, *masks.values())}
    cube = pick_array({name: tuple(shape) for name, (shape, _) in others.items()}, location=str(path))
    cube_shape = tuple(arrays[cube][0])
    check_cube(*arrays[cube], location=f"{path}: {cube}")
    wavelengths = None
    if wavelengths_name is not None:
        wavelengths = np.asarray(load(wavelengths_name), dtype=np.float64).ravel()
    count, axes = cube_shape[:-3], cube_shape[-3:]
    sizes = {(*count, *axes[1:]), (*count, *axes[:2])}  # under either axis order
    candidates = tuple(
        # The masks of many cubes are too large to be read at opening.
        MaskCandidate(name, tuple(shape), not count and _is_mask(dtype, functools.partial(load, name)))
        for name, (shape, dtype) in others.items()
        if tuple(shape) in sizes and dtype.kind in "fiub"
    )
    return Header((path,), cube_shape, cube, wavelengths=wavelengths, masks=masks, mask_candidates=candidates)


def _is_mask(dtype: np.dtype[Any], load: Callable[[], Any]) -> bool:
    """Return whether an array is of type bool, or of integers that are all 0 or 1."""
    if dtype.kind in "ui":
        values = np.asarray(load())
        return bool(np.logical_or(values == 0, values == 1).all())
    return dtype.kind == "b"


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
