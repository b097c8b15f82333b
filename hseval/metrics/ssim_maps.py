"""Maps of structural similarity over pairs of cubes, averaged, for many pairs at once.

Local means and variances belong to an image and are computed once for each, whatever the number of pairs; a
pair costs one filtered product. The Gaussian filter is a product with a banded matrix, in tiles, so that the
matrix library does it. Work goes by strips of rows: memory stays low, and intermediate maps stay in cache.

Images come in divided by the data range and less a shift by band: structure and contrast do not depend on a
shift, and small numbers cancel less.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hseval.metrics.ssim_fields import WINDOW

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SIGMA = 1.5  # px, and bands: Wang et al. (2004)
BANDS = 5  # window along bands of the 3D form
C1, C2 = 0.01**2, 0.03**2  # (K1 L)^2 and (K2 L)^2 at data range L = 1
TILE = 32  # columns that one product with the banded matrix yields
CACHED = 1 << 18  # values that one map of a strip may hold


class Fan(NamedTuple):
    """Pairs of one image with a run of others: ``(left, start) ... (left, stop - 1)``."""

    left: int
    start: int
    stop: int


@dataclasses.dataclass(frozen=True)
class Level:
    """Images at one scale.

    Attributes:
        images: ``(n, band, y, x)``, less the shift.
        shift: ``(band, 1, 1)``, what was subtracted.
        windows: bool ``(n, y - 10, x - 10)``, the windows inside each field; None: all are.
    """

    images: Tensor
    shift: Tensor
    windows: Tensor | None


class Moments(NamedTuple):
    """Local statistics of images over a strip, ``(n, band, y, x)`` each."""

    mean: Tensor  # about the shift
    true_mean: Tensor  # with the shift added back
    spread: Tensor  # variance / 2 + C2 / 4; those of two images add up to half the contrast term's denominator


def level_terms(level: Level, fans: Sequence[Fan], *, volume: bool, luminance: bool) -> list[NDArray[np.float64]]:
    """Return the averages of the 2D maps, and then, if ``volume``, those of the 3D maps.

    Each is ``(2, pair, band)``, pairs in the fans' order: contrast times structure, and the same times
    luminance (0 unless ``luminance`` asks for it). A pair without a common window gets NaN.
    """
    import torch

    filters = Filters(level.images)
    pairs = sum(fan.stop - fan.start for fan in fans)
    bands = [level.images.shape[1], len(filters.along)][: 1 + volume]
    sums = [torch.zeros(2, pairs, band, dtype=torch.float64) for band in bands]
    counts = torch.zeros(pairs, 1, dtype=torch.float64)
    for top, bottom in filters.strips():
        strip = level.images[:, :, top : bottom + WINDOW - 1]
        windows = None if level.windows is None else level.windows[:, top:bottom]
        moments = _moments(strip, level.shift, filters, volume=volume)
        first = 0
        for fan in _short(fans, strip[0].numel()):
            at = slice(first, first := first + fan.stop - fan.start)
            weights, number = _common(windows, fan, moments[0].mean)
            counts[at] += number
            for total, maps in zip(sums, _similarity(strip, moments, filters, fan, luminance), strict=True):
                for kind, values in enumerate(maps):
                    total[kind, at] += _summed(values, weights)
    return [(total / counts).numpy() for total in sums]


class Filters:
    """The separable Gaussian for images of one size, as banded matrices; valid windows only."""

    def __init__(self, images: Tensor) -> None:
        bands, self.height, self.width = images.shape[1:]
        self.rows = self.height - WINDOW + 1
        self.columns = self.width - WINDOW + 1
        most = max(8, CACHED // (bands * self.width))
        self.step = -(-self.rows // -(-self.rows // most))
        self.across = _banded(WINDOW, min(TILE, self.columns), images.dtype).T.contiguous()
        self.down = _banded(WINDOW, self.step, images.dtype)
        depth = min(BANDS, bands - 1 + bands % 2)
        self.along = _banded(depth, bands - depth + 1, images.dtype)

    def strips(self) -> Iterator[tuple[int, int]]:
        """Yield the first and last (exclusive) row of windows of each strip."""
        for top in range(0, self.rows, self.step):
            yield top, min(top + self.step, self.rows)

    def plane(self, images: Tensor, *, less: Tensor | None = None) -> Tensor:
        """Return the 2D filtered ``(..., y, x)``, minus ``less`` (which it may overwrite)."""
        import torch

        narrow = self._across(images.reshape(-1, self.width))
        narrow = narrow.view(-1, images.shape[-2], self.columns)
        rows = images.shape[-2] - WINDOW + 1
        down = self.down[:rows, : images.shape[-2]].expand(len(narrow), -1, -1)
        if less is None:
            filtered = torch.bmm(down, narrow)
        else:
            filtered = less.view(-1, rows, self.columns).baddbmm_(down, narrow, beta=-1)
        return filtered.view(*images.shape[:-2], rows, self.columns)

    def bands(self, maps: Tensor) -> Tensor:
        """Return maps ``(n, band, y, x)`` filtered along bands."""
        flat = maps.reshape(len(maps), maps.shape[1], -1)
        return (self.along @ flat).view(len(maps), -1, *maps.shape[2:])

    def _across(self, lines: Tensor) -> Tensor:
        """Filter ``(line, x)`` along x, a tile of columns at a time; the last tile overlaps the one before."""
        import torch

        narrow = lines.new_empty(len(lines), self.columns)
        reach, wide = self.across.shape
        for start in range(0, self.columns, wide):
            left = min(start, self.columns - wide)
            torch.mm(lines[:, left : left + reach], self.across, out=narrow[:, left : left + wide])
        return narrow


def gaussian(size: int) -> NDArray[np.float64]:
    """Return the Gaussian window of ``size`` samples, of sum 1."""
    offset = np.arange(size) - size // 2
    window = np.exp(-(offset**2) / (2 * SIGMA**2))
    return np.asarray(window / window.sum())


def _banded(size: int, outputs: int, dtype: torch.dtype) -> Tensor:
    """Return ``(outputs, outputs + size - 1)``: row i holds the window from column i on."""
    import torch

    matrix = np.zeros((outputs, outputs + size - 1))
    for row in range(outputs):
        matrix[row, row : row + size] = gaussian(size)
    return torch.from_numpy(matrix).to(dtype)


def _moments(strip: Tensor, shift: Tensor, filters: Filters, *, volume: bool) -> list[Moments]:
    """Return the local statistics of each image: in the plane, and then, if ``volume``, in the volume."""
    mean = filters.plane(strip)
    variance = filters.plane(strip * strip, less=mean * mean)
    found = [Moments(mean, mean + shift, variance / 2 + C2 / 4)]
    if volume:
        # One common shift, or the window along bands would not see the bands' different means.
        level = shift.mean()
        about = mean + (shift - level)
        deep = filters.bands(about)
        # Law of total variance: within bands, and between them.
        total = filters.bands(variance + about * about) - deep * deep
        found.append(Moments(deep, deep + level, total / 2 + C2 / 4))
    return found


def _similarity(
    strip: Tensor, moments: list[Moments], filters: Filters, fan: Fan, luminance: bool
) -> Iterator[Iterator[Tensor]]:
    """Yield, in the plane and then in the volume, the maps of a fan's pairs (see :func:`level_terms`)."""
    plane = moments[0]
    # Covariance + C2 / 2 throughout: half the contrast term's numerator.
    less = _products(plane.mean, fan).sub_(C2 / 2)
    covariance = filters.plane(_products(strip, fan), less=less)
    if len(moments) == 1:
        yield _maps(covariance, plane, fan, luminance)
        return
    volume = moments[1]
    about = plane.mean + 0
    deep = filters.bands(covariance + _products(about, fan)) - _products(volume.mean, fan)
    yield _maps(covariance, plane, fan, luminance)
    yield _maps(deep, volume, fan, luminance)
