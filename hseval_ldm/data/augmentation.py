"""Flips and crops of batches, drawn for the global batch from (seed, step): ranks take their slice of the draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hseval.utils.random_streams import create_rng
from hseval_ldm.data.normalization import Batch

Flip = Literal["none", "horizontal", "both"]
IntegerArray = NDArray[np.integer[Any]]
FlipFunction = Callable[[torch.Tensor], torch.Tensor]

MIN_FIELD_SHARE = 0.5  # share of a crop that has to lie in the field for the first draw to be taken
_FLIP_AXES: dict[Flip, tuple[tuple[int, ...], ...]] = {
    "none": ((),),
    "horizontal": ((), (-1,)),
    "both": ((), (-1,), (-2,), (-2, -1)),
}


def build_flips(flip: Flip) -> tuple[FlipFunction, ...]:
    """Return the views ``(..., y, x) -> (..., y, x)`` that ``flip`` allows, in fixed order, the identity first."""

    def view(axes: tuple[int, ...]) -> FlipFunction:
        return lambda images: images.flip(axes) if axes else images

    return tuple(view(axes) for axes in _FLIP_AXES[flip])


def draw_flips(flip: Flip, *, seed: int, step: int, count: int) -> IntegerArray:
    """Draw one of :func:`build_flips` for each cube of the global batch, ``(count,)``."""
    return create_rng(seed, "flip", step).integers(len(_FLIP_AXES[flip]), size=count)


def apply_flips(batch: Batch, flip: Flip, choices: IntegerArray) -> Batch:
    """Return the batch with view ``choices[i]`` of :func:`build_flips` of cube i."""
    views = build_flips(flip)

    def turned(part: torch.Tensor) -> torch.Tensor:
        return torch.stack([views[choice](image) for choice, image in zip(choices, part, strict=True)])

    return batch._replace(cubes=turned(batch.cubes), masks=turned(batch.masks), field=turned(batch.field))


def draw_crop_candidates(
    cube_size: tuple[int, int], size: int, *, seed: int, step: int, count: int, tries: int = 8
) -> IntegerArray:
    """Draw top left corners ``(count, tries, 2)`` of crops for each cube of the global batch.

    Args:
        cube_size: ``(y, x)`` of the cubes.
        size: of a crop's sides; a side of the cube that is shorter is kept whole.
        seed: the user's.
        step: of training.
        count: cubes in the global batch.
        tries: draws for each cube, of which :func:`choose_crop_offsets` takes one.
    """
    room = np.maximum(np.array(cube_size) - size, 0)
    return create_rng(seed, "crop", step).integers(room + 1, size=(count, tries, 2))


def choose_crop_offsets(
    field: torch.Tensor, size: int, candidates: IntegerArray, *, min_share: float = MIN_FIELD_SHARE
) -> IntegerArray:
    """Choose one corner a cube, ``(n, 2)``: the first whose crop is valid enough, else the one with most valid pixels.

    Where no crop drawn holds a valid pixel, the crop is laid around the middle one of the field's pixels.

    Args:
        field: bool ``(n, 1, y, x)``.
        size: of a crop's sides.
        candidates: ``(n, tries, 2)``, from :func:`draw_crop_candidates`.
        min_share: share of a crop's pixels.
    """
    return np.array(
        [_choose_offset(*pair, size, min_share) for pair in zip(field[:, 0], candidates, strict=True)]
    ).reshape(-1, 2)


def crop_batch(batch: Batch, size: int, offsets: IntegerArray) -> Batch:
    """Return the crops at ``offsets`` ``(n, 2)``, ``size`` long or as long as the cube's side if that is shorter."""

    def cut(part: torch.Tensor) -> torch.Tensor:
        return torch.stack([_extract_window(image, corner, size) for image, corner in zip(part, offsets, strict=True)])

    return batch._replace(cubes=cut(batch.cubes), masks=cut(batch.masks), field=cut(batch.field))


def _extract_window(image: torch.Tensor, corner: IntegerArray, size: int) -> torch.Tensor:
    top, left = map(int, corner)
    return image[..., top : top + size, left : left + size]


def _choose_offset(field: torch.Tensor, candidates: IntegerArray, size: int, min_share: float) -> IntegerArray:
    best, most = candidates[0], 0
    for corner in candidates:
        window = _extract_window(field, corner, size)
        valid = int(window.sum())
        if valid >= min_share * window.numel():
            return np.asarray(corner)
        if valid > most:
            best, most = corner, valid
    return np.asarray(best) if most else _center_on_field(field, size, best)


def _center_on_field(field: torch.Tensor, size: int, fallback: IntegerArray) -> IntegerArray:
    pixels = torch.nonzero(field).numpy()
    if not len(pixels):
        return fallback
    room = np.maximum(np.array(field.shape) - size, 0)
    return np.asarray(np.clip(pixels[len(pixels) // 2] - size // 2, 0, room))
