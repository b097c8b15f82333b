"""What is measured on phantom eyes: the contrast of their vessels, the area of these, and how many discs there are.

Cubes are physical, ``(n, band, y, x)`` with wavelengths ``nm``; masks are bool ``(n, y, x)`` by structure: ``fov``,
``artery``, ``vein``, ``onh`` (the disc). Vessels and discs of samples are looked for twice: in the masks that came with
a cube, and in the cube alone, by one detector for real cubes and samples. Lengths are pixels of a picture of 64 x 64,
and grow with the picture, but for the ring that vessels are compared with.
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
GREEN_NM = 555.0  # haemoglobin absorbs, vessels are darkest
RING_PX = 3
SIDE_PX = 64  # of the picture that the lengths below are for
WINDOW_PX = 9  # of the local mean that dark pixels are compared with
DISC_BLUR_PX = 1.0
DISC_RIM_PX = 2.0  # around a disc: its light raises the local mean, and all seems dark beside it
LEAST_DISC_PX = 8.0  # area
RED_NM, INFRARED_NM = (600.0, 700.0), (740.0, 1000.0)
# Set once, on 256 eyes of 64 px (seed 1), all of which show one disc with it; of 256 others (seed 2), 255 do.
BRIGHT = 1.10
# Depths below the local mean. 12 % finds 99 % of the vessels' pixels, but as many that are texture or noise, so that
# half of a set's vessels could go unmissed; 20 % finds 89 %, and 78 % of what it finds are vessels.
DEPTHS = (0.12, 0.20)
SQUARE: BoolArray = np.ones((2, 2), dtype=np.bool_)
EVERY_SIDE: BoolArray = np.ones((3, 3), dtype=np.bool_)  # corners touch


def vessels(masks: Masks, of: Part = "all") -> BoolArray:
    """Return the pixels of vessels in the field and outside the disc, bool ``(n, y, x)``.

    Args:
        masks: of n eyes.
        of: all, one kind, or by width: ``wide`` is what squares of 2 x 2 pixels cover, ``thin`` is the rest.
    """
    seen = masks[FIELD] & ~masks[DISC]
    if of in ("artery", "vein"):
        return masks[of] & seen
    every = (masks["artery"] | masks["vein"]) & seen
    if of == "all":
        return every
    wide: BoolArray = np.zeros_like(every)
    for number, each in enumerate(every):
        ndimage.binary_opening(each, SQUARE, output=wide[number])
    return wide if of == "wide" else every & ~wide


def vessel_contrast(cubes: Array, masks: Masks, nm: Array, *, at: float = GREEN_NM, of: Part = "all") -> Array:
    """Return by how much vessels are darker than the ring of 3 px around them, relative to the ring, ``(n,)``.

    The ring holds no vessel of any kind, no disc and nothing outside the field. NaN: an eye has no such vessel or ring,
    or a ring that is not above 0.

    Args:
        cubes: ``(n, band, y, x)``.
        masks: of the same eyes.
        nm: ``(band,)``.
        at: the band nearest to it is measured.
        of: which vessels.
    """
    images, part = cubes[:, _nearest(nm, at)], vessels(masks, of)
    free = masks[FIELD] & ~masks[DISC] & ~vessels(masks)
    contrasts = np.full(len(cubes), np.nan)
    for number, (image, dark) in enumerate(zip(images, part, strict=True)):
        ring = ndimage.maximum_filter(dark, 2 * RING_PX + 1) & free[number]
        if dark.any() and ring.any():
            around = image[ring].mean(dtype=np.float64)
            if around > 0:
                contrasts[number] = 1 - image[dark].mean(dtype=np.float64) / around
    return contrasts


def contrast_kept(
    made: Array, real: Array, masks: Masks, nm: Array, *, at: float = GREEN_NM, of: Part = "all"
) -> float:
    """Return the mean contrast of reconstructions over that of the real cubes, under the real cubes' masks.

    Eyes that lack it on either side count on neither; NaN if none is left.
    """
    ours, theirs = (vessel_contrast(cubes, masks, nm, at=at, of=of) for cubes in (made, real))
    both = np.isfinite(ours) & np.isfinite(theirs)
    return float(ours[both].mean() / theirs[both].mean()) if both.any() else float("nan")


def vessel_share(masks: Masks) -> Array:
    """Return the share of the field that masks call artery or vein, ``(n,)``; NaN without a field."""
    field = masks[FIELD]
    return _share((masks["artery"] | masks["vein"]) & field, field)


def dark_share(cubes: Array, field: BoolArray, nm: Array, *, depth: float, at: float = GREEN_NM) -> Array:
    """Return the share of the field that is dark as vessels are, from the cubes alone, ``(n,)``.

    Dark are pixels that lie by more than the share ``depth`` below the mean of the window around them, taken over the
    field's pixels in it. Bright discs and their rim are left out.

    Args:
        cubes: ``(n, band, y, x)``.
        field: bool ``(n, y, x)``.
        nm: ``(band,)``.
        depth: 0 to 1.
        at: the band nearest to it is measured.
    """
    counted = field & ~_grown(bright_discs(cubes, field, nm))
    images = cubes[:, _nearest(nm, at)].astype(np.float64)
    window = 2 * max(round((_scale(field) * WINDOW_PX - 1) / 2), 2) + 1
    local = _over_field(images, counted, lambda image: ndimage.uniform_filter(image, window, mode="constant"))
    return _share(counted & (images < (1 - depth) * local), field)


def bright_discs(cubes: Array, field: BoolArray, nm: Array) -> BoolArray:
    """Return where cubes look like a disc, without their masks: bool ``(n, y, x)``.

    The disc is pale: red over infrared, each blurred, is higher there than in the rest of the fundus, where the
    pigment takes more of the red. In the ratio the illumination, by which single bands vary more, cancels. The disc is
    also no dark place: where the red is below the field's median, as at a vignetted rim, a ratio says little (decoded
    rims are off by a few per cent in colour, and patches of them passed for discs).

    Args:
        cubes: ``(n, band, y, x)``.
        field: bool ``(n, y, x)``.
        nm: ``(band,)``, some of it red and some infrared.
    """
    blur = DISC_BLUR_PX * _scale(field)
    bands = [(nm >= low) & (nm <= high) for low, high in (RED_NM, INFRARED_NM)]
    red, infrared = (
        _over_field(
            cubes[:, some].mean(axis=1, dtype=np.float64),
            field,
            lambda image: ndimage.gaussian_filter(image, blur, mode="constant"),
        )
        for some in bands
    )
    ratio = red / np.maximum(infrared, 1e-9)
    pale = ratio > BRIGHT * _medians(ratio, field)
    found: BoolArray = field & pale & (red > _medians(red, field))
    return found


def _medians(images: Array, field: BoolArray) -> Array:
    """Return each image's median over its field, ``(n, 1, 1)``; 1 where there is none."""
    found = [np.median(each[inside]) if inside.any() else 1.0 for each, inside in zip(images, field, strict=True)]
    return np.array(found)[:, None, None]


def disc_count(discs: BoolArray) -> NDArray[np.int64]:
    """Return how many discs each eye has, ``(n,)``: connected parts of 8 px or more, corners connect.

    Args:
        discs: the mask ``onh``, or :func:`bright_discs`; bool ``(n, y, x)``.
    """
    least = LEAST_DISC_PX * _scale(discs) ** 2
    parts = (np.bincount(ndimage.label(each, EVERY_SIDE)[0].ravel())[1:] for each in discs)
    return np.array([int((sizes >= least).sum()) for sizes in parts], dtype=np.int64)


def one_disc(discs: BoolArray) -> float:
    """Return the share of eyes with exactly one disc."""
    return float((disc_count(discs) == 1).mean())


def dice(made: BoolArray, real: BoolArray) -> float:
    """Return the mean Dice coefficient of masks ``(n, y, x)`` over the eyes that have either; NaN if none has."""
    overlap, total = (made & real).sum(axis=(1, 2)), made.sum(axis=(1, 2)) + real.sum(axis=(1, 2))
    return float((2 * overlap[total > 0] / total[total > 0]).mean()) if total.any() else float("nan")


def _nearest(nm: Array, at: float) -> int:
    return int(np.abs(np.asarray(nm) - at).argmin())


def _scale(pictures: Array) -> float:
    """Return the side of pictures ``(n, y, x)``, relative to the one that lengths are for."""
    return float(np.sqrt(pictures.shape[-2] * pictures.shape[-1])) / SIDE_PX


def _share(part: BoolArray, field: BoolArray) -> Array:
    whole = field.sum(axis=(1, 2))
    return np.where(whole > 0, part.sum(axis=(1, 2)) / np.maximum(whole, 1), np.nan)


def _grown(discs: BoolArray) -> BoolArray:
    rim = max(round(DISC_RIM_PX * _scale(discs)), 1)
    grown: BoolArray = np.zeros_like(discs)
    for number, each in enumerate(discs):
        ndimage.binary_dilation(each, EVERY_SIDE, iterations=rim, output=grown[number])
    return grown


def _over_field(images: Array, field: BoolArray, smoothed: Any) -> Array:
    """Return images smoothed over the field's pixels alone: what lies outside darkens no edge; 0 outside."""
    result = np.zeros(images.shape)
    for number, (image, inside) in enumerate(zip(images, field, strict=True)):
        total, weight = smoothed(np.where(inside, image, 0.0)), smoothed(inside.astype(np.float64))
        result[number] = np.where(inside, total / np.maximum(weight, 1e-12), 0.0)
    return result
