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
FlipFunction = Callable[[torch.Tensor], torch.Tensor]

MIN_FIELD_SHARE = 0.5  # share of a crop inside the field from which a candidate is accepted
_FLIP_AXES: dict[Flip, tuple[tuple[int, ...], ...]] = {
    "none": ((),),
    "horizontal": ((), (-1,)),
    "both": ((), (-1,), (-2,), (-2, -1)),
}


def build_flips(flip: Flip) -> tuple[FlipFunction, ...]:
    """Return the flips ``(..., y, x) -> (..., y, x)`` that ``flip`` allows, in fixed order, the identity first."""

    def build_flip(axes: tuple[int, ...]) -> FlipFunction:
        return lambda images: images.flip(axes) if axes else images

    return tuple(build_flip(axes) for axes in _FLIP_AXES[flip])


def draw_flips(flip: Flip, *, seed: int, step: int, count: int) -> IntegerArray:
    """Draw one of :func:`build_flips` for each cube of the global batch, ``(count,)``."""
    return create_rng(seed, "flip", step).integers(len(_FLIP_AXES[flip]), size=count)


def apply_flips(batch: Batch, flip: Flip, choices: IntegerArray) -> Batch:
    """Return the batch with flip ``choices[i]`` of :func:`build_flips` applied to cube i."""
    flips = build_flips(flip)

    def flip_images(images: torch.Tensor) -> torch.Tensor:
        return torch.stack([flips[choice](image) for choice, image in zip(choices, images, strict=True)])

    return batch._replace(
        cubes=flip_images(batch.cubes), masks=flip_images(batch.masks), field=flip_images(batch.field)
    )


def draw_crop_candidates(
    cube_size: tuple[int, int], size: int, *, seed: int, step: int, count: int, tries: int = 8
) -> IntegerArray:
    """Draw candidate top left corners ``(count, tries, 2)`` of crops for each cube of the global batch.

    Args:
        cube_size: ``(y, x)`` of the cubes.
        size: of a crop's sides; a shorter side of the cube is not cropped.
        seed: the user's.
        step: of training.
        count: cubes in the global batch.
        tries: candidates per cube, of which :func:`choose_crop_offsets` chooses one.
    """
    room = np.maximum(np.array(cube_size) - size, 0)
    return create_rng(seed, "crop", step).integers(room + 1, size=(count, tries, 2))


def choose_crop_offsets(
    field: torch.Tensor, size: int, candidates: IntegerArray, *, min_share: float = MIN_FIELD_SHARE
) -> IntegerArray:
    """Choose one corner per cube, ``(n, 2)``: the first with enough valid pixels, else the one with the most.

    Where no candidate holds a valid pixel, the crop is centered on the middle one of the field's pixels.

    Args:
        field: bool ``(n, 1, y, x)``.
        size: of a crop's sides.
        candidates: ``(n, tries, 2)``, from :func:`draw_crop_candidates`.
        min_share: share of a crop's pixels that is enough.
    """
    return np.array(
        [_choose_offset(*pair, size, min_share) for pair in zip(field[:, 0], candidates, strict=True)]
    ).reshape(-1, 2)


def crop_batch(batch: Batch, size: int, offsets: IntegerArray) -> Batch:
    """Return the crops at ``offsets`` ``(n, 2)``, with sides of ``size`` or the cube's side if that is shorter."""

    def crop_images(images: torch.Tensor) -> torch.Tensor:
        return torch.stack(
            [_extract_window(image, corner, size) for image, corner in zip(images, offsets, strict=True)]
        )

    return batch._replace(
        cubes=crop_images(batch.cubes), masks=crop_images(batch.masks), field=crop_images(batch.field)
    )


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
