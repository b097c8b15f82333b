"""Multi-scale structural similarity (Wang, Simoncelli and Bovik, 2003) of hyperspectral cubes, in 2D and 3D.

On full images of more than 160 px it is the common definition: Gaussian window of 11 px and sigma 1.5, K 0.01
and 0.03, halving by means of 2 x 2 pixels (an odd side gets a row of zeros first), negative terms clamped at 0.
Smaller images have fewer scales, with the weights of those that are left rescaled to sum to 1. With fields of
view, the maps are averaged over the windows that lie inside both fields, at every scale.

The 2D form takes each band as an image and averages over bands. The 3D form has a window of 5 along bands as
well (fewer where there are fewer bands), and one map for the whole cube; bands are not halved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hseval.metrics.ssim.fields import bounding_box, scales_for, scales_within, valid_pixels
from hseval.metrics.ssim.maps import Fan, level_terms
from hseval.metrics.ssim.pyramid import levels
from hseval.utils.errors import HsevalError, NotComputable

__all__ = ["Terms", "all_pairs", "block_terms", "ms_ssim", "pair_terms", "scales_for", "weights_for"]

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, finest first: Wang et al. (2003), section 3.2
BATCH = 1 << 24  # values of a set of pairs that are worked on at once


class Terms(NamedTuple):
    """Averages of one form's maps, ``(scale, pair, band)``, finest scale first."""

    contrast: Array  # contrast times structure
    similarity: Array  # the same times luminance

    @property
    def scales(self) -> int:
        """How many scales there are."""
        return len(self.contrast)

    def combined(self, scales: int) -> Array:
        """Return MS-SSIM ``(pair, band)`` over the finest ``scales`` scales; NaN where one has no window."""
        factors = np.concatenate([self.contrast[: scales - 1], self.similarity[scales - 1 : scales]])
        clamped: Array = np.maximum(factors, 0.0)  # maximum keeps NaN
        return np.asarray(np.prod(clamped ** weights_for(scales)[:, None, None], axis=0))


def weights_for(scales: int) -> Array:
    """Return the exponents of ``scales`` scales, finest first; they sum to 1 (the standard five do as they are)."""
    weights = np.array(WEIGHTS[:scales])
    return weights if scales == len(WEIGHTS) else weights / weights.sum()


def ms_ssim(
    a: NDArray[Any],
    b: NDArray[Any],
    *,
    data_range: float | NDArray[Any],
    field_a: NDArray[Any] | None = None,
    field_b: NDArray[Any] | None = None,
    volume: bool = False,
    scales: int | None = None,
) -> Array:
    """Return the similarity ``(n,)`` of each cube of ``a`` with the cube of ``b`` at its place.

    Args:
        a: cubes ``(n, band, y, x)``; float64 is worked on as such, all else as float32.
        b: cubes of the same shape.
        data_range: the span of values, one for all or one a band ``(band,)``.
        field_a: bool ``(n, y, x)``, the valid pixels of ``a``. Others, and NaN, are never counted, and what
            surrounds the box of all common pixels is cut off first.
        field_b: the valid pixels of ``b``.
        volume: the 3D form instead of the 2D one.
        scales: how many scales; by default as many as the shape allows (:func:`scales_for`), or fewer: the
            largest number at which every pair has a window inside both fields (:func:`scales_within`).

    Returns:
        Between 0 and 1 (rounding apart); NaN for a pair without a window inside both fields.

    Raises:
        HsevalError: shapes differ, or the data range is not above 0.
        NotComputable: the images, or the box of common pixels, are smaller than the window of 11 px.
    """
    if a.ndim != 4 or a.shape != b.shape:
        raise HsevalError(f"cubes of shapes {a.shape} and {b.shape}: expected (n, band, y, x) twice")
    valid_a, valid_b = valid_pixels(a, field_a), valid_pixels(b, field_b)
    box = bounding_box(valid_a & valid_b)
    a, b, valid_a, valid_b = a[..., *box], b[..., *box], valid_a[:, *box], valid_b[:, *box]
    scales = scales or scales_within(np.concatenate([valid_a, valid_b]), _pairs(_facing(len(a))))
    values = []
    size = max(1, BATCH // (2 * a[0].size))
    for first in range(0, len(a), size):
        at = slice(first, first + size)
        cubes, valid = np.concatenate([a[at], b[at]]), np.concatenate([valid_a[at], valid_b[at]])
        fans = _facing(len(cubes) // 2)
        terms = pair_terms(cubes, fans, data_range=data_range, valid=valid, scales=scales, volume=volume)
        values.append(terms[-1].combined(scales).mean(axis=1))
    return np.concatenate(values)


def all_pairs(
    cubes: NDArray[Any],
    *,
    data_range: float | NDArray[Any],
    fields: NDArray[Any] | None = None,
    volume: bool = False,
    scales: int | None = None,
) -> Array:
    """Return the similarities ``(n, n)`` of all pairs of ``(n, band, y, x)`` cubes, many times faster than one by one.

    Arguments, errors and values as for :func:`ms_ssim`; ``fields`` is bool ``(n, y, x)``.
    """
    if len(cubes) < 2:
        return np.eye(len(cubes))
    cubes, valid = _cut(cubes, fields)
    fans = all_fans(len(cubes))
    scales = scales or scales_within(valid, _pairs(fans))
    terms = pair_terms(cubes, fans, data_range=data_range, valid=valid, scales=scales, volume=volume)
    matrix = np.eye(len(cubes))
    left, right = np.triu_indices(len(cubes), 1)
    matrix[left, right] = matrix[right, left] = terms[-1].combined(scales).mean(axis=1)
    return matrix


def block_terms(
    cubes: NDArray[Any], *, data_range: float | NDArray[Any], fields: NDArray[Any] | None = None
) -> list[Terms]:
    """Return the 2D and 3D terms of all pairs, at every scale at which some pair has a window; [] if none has.

    Arguments as for :func:`all_pairs`. A coarse scale that some pairs lack leaves them NaN there.
    """
    try:
        cubes, valid = _cut(cubes, fields)
        scales = scales_within(valid, _pairs(all_fans(len(cubes))), every=False)
    except NotComputable:
        return []
    fans = all_fans(len(cubes))
    return pair_terms(cubes, fans, data_range=data_range, valid=valid, scales=scales, volume=True, every=True)


def pair_terms(
    cubes: NDArray[Any],
    fans: Sequence[Fan],
    *,
    data_range: float | NDArray[Any],
    valid: BoolArray,
    scales: int,
    volume: bool = False,
    every: bool = False,
) -> list[Terms]:
    """Return the terms of the 2D form and, if ``volume``, of the 3D form, for all pairs of the fans.

    Args:
        cubes: ``(n, band, y, x)``, cut to the box that matters.
        fans: which pairs.
        data_range: as in :func:`ms_ssim`.
        valid: bool ``(n, y, x)``.
        scales: how many scales to compute.
        volume: also the 3D form; its maps average over bands, so it has one band.
        every: luminance at every scale, so that :meth:`Terms.combined` works for fewer scales too.
    """
    last = scales - 1
    found = [
        level_terms(level, fans, volume=volume, luminance=every or index == last)
        for index, level in enumerate(levels(cubes, data_range, valid, scales))
    ]
    plane = np.stack([terms[0] for terms in found], axis=1)
    if not volume:
        return [Terms(*plane)]
    deep = np.stack([terms[1] for terms in found], axis=1)
    return [Terms(*plane), Terms(*deep.mean(axis=-1, keepdims=True))]


def _cut(cubes: NDArray[Any], fields: NDArray[Any] | None) -> tuple[NDArray[Any], BoolArray]:
    """Return cubes and valid pixels, cut to the box of the pixels that two cubes or more have in common."""
    valid = valid_pixels(cubes, fields)
    box = bounding_box(valid.sum(axis=0, keepdims=True) >= min(2, len(cubes)))
    return cubes[..., *box], valid[:, *box]


def all_fans(n: int) -> list[Fan]:
    """Return all pairs of n images, in the order of ``np.triu_indices(n, 1)``."""
    return [Fan(i, i + 1, n) for i in range(n - 1)]


def _facing(n: int) -> list[Fan]:
    """Return the pairs of image i with image n + i."""
    return [Fan(i, n + i, n + i + 1) for i in range(n)]


def _pairs(fans: Sequence[Fan]) -> list[tuple[int, int]]:
    return [(fan.left, right) for fan in fans for right in range(fan.start, fan.stop)]
