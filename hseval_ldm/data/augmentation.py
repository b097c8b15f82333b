"""Flips and crops of batches, drawn for the global batch from (seed, step): ranks take their slice of the draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hseval.utils.random_streams import stream
from hseval_ldm.data.normalization import Batch

Flip = Literal["none", "horizontal", "both"]
Integers = NDArray[np.integer[Any]]
View = Callable[[torch.Tensor], torch.Tensor]

ENOUGH = 0.5  # share of a crop that has to lie in the field for the first draw to be taken
_AXES: dict[Flip, tuple[tuple[int, ...], ...]] = {
    "none": ((),),
    "horizontal": ((), (-1,)),
    "both": ((), (-1,), (-2,), (-2, -1)),
}


def variants(flip: Flip) -> tuple[View, ...]:
    """Return the views ``(..., y, x) -> (..., y, x)`` that ``flip`` allows, in fixed order, the identity first."""

    def view(axes: tuple[int, ...]) -> View:
        return lambda images: images.flip(axes) if axes else images

    return tuple(view(axes) for axes in _AXES[flip])


def flip_choices(flip: Flip, *, seed: int, step: int, count: int) -> Integers:
    """Draw one of :func:`variants` for each cube of the global batch, ``(count,)``."""
    return stream(seed, "flip", step).integers(len(_AXES[flip]), size=count)


def flipped(batch: Batch, flip: Flip, choices: Integers) -> Batch:
    """Return the batch with view ``choices[i]`` of :func:`variants` of cube i."""
    views = variants(flip)

    def turned(part: torch.Tensor) -> torch.Tensor:
        return torch.stack([views[choice](image) for choice, image in zip(choices, part, strict=True)])

    return batch._replace(cubes=turned(batch.cubes), masks=turned(batch.masks), field=turned(batch.field))


def crop_candidates(whole: tuple[int, int], size: int, *, seed: int, step: int, count: int, tries: int = 8) -> Integers:
    """Draw top left corners ``(count, tries, 2)`` of crops for each cube of the global batch.

    Args:
        whole: ``(y, x)`` of the cubes.
        size: of a crop's sides; a side of the cube that is shorter is kept whole.
        seed: the user's.
        step: of training.
        count: cubes in the global batch.
        tries: draws for each cube, of which :func:`crop_offsets` takes one.
    """
    room = np.maximum(np.array(whole) - size, 0)
    return stream(seed, "crop", step).integers(room + 1, size=(count, tries, 2))


def crop_offsets(field: torch.Tensor, size: int, candidates: Integers, *, enough: float = ENOUGH) -> Integers:
    """Choose one corner a cube, ``(n, 2)``: the first whose crop is valid enough, else the one with most valid pixels.

    Where no crop drawn holds a valid pixel, the crop is laid around the middle one of the field's pixels.

    Args:
        field: bool ``(n, 1, y, x)``.
        size: of a crop's sides.
        candidates: ``(n, tries, 2)``, from :func:`crop_candidates`.
        enough: share of a crop's pixels.
    """
    return np.array([_chosen(*pair, size, enough) for pair in zip(field[:, 0], candidates, strict=True)]).reshape(-1, 2)


def crop(batch: Batch, size: int, offsets: Integers) -> Batch:
    """Return the crops at ``offsets`` ``(n, 2)``, ``size`` long or as long as the cube's side if that is shorter."""

    def cut(part: torch.Tensor) -> torch.Tensor:
        return torch.stack([_window(image, corner, size) for image, corner in zip(part, offsets, strict=True)])

    return batch._replace(cubes=cut(batch.cubes), masks=cut(batch.masks), field=cut(batch.field))


def _window(image: torch.Tensor, corner: Integers, size: int) -> torch.Tensor:
    top, left = map(int, corner)
    return image[..., top : top + size, left : left + size]


def _chosen(field: torch.Tensor, candidates: Integers, size: int, enough: float) -> Integers:
    best, most = candidates[0], 0
    for corner in candidates:
        window = _window(field, corner, size)
        valid = int(window.sum())
        if valid >= enough * window.numel():
            return np.asarray(corner)
        if valid > most:
            best, most = corner, valid
    return np.asarray(best) if most else _around_the_middle(field, size, best)


def _around_the_middle(field: torch.Tensor, size: int, otherwise: Integers) -> Integers:
    pixels = torch.nonzero(field).numpy()
    if not len(pixels):
        return otherwise
    room = np.maximum(np.array(field.shape) - size, 0)
    return np.asarray(np.clip(pixels[len(pixels) // 2] - size // 2, 0, room))
