"""Averages of structural similarity maps (Wang et al., 2004), for many pairs of cubes at once.

Local means and variances belong to an image and are computed once for each, whatever the number of pairs; a
pair costs one filtered product. Maps are computed in strips of rows: memory stays low, and the maps stay in cache.

Images are divided by the data range and shifted by band beforehand: contrast and structure do not depend on a
shift, and small numbers cancel less.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hseval.metrics.ssim.fields import WINDOW_SIZE

if TYPE_CHECKING:
    from torch import Tensor

SIGMA = 1.5  # px, and bands: Wang et al. (2004)
MAX_BAND_WINDOW = 5  # window along bands of the 3D form
TILE_COLUMNS = 32  # columns of one matrix product: wider wastes work on zeros, narrower is slow in BLAS
TILE_ROWS = 18  # the same for rows, whose products are wide already


def gaussian_window(size: int) -> NDArray[np.float64]:
    """Return the Gaussian window of an odd ``size``, of sum 1."""
    offset = np.arange(size) - size // 2
    window = np.exp(-(offset**2) / (2 * SIGMA**2))
    return np.asarray(window / window.sum())


def compute_band_window(bands: int) -> int:
    """Return the length of the window along bands: 5, or the largest odd number up to the number of bands."""
    return min(MAX_BAND_WINDOW, bands - 1 + bands % 2)


class WindowFilters:
    """Window means of images ``(y, n, band, x)`` of one size and type, for windows inside the image.

    Rows come first, so that all images and bands of a strip are filtered along y in one wide product.
    """

    def __init__(self, like: Tensor) -> None:
        self.bands, width = like.shape[2:]
        self.columns = width - WINDOW_SIZE + 1
        self.column_matrix = _build_banded_matrix(WINDOW_SIZE, min(TILE_COLUMNS, self.columns), like).T.contiguous()
        self.row_matrix = _build_banded_matrix(WINDOW_SIZE, TILE_ROWS, like)
        depth = compute_band_window(self.bands)
        self.band_matrix = _build_banded_matrix(depth, self.bands - depth + 1, like)
        self._scratch_buffers: dict[str, Tensor] = {}

    def filter_plane(self, images: Tensor, *, subtrahend: Tensor) -> Tensor:
        """Return the filtered images ``(y - 10, n, band, x - 10)`` minus ``subtrahend``, in place of ``subtrahend``."""
        filtered_rows = self._filter_rows(images.view(len(images), -1)).view(-1, images.shape[-1])
        flat = subtrahend.view(-1, self.columns)
        tile_width = self.column_matrix.shape[1]
        for left in range(0, self.columns, tile_width):
            width = min(tile_width, self.columns - left)
            window = self.column_matrix[: width + WINDOW_SIZE - 1, :width]
            flat[:, left : left + width].addmm_(
                filtered_rows[:, left : left + width + WINDOW_SIZE - 1], window, beta=-1
            )
        return subtrahend

    def filter_along_bands(self, maps: Tensor) -> Tensor:
        """Return maps ``(y, n, band, x)`` filtered along bands."""
        return self.band_matrix @ maps

    def get_scratch(self, name: str, *shape: int) -> Tensor:
        """Return a buffer of that shape, which the next call with the same name reuses.

        Allocating memory for every map costs as much as filling it.
        """
        size = math.prod(shape)
        buffer = self._scratch_buffers.get(name)
        if buffer is None or buffer.numel() < size:
            buffer = self._scratch_buffers[name] = self.column_matrix.new_empty(size)
        return buffer[:size].view(shape)

    def make_scalar(self, number: float) -> Tensor:
        """Return a number as a tensor, as torch's fused operations require."""
        return self.column_matrix.new_tensor(number)

    def _filter_rows(self, images: Tensor) -> Tensor:
        """Filter ``(y, value)`` along y, a tile of rows at a time."""
        import torch

        rows = len(images) - WINDOW_SIZE + 1
        result = self.get_scratch("filtered rows", rows, images.shape[1])
        for top in range(0, rows, TILE_ROWS):
            height = min(TILE_ROWS, rows - top)
            window = self.row_matrix[:height, : height + WINDOW_SIZE - 1]
            torch.mm(window, images[top : top + height + WINDOW_SIZE - 1], out=result[top : top + height])
        return result


def _build_banded_matrix(size: int, outputs: int, like: Tensor) -> Tensor:
    """Return ``(outputs, outputs + size - 1)``; row i is the window, from column i on."""
    matrix = np.zeros((outputs, outputs + size - 1))
    for row in range(outputs):
        matrix[row, row : row + size] = gaussian_window(size)
    return like.new_tensor(matrix)


C1, C2 = 0.01**2, 0.03**2  # (K1 L)^2 and (K2 L)^2 at the data range L = 1
MAX_RUN_VALUES = 1 << 21  # values in the maps of one run of pairs: more exceed the cache, fewer add overhead
MAX_STRIP_ROWS = 54  # rows of windows in a strip


class PairRun(NamedTuple):
    """Pairs of one image with consecutive others: ``(left, start) ... (left, stop - 1)``."""

    left: int
    start: int
    stop: int


@dataclasses.dataclass(frozen=True)
class PyramidLevel:
    """Images at one scale.

    Attributes:
        images: ``(y, n, band, x)``, minus the shift.
        shift: ``(band, 1)``, subtracted from the images.
        windows: bool ``(y - 10, n, 1, x - 10)``, the windows inside each field; None: all are.
    """

    images: Tensor
    shift: Tensor
    windows: Tensor | None

    def select_bands(self, band_slice: slice) -> PyramidLevel:
        """Return the same level with fewer bands."""
        return PyramidLevel(self.images[:, :, band_slice], self.shift[band_slice], self.windows)


class Luminance(NamedTuple):
    """Inputs of the luminance term, ``(y, n, band, x)`` each."""

    mean: Tensor  # with the shift added back
    energy: Tensor  # mean^2 / 2 + C1 / 4


class LocalMoments(NamedTuple):
    """Local statistics of images, ``(y, n, band, x)`` each; halves, so that a pair's value is a sum of two."""

    mean: Tensor  # minus the shift
    half_variance: Tensor  # variance / 2 + C2 / 4
    luminance: Luminance | None


@dataclasses.dataclass(frozen=True)
class ImageStrip:
    """A strip of rows of a level: pixels, local statistics in the plane and, for the 3D form, in the volume."""

    pixels: Tensor
    moments_2d: LocalMoments
    moments_3d: LocalMoments | None
    centered_means: Tensor  # the plane's means, minus a shift common to all bands
    window_weights: Tensor | None  # 1 where a window lies inside the field, ``(y, n, 1, x)``


def compute_level_terms(
    level: PyramidLevel, pair_runs: Sequence[PairRun], *, volume: bool, luminance: bool
) -> list[NDArray[np.float64]]:
    """Return the averages of the 2D maps and, if ``volume``, of the 3D maps: ``(2, pair, band)`` each.

    The first axis is contrast times structure, then the same times luminance (0 unless ``luminance``). Pairs are in
    the order of ``pair_runs``; a pair without a common window is NaN.
    """
    bands = level.images.shape[2]
    group_size = bands if volume else _count_bands_per_group(level, pair_runs)
    groups = [
        _compute_group_terms(
            level.select_bands(slice(first, first + group_size)), pair_runs, volume=volume, luminance=luminance
        )
        for first in range(0, bands, group_size)
    ]
    return [np.concatenate(forms, axis=-1) for forms in zip(*groups, strict=True)]


def _compute_group_terms(
    level: PyramidLevel, pair_runs: Sequence[PairRun], *, volume: bool, luminance: bool
) -> list[NDArray[np.float64]]:
    """Return the terms of :func:`compute_level_terms`, all bands at once."""
    import torch

    height, _, bands, width = level.images.shape
    filters = WindowFilters(level.images)
    n_pairs = sum(run.stop - run.start for run in pair_runs)
    depths = [bands, len(filters.band_matrix)] if volume else [bands]
    sums = [torch.zeros(2, n_pairs, depth, dtype=torch.float64) for depth in depths]
    counts = torch.zeros(n_pairs, 1, dtype=torch.float64)
    rows = _count_strip_rows(bands, height, width)
    for top in range(0, height - WINDOW_SIZE + 1, rows):
        strip = _compute_strip(level, filters, top, rows, volume=volume, luminance=luminance)
        for index, run in _split_runs(pair_runs, max(1, MAX_RUN_VALUES // strip.pixels[:, 0].numel())):
            counts[index] += _count_common_windows(strip, filters, run)
            for total, maps in zip(sums, _compute_covariance_maps(strip, filters, run), strict=True):
                _add_sums(total[:, index], maps, strip, filters, run)
    return [(total / counts).numpy() for total in sums]


def _count_bands_per_group(level: PyramidLevel, pair_runs: Sequence[PairRun]) -> int:
    """Return how many bands to process together: in 2D bands are independent, so as few as fill the cache."""
    height, _, bands, width = level.images.shape
    longest = max(run.stop - run.start for run in pair_runs)
    return min(bands, max(1, MAX_RUN_VALUES // (longest * min(height, MAX_STRIP_ROWS + WINDOW_SIZE - 1) * width)))


def _count_strip_rows(bands: int, height: int, width: int) -> int:
    """Return how many rows of windows a strip has: as many as ``MAX_RUN_VALUES`` and ``MAX_STRIP_ROWS`` allow."""
    rows = height - WINDOW_SIZE + 1
    max_rows = max(WINDOW_SIZE, min(MAX_STRIP_ROWS, MAX_RUN_VALUES // (bands * width) - WINDOW_SIZE + 1))
    return -(-rows // -(-rows // max_rows))


def _split_runs(pair_runs: Iterable[PairRun], max_pairs: int) -> Iterator[tuple[slice, PairRun]]:
    """Yield the runs split into runs of at most ``max_pairs`` pairs, each with its slice of all pairs."""
    done = 0
    for run in pair_runs:
        for start in range(run.start, run.stop, max_pairs):
            stop = min(start + max_pairs, run.stop)
            yield slice(done, done + stop - start), PairRun(run.left, start, stop)
            done += stop - start


def _compute_strip(
    level: PyramidLevel, filters: WindowFilters, top: int, rows: int, *, volume: bool, luminance: bool
) -> ImageStrip:
    """Compute the local statistics of the windows from row ``top`` on."""
    pixels = level.images[top : top + rows + WINDOW_SIZE - 1].contiguous()
    zero = pixels.new_zeros(len(pixels) - WINDOW_SIZE + 1, *pixels.shape[1:3], filters.columns)
    mean = filters.filter_plane(pixels, subtrahend=zero)
    variance = filters.filter_plane(pixels * pixels, subtrahend=mean * mean)
    weights = None if level.windows is None else level.windows[top : top + rows].to(pixels.dtype)
    plane = _compute_moments(mean, variance, level.shift, luminance=luminance)
    if not volume:
        return ImageStrip(pixels, plane, None, mean, weights)
    # One common shift: the window along bands has to include how bands differ in their means. By the law of
    # total variance, a window's variance is the variance within its bands plus that between them.
    common = level.shift.mean()
    centered = mean + (level.shift - common)
    volume_mean = filters.filter_along_bands(centered)
    volume_variance = filters.filter_along_bands(variance + centered * centered) - volume_mean * volume_mean
    moments_3d = _compute_moments(volume_mean, volume_variance, common, luminance=luminance)
    return ImageStrip(pixels, plane, moments_3d, centered, weights)


def _compute_moments(mean: Tensor, variance: Tensor, shift: Tensor, *, luminance: bool) -> LocalMoments:
    terms = None
    if luminance:
        true_mean = mean + shift
        terms = Luminance(true_mean, true_mean.square().div_(2).add_(C1 / 4))
    return LocalMoments(mean, (variance / 2).add_(C2 / 4), terms)


class _CovarianceMaps(NamedTuple):
    """A run's maps of covariance + C2 / 2 (half the contrast term's numerator), and the moments that belong to them."""

    covariance: Tensor
    moments: LocalMoments


def _compute_covariance_maps(strip: ImageStrip, filters: WindowFilters, pair_run: PairRun) -> Iterator[_CovarianceMaps]:
    """Yield a run's maps in the plane and, if the strip has moments in the volume, in the volume."""
    import torch

    product = _combine_pairs(torch.mul, strip.pixels, pair_run, filters.get_scratch, "product")
    multiply_minus = functools.partial(torch.addcmul, filters.make_scalar(-C2 / 2))
    mean_product = _combine_pairs(multiply_minus, strip.moments_2d.mean, pair_run, filters.get_scratch, "covariance")
    covariance = filters.filter_plane(product, subtrahend=mean_product)
    if strip.moments_3d is None:
        yield _CovarianceMaps(covariance, strip.moments_2d)
        return
    between = _combine_pairs(torch.mul, strip.centered_means, pair_run, filters.get_scratch, "between").add_(covariance)
    volume_mean_product = _combine_pairs(torch.mul, strip.moments_3d.mean, pair_run, filters.get_scratch, "means")
    volume_covariance = filters.filter_along_bands(between).sub_(volume_mean_product)
    yield _CovarianceMaps(covariance, strip.moments_2d)
    yield _CovarianceMaps(volume_covariance, strip.moments_3d)


def _add_sums(
    total: Tensor, maps: _CovarianceMaps, strip: ImageStrip, filters: WindowFilters, pair_run: PairRun
) -> None:
    """Add to ``total`` ``(2, m, band)`` the sums over windows that :func:`compute_level_terms` averages."""
    import torch

    moments, scratch = maps.moments, filters.get_scratch
    contrast = maps.covariance.div_(_combine_pairs(torch.add, moments.half_variance, pair_run, scratch, "variances"))
    if strip.window_weights is not None:
        contrast.mul_(_combine_pairs(torch.mul, strip.window_weights, pair_run, scratch, "weights"))
    total[0] += contrast.sum(dim=3).sum(dim=0)
    if moments.luminance is not None:
        luminance = _combine_pairs(torch.mul, moments.luminance.mean, pair_run, scratch, "luminance").add_(C1 / 2)
        luminance.div_(_combine_pairs(torch.add, moments.luminance.energy, pair_run, scratch, "energy"))
        total[1] += luminance.mul_(contrast).sum(dim=3).sum(dim=0)


def _count_common_windows(strip: ImageStrip, filters: WindowFilters, pair_run: PairRun) -> Tensor | int:
    import torch

    if strip.window_weights is None:
        return strip.moments_2d.mean[:, 0, 0].numel()
    return (
        _combine_pairs(torch.mul, strip.window_weights, pair_run, filters.get_scratch, "weights").sum(dim=3).sum(dim=0)
    )


def _combine_pairs(
    operation: Callable[..., Tensor], values: Tensor, pair_run: PairRun, scratch: Callable[..., Tensor], name: str
) -> Tensor:
    """Return the left image's values combined with those of its partners by ``operation``: ``(y, m, band, x)``."""
    rows, _, bands, columns = values.shape
    out = scratch(name, rows, pair_run.stop - pair_run.start, bands, columns)
    return operation(values[:, pair_run.left : pair_run.left + 1], values[:, pair_run.start : pair_run.stop], out=out)
