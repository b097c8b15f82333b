"""Multi-scale structural similarity (Wang, Simoncelli and Bovik, 2003) of hyperspectral cubes, in 2D and 3D.

For full images of more than 160 px this is the common definition: Gaussian window of 11 px and sigma 1.5, K 0.01
and 0.03, halving by means of 2 x 2 pixels (an odd side is first padded by a row of zeros), negative terms clamped at 0.
Smaller images have fewer scales, and the weights of the remaining scales are rescaled to sum to 1. With fields of
view, the maps are averaged over the windows that lie inside both fields, at every scale.

The 2D form treats each band as an image and averages over bands. The 3D form has a window of 5 along bands as
well (fewer if there are fewer bands), and one map for the whole cube; bands are not halved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hseval.data.field_of_view import find_valid_pixels
from hseval.metrics.ssim.fields import count_scales, count_usable_scales, find_bounding_box
from hseval.metrics.ssim.maps import PairRun, compute_level_terms
from hseval.metrics.ssim.pyramid import iterate_pyramid
from hseval.utils.errors import HsevalError, NotComputable

__all__ = [
    "SsimTerms",
    "compute_block_terms",
    "compute_pair_terms",
    "count_scales",
    "get_scale_weights",
    "ms_ssim",
    "pairwise_ms_ssim",
]

Float64Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, finest first: Wang et al. (2003), section 3.2
MAX_BATCH_VALUES = 1 << 24  # values of the pairs that are processed at once


class SsimTerms(NamedTuple):
    """Averages of the maps of the 2D or 3D form, ``(scale, pair, band)``, finest scale first."""

    contrast: Float64Array  # contrast times structure
    similarity: Float64Array  # the same times luminance

    @property
    def scales(self) -> int:
        """The number of scales."""
        return len(self.contrast)

    def combine(self, scales: int) -> Float64Array:
        """Return MS-SSIM ``(pair, band)`` over the finest ``scales`` scales; NaN if a scale has no window."""
        factors = np.concatenate([self.contrast[: scales - 1], self.similarity[scales - 1 : scales]])
        clamped: Float64Array = np.maximum(factors, 0.0)  # maximum propagates NaN
        return np.asarray(np.prod(clamped ** get_scale_weights(scales)[:, None, None], axis=0))


def get_scale_weights(scales: int) -> Float64Array:
    """Return the exponents of ``scales`` scales, finest first, rescaled to sum to 1 (as the standard five do)."""
    weights = np.array(SCALE_WEIGHTS[:scales])
    return weights if scales == len(SCALE_WEIGHTS) else weights / weights.sum()


def ms_ssim(
    a: NDArray[Any],
    b: NDArray[Any],
    *,
    data_range: float | NDArray[Any],
    field_a: NDArray[Any] | None = None,
    field_b: NDArray[Any] | None = None,
    volume: bool = False,
    scales: int | None = None,
) -> Float64Array:
    """Return the similarity ``(n,)`` of each cube of ``a`` with the cube of ``b`` at the same index.

    Args:
        a: cubes ``(n, band, y, x)``; float64 is computed in float64, all else in float32.
        b: cubes of the same shape.
        data_range: the span of values, one for all bands or ``(band,)``.
        field_a: bool ``(n, y, x)``, the valid pixels of ``a``. Others, and NaN, are never counted, and cubes are
            first cropped to the box of all common pixels.
        field_b: the valid pixels of ``b``.
        volume: the 3D form instead of the 2D one.
        scales: how many scales; by default as many as the shape allows (:func:`count_scales`), or fewer: the
            largest number at which every pair has a window inside both fields (:func:`count_usable_scales`).

    Returns:
        Between 0 and 1 (up to rounding); NaN for a pair without a window inside both fields.

    Raises:
        HsevalError: shapes differ, or the data range is not above 0.
        NotComputable: the images, or the box of common pixels, are smaller than the window of 11 px.
    """
    if a.ndim != 4 or a.shape != b.shape:
        raise HsevalError(f"cubes of shapes {a.shape} and {b.shape}: expected (n, band, y, x) twice")
    valid_a, valid_b = find_valid_pixels(a, field_a), find_valid_pixels(b, field_b)
    box = find_bounding_box(valid_a & valid_b)
    a, b, valid_a, valid_b = a[..., *box], b[..., *box], valid_a[:, *box], valid_b[:, *box]
    scales = scales or count_usable_scales(
        np.concatenate([valid_a, valid_b]), _expand_pairs(_list_matched_runs(len(a)))
    )
    values = []
    size = max(1, MAX_BATCH_VALUES // (2 * a[0].size))
    for first in range(0, len(a), size):
        batch = slice(first, first + size)
        cubes, valid = np.concatenate([a[batch], b[batch]]), np.concatenate([valid_a[batch], valid_b[batch]])
        pair_runs = _list_matched_runs(len(cubes) // 2)
        terms = compute_pair_terms(cubes, pair_runs, data_range=data_range, valid=valid, scales=scales, volume=volume)
        values.append(terms[-1].combine(scales).mean(axis=1))
    return np.concatenate(values)


def pairwise_ms_ssim(
    cubes: NDArray[Any],
    *,
    data_range: float | NDArray[Any],
    fields: NDArray[Any] | None = None,
    volume: bool = False,
    scales: int | None = None,
) -> Float64Array:
    """Return the similarities ``(n, n)`` of all pairs of ``(n, band, y, x)`` cubes, much faster than one by one.

    Arguments, errors and values as for :func:`ms_ssim`; ``fields`` is bool ``(n, y, x)``.
    """
    if len(cubes) < 2:
        return np.eye(len(cubes))
    cubes, valid = _crop_to_common_box(cubes, fields)
    pair_runs = list_pair_runs(len(cubes))
    scales = scales or count_usable_scales(valid, _expand_pairs(pair_runs))
    terms = compute_pair_terms(cubes, pair_runs, data_range=data_range, valid=valid, scales=scales, volume=volume)
    matrix = np.eye(len(cubes))
    left, right = np.triu_indices(len(cubes), 1)
    matrix[left, right] = matrix[right, left] = terms[-1].combine(scales).mean(axis=1)
    return matrix


def compute_block_terms(
    cubes: NDArray[Any], *, data_range: float | NDArray[Any], fields: NDArray[Any] | None = None
) -> list[SsimTerms]:
    """Return the 2D and 3D terms of all pairs, at every scale at which any pair has a window; [] if none has.

    Arguments as for :func:`pairwise_ms_ssim`. Pairs without a window at a coarse scale are NaN there.
    """
    try:
        cubes, valid = _crop_to_common_box(cubes, fields)
        scales = count_usable_scales(valid, _expand_pairs(list_pair_runs(len(cubes))), for_all_pairs=False)
    except NotComputable:
        return []
    pair_runs = list_pair_runs(len(cubes))
    return compute_pair_terms(
        cubes, pair_runs, data_range=data_range, valid=valid, scales=scales, volume=True, luminance_at_all_scales=True
    )


def compute_pair_terms(
    cubes: NDArray[Any],
    pair_runs: Sequence[PairRun],
    *,
    data_range: float | NDArray[Any],
    valid: BoolArray,
    scales: int,
    volume: bool = False,
    luminance_at_all_scales: bool = False,
) -> list[SsimTerms]:
    """Return the terms of the 2D form and, if ``volume``, of the 3D form, for all pairs of the runs.

    Args:
        cubes: ``(n, band, y, x)``, cropped to the common box.
        pair_runs: the pairs.
        data_range: as in :func:`ms_ssim`.
        valid: bool ``(n, y, x)``.
        scales: how many scales to compute.
        volume: also the 3D form; its maps are averaged over bands, so it has one band.
        luminance_at_all_scales: needed for :meth:`SsimTerms.combine` with fewer scales.
    """
    last = scales - 1
    level_terms = [
        compute_level_terms(level, pair_runs, volume=volume, luminance=luminance_at_all_scales or index == last)
        for index, level in enumerate(iterate_pyramid(cubes, data_range, valid, scales))
    ]
    plane_terms = np.stack([terms[0] for terms in level_terms], axis=1)
    if not volume:
        return [SsimTerms(*plane_terms)]
    volume_terms = np.stack([terms[1] for terms in level_terms], axis=1)
    return [SsimTerms(*plane_terms), SsimTerms(*volume_terms.mean(axis=-1, keepdims=True))]


def _crop_to_common_box(cubes: NDArray[Any], fields: NDArray[Any] | None) -> tuple[NDArray[Any], BoolArray]:
    """Return cubes and valid pixels, cropped to the box of the pixels that at least two cubes have in common."""
    valid = find_valid_pixels(cubes, fields)
    box = find_bounding_box(valid.sum(axis=0, keepdims=True) >= min(2, len(cubes)))
    return cubes[..., *box], valid[:, *box]


def list_pair_runs(n_images: int) -> list[PairRun]:
    """Return all pairs of n images, in the order of ``np.triu_indices(n, 1)``."""
    return [PairRun(i, i + 1, n_images) for i in range(n_images - 1)]


def _list_matched_runs(n_pairs: int) -> list[PairRun]:
    """Return the pairs of image i with image n + i."""
    return [PairRun(i, n_pairs + i, n_pairs + i + 1) for i in range(n_pairs)]


def _expand_pairs(pair_runs: Sequence[PairRun]) -> list[tuple[int, int]]:
    return [(run.left, right) for run in pair_runs for right in range(run.start, run.stop)]
