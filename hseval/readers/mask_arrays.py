"""Arrays the size of a cube's picture that stand beside it in a container: masks under their own names, or maps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.readers.header import Header, MaskCandidate

MAX_LISTED = 6  # arrays named in a note; the others are counted


def find_mask_candidates(
    arrays: Mapping[str, Sequence[int]], cube_shape: Sequence[int], is_mask: Callable[[str], bool]
) -> tuple[MaskCandidate, ...]:
    """Return the arrays that have the size of the cube's picture under either axis order.

    Args:
        arrays: shapes of the numeric arrays beside the cube; masks known by their prefix and wavelengths left out.
        cube_shape: shape of the cube (or, with four axes, of the cubes) as stored.
        is_mask: whether the values of an array of that name are those of a mask. Asked for single cubes only:
            the masks of many cubes are too much to be read at opening.
    """
    several, axes = tuple(cube_shape[:-3]), tuple(cube_shape[-3:])
    sizes = {(*several, *axes[1:]), (*several, *axes[:2])}
    fitting = {name: tuple(shape) for name, shape in arrays.items() if tuple(shape) in sizes}
    return tuple(MaskCandidate(name, shape, not several and is_mask(name)) for name, shape in fitting.items())


def is_binary(values: NDArray[Any]) -> bool:
    """Say whether an array holds nothing but 0 and 1 (or False and True)."""
    return values.dtype.kind == "b" or bool(np.logical_or(values == 0, values == 1).all())


def add_mask_arrays(header: Header, image_shape: Sequence[int]) -> Header:
    """Return a header with the masks under their own names added, and a note on the arrays that are none.

    Args:
        header: as the format read it.
        image_shape: ``(y, x)`` of the cube, which is known once its axis order is.
    """
    several = header.shape[:-3]
    fitting = [one for one in header.mask_candidates if one.shape == (*several, *image_shape)]
    named = {_get_structure_name(one.array_name, header.array_name): one.array_name for one in fitting if one.is_mask}
    twice = [array for name, array in named.items() if name in header.masks]
    others = [one.array_name for one in fitting if not one.is_mask]
    reason = "masks of several cubes are called masks/NAME or mask_NAME" if several else "a mask is bool or 0/1"
    notes = (
        *_format_unread_notes(others, reason),
        *_format_unread_notes(twice, "a mask of that name is in masks/ or mask_ already"),
    )
    return dataclasses.replace(header, masks={**named, **header.masks}, notes=(*header.notes, *notes))


def _get_structure_name(array_name: str, cube_name: str) -> str:
    """Return a structure's name: the array's path, from the cube's own group on where it is in there."""
    return array_name.removeprefix(cube_name[: cube_name.rfind("/") + 1])


def _format_unread_notes(arrays: Iterable[str], reason: str) -> list[str]:
    names = sorted(arrays)
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return [f"arrays {', '.join(names[:MAX_LISTED])}{more} not read ({reason})"] if names else []
