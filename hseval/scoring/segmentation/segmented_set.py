"""A set whose masks come from a segmenter, and the packed form in which such masks are stored."""

from __future__ import annotations

import dataclasses
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.core.cubes import FOV, Cube, CubeSet, DerivedSet
from hseval.data.field_of_view import compute_bounding_box, find_valid_pixels
from hseval.data.preprocessing import get_fov_mask, preprocess_cube
from hseval.utils.errors import HsevalError

Bools = NDArray[np.bool_]


def pack_masks(masks: Bools) -> NDArray[np.uint8]:
    """Return masks ``(structure, y, x)`` as a few bytes: bits, compressed (zlib)."""
    return np.frombuffer(zlib.compress(np.packbits(masks).tobytes(), 6), dtype=np.uint8)


def unpack_masks(packed_masks: NDArray[np.uint8], shape: tuple[int, int, int]) -> Bools:
    """Return the masks that :func:`pack_masks` packed.

    Raises:
        ValueError: the bytes are damaged, or belong to masks of another shape.
    """
    try:
        bits = np.frombuffer(zlib.decompress(packed_masks.tobytes()), dtype=np.uint8)
    except zlib.error as error:
        raise ValueError(f"masks can't be unpacked ({error})") from error
    count = int(np.prod(shape))
    if len(bits) != -(-count // 8):
        raise ValueError(f"{len(bits)} bytes of masks, but shape {shape} has {count} pixels")
    return np.unpackbits(bits, count=count).reshape(shape).astype(bool)


class SegmentedSet(DerivedSet):
    """A set with the masks that a segmenter found in it; ``fov`` stays the set's own.

    Args:
        base: the set.
        structures: the names of the segmenter's structures, sorted.
        visible_structures: those of them that the set has.
        packed_masks: index in ``base`` -> packed masks ``(structure, y, x)`` of the box around the cube's valid pixels;
            missing cubes (they have no valid pixel) have empty masks.
        field: the field that replaces the cubes' own (bool ``(y, x)``), or None.
    """

    def __init__(
        self,
        base: CubeSet,
        *,
        structures: Sequence[str],
        visible_structures: Sequence[str],
        packed_masks: Mapping[int, NDArray[np.uint8]],
        field: Bools | None,
    ) -> None:
        self.base, self.field = base, field
        self.structure_names, self.visible_structures = tuple(structures), visible_structures
        self.packed_masks = dict(packed_masks)
        own = {FOV} & set(base.structures)
        self.info = dataclasses.replace(base.info, structures=tuple(sorted({*visible_structures, *own})))

    def read(self, index: int) -> Cube:
        """Read a cube of the base, with the masks that were found in it."""
        cube = self.base.read(index)
        masks = {FOV: cube.masks[FOV]} if FOV in cube.masks else {}
        frame = np.zeros((len(self.structure_names), *cube.data.shape[1:]), dtype=bool)
        if index in self.packed_masks:
            box = compute_bounding_box(find_valid_pixels(cube.data, get_fov_mask(cube, self.field)))
            inside = frame[:, *box]
            structures, height, width = inside.shape
            try:
                inside[:] = unpack_masks(self.packed_masks[index], (structures, height, width))
            except ValueError as error:
                name = f"{self.info.location}: cube {self.ids[index]}"
                raise HsevalError(f"{name} has changed since it was segmented: {error}") from error
        found = dict(zip(self.structure_names, frame, strict=True))
        return dataclasses.replace(cube, masks=masks | {name: found[name] for name in self.visible_structures})

    def recipe(self, index: int) -> str:
        """Return the base's recipe and the masks' hash, so that the cache distinguishes the masks of different fits."""
        packed = self.packed_masks[index].tobytes() if index in self.packed_masks else b""
        digest = hashlib.sha256(packed).hexdigest()
        return f"{self.base.recipe(index)} | masks {','.join(self.visible_structures)} {digest}"


class PreparedSet(CubeSet):
    """Cubes as extractors and segmenters get them: cropped to the field, NaN where invalid, masks limited to it."""

    def __init__(self, base: CubeSet, structures: Sequence[str], field: Bools | None) -> None:
        self.base, self.field = base, field
        self.info = dataclasses.replace(base.info, structures=tuple(sorted({FOV, *structures})))

    def read(self, index: int) -> Cube:
        """Read and preprocess a cube."""
        cube = self.base.read(index)
        visible = preprocess_cube(cube, self.structures, fov=self.field)
        if visible is None:
            raise HsevalError(f"{self.info.location}: cube {self.ids[index]} has no valid pixel")
        return Cube(visible.data, dict(visible.masks), cube.id, cube.group)

    def shape(self, index: int) -> tuple[int, int, int]:
        """Return ``(band, y, x)`` of one cube after cropping, which takes reading it."""
        bands, height, width = self.read(index).data.shape
        return bands, height, width


def count_agreement(predicted: Bools, own: Bools) -> NDArray[np.int64]:
    """Return ``(structure, 3)`` for masks ``(structure, y, x)``: pixels in both, in ``predicted``, and in ``own``."""
    both, *sizes = (mask.sum(axis=(1, 2), dtype=np.int64) for mask in (predicted & own, predicted, own))
    return np.stack([both, *sizes], axis=1)


def dice(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return 2 |A and B| / (|A| + |B|) (Dice 1945) from counts ``(..., 3)``; NaN where both are empty."""
    both, first, second = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    total = first + second
    return np.asarray(np.divide(2 * both, total, out=np.full_like(total, np.nan), where=total > 0))
