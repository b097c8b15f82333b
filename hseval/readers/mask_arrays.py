"""Arrays in a container that have the spatial size of its cube: masks under their own names, or maps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.readers.header import Header, MaskCandidate

MAX_LISTED = 6  # arrays named in a note; the rest is counted


def find_mask_candidates(
    arrays: Mapping[str, Sequence[int]], cube_shape: Sequence[int], is_mask: Callable[[str], bool]
) -> tuple[MaskCandidate, ...]:
    """Return the arrays that have the cube's spatial size under either axis order.

    Args:
        arrays: shapes of the container's numeric arrays, without wavelengths and prefixed masks.
        cube_shape: shape of the cube (or, with four axes, of the cubes) as stored.
        is_mask: returns whether the values of the array of that name are those of a mask. Called for single cubes
            only: the masks of many cubes are too large to be read at opening.
    """
    count, axes = tuple(cube_shape[:-3]), tuple(cube_shape[-3:])
    sizes = {(*count, *axes[1:]), (*count, *axes[:2])}
    matching = {name: tuple(shape) for name, shape in arrays.items() if tuple(shape) in sizes}
    return tuple(MaskCandidate(name, shape, not count and is_mask(name)) for name, shape in matching.items())


def is_binary(values: NDArray[Any]) -> bool:
    """Return whether an array holds only 0 and 1 (or False and True)."""
    return values.dtype.kind == "b" or bool(np.logical_or(values == 0, values == 1).all())


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
