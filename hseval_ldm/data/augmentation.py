"""Flips and crops of batches, drawn for the global batch from (seed, step); each rank takes its slice of the draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hseval.plugin import create_rng
from hseval_ldm.data.normalization import Batch

Flip = Literal["none", "horizontal", "both"]
IntegerArray = NDArray[np.integer[Any]]

MIN_FIELD_SHARE = 0.5  # share of a crop inside the field from which a candidate is accepted
FLIP_AXES: dict[Flip, tuple[tuple[int, ...], ...]] = {
    "none": ((),),
    "horizontal": ((), (-1,)),
    "both": ((), (-1,), (-2,), (-2, -1)),
}


def draw_flips(flip: Flip, *, seed: int, step: int, count: int) -> IntegerArray:
    """Draw the number of one of ``FLIP_AXES[flip]`` for each cube of the global batch, ``(count,)``."""
    return create_rng(seed, "flip", step).integers(len(FLIP_AXES[flip]), size=count)


def apply_flips(batch: Batch, flip: Flip, choices: IntegerArray) -> Batch:
    """Return the batch with cube i flipped along the axes ``FLIP_AXES[flip][choices[i]]``."""
    return _map_images(batch, lambda index, image: image.flip(FLIP_AXES[flip][choices[index]]))


def draw_crop_candidates(
    cube_size: tuple[int, int], size: int, *, seed: int, step: int, count: int, tries: int = 8
) -> IntegerArray:
    """Draw candidate top left corners ``(count, tries, 2)`` of crops for each cube of the global batch.

    ``cube_size`` is ``(y, x)``; a side shorter than ``size`` is not cropped. :func:`choose_crop_offsets` chooses one of
    the ``tries`` candidates.
    """
    room = np.maximum(np.array(cube_size) - size, 0)
    return create_rng(seed, "crop", step).integers(room + 1, size=(count, tries, 2))


def choose_crop_offsets(
    field: torch.Tensor, size: int, candidates: IntegerArray, *, min_share: float = MIN_FIELD_SHARE
) -> IntegerArray:
    """Choose one corner per cube, ``(n, 2)``: the first with enough valid pixels, else the one with the most.

    Where no candidate holds a valid pixel, the crop is centered on the middle one of the field's pixels.

    ``field`` is bool ``(n, 1, y, x)``, ``candidates`` ``(n, tries, 2)`` are those of :func:`draw_crop_candidates`, and
    ``min_share`` is the share of a crop's pixels that is enough.
    """
    pairs = zip(field[:, 0], candidates, strict=True)
    return np.array([_choose_offset(*pair, size, min_share) for pair in pairs]).reshape(-1, 2)


def crop_batch(batch: Batch, size: int, offsets: IntegerArray) -> Batch:
    """Return the crops at ``offsets`` ``(n, 2)``, with sides of ``size`` or the cube's side if that is shorter."""
    return _map_images(batch, lambda index, image: _extract_window(image, offsets[index], size))


def _map_images(batch: Batch, transform: Callable[[int, torch.Tensor], torch.Tensor]) -> Batch:
    """Return the batch with cubes, masks and field of cube i replaced by ``transform(i, image)``."""

    def map_cubes(images: torch.Tensor) -> torch.Tensor:
        return torch.stack([transform(index, image) for index, image in enumerate(images)])

    return batch._replace(cubes=map_cubes(batch.cubes), masks=map_cubes(batch.masks), field=map_cubes(batch.field))


def _extract_window(image: torch.Tensor, corner: IntegerArray, size: int) -> torch.Tensor:
    top, left = map(int, corner)
    return image[..., top : top + size, left : left + size]


def _choose_offset(field: torch.Tensor, candidates: IntegerArray, size: int, min_share: float) -> IntegerArray:
    best, max_valid = candidates[0], 0
    for corner in candidates:
        window = _extract_window(field, corner, size)
        valid = int(window.sum())
        if valid >= min_share * window.numel():
            return np.asarray(corner)
        if valid > max_valid:
            best, max_valid = corner, valid
    return np.asarray(best) if max_valid else _center_on_field(field, size, best)


def _center_on_field(field: torch.Tensor, size: int, fallback: IntegerArray) -> IntegerArray:
    pixels = torch.nonzero(field).numpy()
    if not len(pixels):
        return fallback
    room = np.maximum(np.array(field.shape) - size, 0)
    return np.asarray(np.clip(pixels[len(pixels) // 2] - size // 2, 0, room))
