"""Measures of phantom eyes: contrast and area of their vessels, and the number of optic discs.

Cubes are physical, ``(n, band, y, x)`` with wavelengths ``nm``; masks are bool ``(n, y, x)`` by structure: ``fov``,
``artery``, ``vein``, ``onh`` (the disc). Vessels and discs of samples are found twice: in the masks that came with a
cube, and in the cube alone, by one detector for real cubes and samples. Lengths are pixels of an image of 64 x 64 and
scale with the image, except for the ring around vessels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[Any]
BoolArray = NDArray[np.bool_]
Masks = Mapping[str, BoolArray]
Part = Literal["all", "artery", "vein", "thin", "wide"]

FIELD, DISC = "fov", "onh"
PARTS: tuple[Part, ...] = ("all", "artery", "vein", "thin", "wide")
GREEN_NM = 555.0  # hemoglobin absorbs, vessels are darkest
RING_WIDTH_PX = 3
SIDE_PX = 64  # side of the image that the lengths below are for
WINDOW_PX = 9  # of the local mean that dark pixels are compared with
DISC_BLUR_PX = 1.0
DISC_RIM_PX = 2.0  # around a disc: its light raises the local mean, so pixels near it seem dark
MIN_DISC_PX = 8.0  # area
RED_NM, INFRARED_NM = (600.0, 700.0), (740.0, 1000.0)
# Minimum of red over infrared, relative to the field's median. Set once, on 256 eyes of 64 px (seed 1), in all of which
# it finds one disc; of 256 others (seed 2), in 255.
MIN_RATIO = 1.10
# Depths below the local mean. 12 % finds 99 % of the vessels' pixels, but as many that are texture or noise, so half of
# a set's vessels could be missing unnoticed; 20 % finds 89 %, and 78 % of the pixels found are vessels.
DEPTHS = (0.12, 0.20)
SQUARE: BoolArray = np.ones((2, 2), dtype=np.bool_)
EIGHT_NEIGHBORS: BoolArray = np.ones((3, 3), dtype=np.bool_)


def find_vessels(masks: Masks, of: Part = "all") -> BoolArray:
    """Return the pixels of vessels in the field and outside the disc, bool ``(n, y, x)``.

    Args:
        masks: of n eyes.
        of: all, one kind, or by width: ``wide`` is covered by squares of 2 x 2 pixels, ``thin`` is the rest.
    """
    visible = masks[FIELD] & ~masks[DISC]
    if of in ("artery", "vein"):
        return masks[of] & visible
    vessels = (masks["artery"] | masks["vein"]) & visible
    if of == "all":
        return vessels
    wide: BoolArray = np.zeros_like(vessels)
    for number, mask in enumerate(vessels):
        ndimage.binary_opening(mask, SQUARE, output=wide[number])
    return wide if of == "wide" else vessels & ~wide


def compute_vessel_contrast(cubes: Array, masks: Masks, nm: Array, *, at: float = GREEN_NM, of: Part = "all") -> Array:
    """Return how much darker vessels are than the ring of 3 px around them, relative to the ring, ``(n,)``.

    The ring excludes vessels of any kind, the disc and everything outside the field. NaN: an eye has no such vessel or
    ring, or the ring's mean is not above 0.

    Args:
        cubes: ``(n, band, y, x)``.
        masks: of the same eyes.
        nm: ``(band,)``.
        at: wavelength; the nearest band is measured.
        of: which vessels.
    """
    images, part = cubes[:, _find_nearest_band(nm, at)], find_vessels(masks, of)
    free = masks[FIELD] & ~masks[DISC] & ~find_vessels(masks)
    contrasts = np.full(len(cubes), np.nan)
    for number, (image, dark) in enumerate(zip(images, part, strict=True)):
        ring = ndimage.maximum_filter(dark, 2 * RING_WIDTH_PX + 1) & free[number]
        if dark.any() and ring.any():
            around = image[ring].mean(dtype=np.float64)
            if around > 0:
                contrasts[number] = 1 - image[dark].mean(dtype=np.float64) / around
    return contrasts


def compute_contrast_retention(
    generated: Array, real: Array, masks: Masks, nm: Array, *, at: float = GREEN_NM, of: Part = "all"
) -> float:
    """Return the mean contrast of reconstructions over that of the real cubes, under the real cubes' masks.

    Eyes whose contrast is not defined in either are ignored in both; NaN if none remains.
    """
    contrast, real_contrast = (compute_vessel_contrast(cubes, masks, nm, at=at, of=of) for cubes in (generated, real))
    both = np.isfinite(contrast) & np.isfinite(real_contrast)
    return float(contrast[both].mean() / real_contrast[both].mean()) if both.any() else float("nan")


def compute_vessel_share(masks: Masks) -> Array:
    """Return the share of the field that the masks label as artery or vein, ``(n,)``; NaN without a field."""
    field = masks[FIELD]
    return _divide_areas((masks["artery"] | masks["vein"]) & field, field)


def compute_dark_share(cubes: Array, field: BoolArray, nm: Array, *, depth: float, at: float = GREEN_NM) -> Array:
    """Return the share of the field that is as dark as vessels, from the cubes alone, ``(n,)``.

    Pixels are dark if they lie more than the share ``depth`` below the mean of the window around them, taken over its
    pixels in the field. Bright discs and their rim are excluded.

    Args:
        cubes: ``(n, band, y, x)``.
        field: bool ``(n, y, x)``.
        nm: ``(band,)``.
        depth: 0 to 1.
        at: wavelength; the nearest band is measured.
    """
    counted = field & ~_dilate(find_bright_discs(cubes, field, nm))
    images = cubes[:, _find_nearest_band(nm, at)].astype(np.float64)
    window = 2 * max(round((_get_scale(field) * WINDOW_PX - 1) / 2), 2) + 1
    local = _smooth_within(images, counted, lambda image: ndimage.uniform_filter(image, window, mode="constant"))
    return _divide_areas(counted & (images < (1 - depth) * local), field)


def find_bright_discs(cubes: Array, field: BoolArray, nm: Array) -> BoolArray:
    """Return the pixels that look like a disc, without using masks: bool ``(n, y, x)``.

    The disc is pale: red over infrared, each blurred, is higher there than in the rest of the fundus, where the
    pigment absorbs more of the red. The illumination, by which single bands vary more, cancels in the ratio. Pixels
    whose red is below the field's median, as at a vignetted rim, are excluded: there the ratio is unreliable (decoded
    rims are off by a few per cent in color, and patches of them were taken for discs).

    Args:
        cubes: ``(n, band, y, x)``.
        field: bool ``(n, y, x)``.
        nm: ``(band,)``, some of it red and some infrared.
    """
    blur = DISC_BLUR_PX * _get_scale(field)
    bands = [(nm >= low) & (nm <= high) for low, high in (RED_NM, INFRARED_NM)]
    red, infrared = (
        _smooth_within(
            cubes[:, band].mean(axis=1, dtype=np.float64),
            field,
            lambda image: ndimage.gaussian_filter(image, blur, mode="constant"),
        )
        for band in bands
    )
    ratio = red / np.maximum(infrared, 1e-9)
    pale = ratio > MIN_RATIO * _compute_medians(ratio, field)
    discs: BoolArray = field & pale & (red > _compute_medians(red, field))
    return discs


def _compute_medians(images: Array, field: BoolArray) -> Array:
    """Return each image's median over its field, ``(n, 1, 1)``; 1 for an empty field."""
    medians = [np.median(image[inside]) if inside.any() else 1.0 for image, inside in zip(images, field, strict=True)]
    return np.array(medians)[:, None, None]


def count_discs(discs: BoolArray) -> NDArray[np.int64]:
    """Return how many discs each eye has, ``(n,)``: 8-connected components of 8 px or more.

    Args:
        discs: the mask ``onh``, or :func:`find_bright_discs`; bool ``(n, y, x)``.
    """
    min_area = MIN_DISC_PX * _get_scale(discs) ** 2
    areas = (np.bincount(ndimage.label(mask, EIGHT_NEIGHBORS)[0].ravel())[1:] for mask in discs)
    return np.array([int((sizes >= min_area).sum()) for sizes in areas], dtype=np.int64)


def compute_one_disc_share(discs: BoolArray) -> float:
    """Return the share of eyes with exactly one disc."""
    return float((count_discs(discs) == 1).mean())


def compute_dice(generated: BoolArray, real: BoolArray) -> float:
    """Return the mean Dice coefficient of masks ``(n, y, x)`` over eyes where either is not empty; NaN if none."""
    overlap, total = (generated & real).sum(axis=(1, 2)), generated.sum(axis=(1, 2)) + real.sum(axis=(1, 2))
    return float((2 * overlap[total > 0] / total[total > 0]).mean()) if total.any() else float("nan")


def _find_nearest_band(nm: Array, at: float) -> int:
    return int(np.abs(np.asarray(nm) - at).argmin())


def _get_scale(images: Array) -> float:
    """Return the side of images ``(n, y, x)`` relative to ``SIDE_PX``."""
    return float(np.sqrt(images.shape[-2] * images.shape[-1])) / SIDE_PX


def _divide_areas(mask: BoolArray, field: BoolArray) -> Array:
    total = field.sum(axis=(1, 2))
    return np.where(total > 0, mask.sum(axis=(1, 2)) / np.maximum(total, 1), np.nan)


def _dilate(discs: BoolArray) -> BoolArray:
    rim = max(round(DISC_RIM_PX * _get_scale(discs)), 1)
    dilated: BoolArray = np.zeros_like(discs)
    for number, mask in enumerate(discs):
        ndimage.binary_dilation(mask, EIGHT_NEIGHBORS, iterations=rim, output=dilated[number])
    return dilated


def _smooth_within(images: Array, field: BoolArray, smooth: Any) -> Array:
    """Return images smoothed over the field's pixels only, so the outside does not darken edges; 0 outside."""
    result = np.zeros(images.shape)
    for number, (image, inside) in enumerate(zip(images, field, strict=True)):
        total, weight = smooth(np.where(inside, image, 0.0)), smooth(inside.astype(np.float64))
        result[number] = np.where(inside, total / np.maximum(weight, 1e-12), 0.0)
    return result
