"""Preprocessing of cubes for extractors: cropped to the field of view, invalid pixels marked.

The black surround can't affect any score, because extractors never get it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hseval.core.cubes import FOV, Cube, CubeSet
from hseval.data.field_of_view import compute_bounding_box, find_valid_pixels
from hseval.utils.arrays import BoolArray, Float32Array, IntArray
from hseval.utils.errors import HsevalError

MIN_CONSENSUS_FRACTION = 0.5  # share of the reference's fields that contain a pixel of the consensus field


@dataclasses.dataclass(frozen=True)
class PreprocessedCube:
    """A cube cropped to its field of view: ``data`` float32 ``(band, y, x)``, NaN where invalid; bool masks ``(y, x)``.

    ``nonfinite_fraction`` is the share of the field's pixels that are not finite in every band.
    """

    data: Float32Array
    masks: Mapping[str, BoolArray]
    nonfinite_fraction: float = 0.0


def get_fov_mask(cube: Cube, fov: BoolArray | None = None) -> BoolArray:
    """Return bool ``(y, x)``: the field of view, regardless of pixel values; all True where there is none."""
    own = fov if fov is not None else cube.masks.get(FOV)
    shape = cube.data.shape[1:]
    return np.ones(shape, dtype=bool) if own is None else resample_mask(own, shape)


def preprocess_cube(
    cube: Cube, structures: Sequence[str], *, fov: BoolArray | None = None, box: Any = None
) -> PreprocessedCube | None:
    """Crop a cube to its valid pixels (or to ``box``) and set the invalid ones to NaN; None: it has no valid pixel.

    The result has masks of all ``structures`` (empty where the cube has none) and of ``fov``, valid pixels only.
    """
    field = get_fov_mask(cube, fov)
    valid = find_valid_pixels(cube.data, field)
    if not valid.any():
        return None
    box = box or compute_bounding_box(valid)
    inside = valid[box]
    data = np.where(inside, cube.data[:, *box], np.float32(np.nan)).astype(np.float32, copy=False)
    empty = np.zeros_like(valid)
    masks = {name: cube.masks.get(name, empty)[box] & inside for name in structures if name != FOV}
    nonfinite = 1.0 - valid.sum() / field.sum()
    return PreprocessedCube(data, {**masks, FOV: inside}, float(nonfinite))


def resample_mask(mask: BoolArray, shape: tuple[int, ...]) -> BoolArray:
    """Return a mask resampled to another shape (nearest pixel); unchanged where the shapes agree."""
    if mask.shape == shape:
        return mask
    rows, columns = ((np.arange(new) + 0.5) * old // new for new, old in zip(shape, mask.shape, strict=True))
    return mask[np.ix_(rows.astype(int), columns.astype(int))]


def compute_consensus_fov(cubes: CubeSet) -> BoolArray | None:
    """Return the pixels that at least half of a set's fields of view contain, or None where it has no ``fov``.

    Raises:
        HsevalError: the fields have different shapes.
    """
    total: IntArray | None = None
    count = 0
    for index in range(len(cubes)):
        field = cubes.read_masks(index).get(FOV)
        if field is None:
            continue
        if total is None:
            total = np.zeros(field.shape, dtype=np.int64)
        if field.shape != total.shape:
            raise HsevalError(
                f"{cubes.info.location}: fields of view of {total.shape} and {field.shape} pixels have no consensus; "
                "give every set its own 'fov' masks"
            )
        total += field
        count += 1
    return None if total is None else total >= MIN_CONSENSUS_FRACTION * count
