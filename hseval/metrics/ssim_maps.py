"""Maps of structural similarity (Wang et al., 2004) over pairs of cubes, averaged, for many pairs at once.

Local means and variances belong to an image and are computed once for each, whatever the number of pairs; a
pair costs one filtered product. Work goes by strips of rows: memory stays low, and the maps stay in cache.

Images come in divided by the data range and less a shift by band: contrast and structure do not depend on a
shift, and small numbers cancel less.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hseval.metrics.ssim_fields import WINDOW
from hseval.metrics.ssim_filters import Filters

if TYPE_CHECKING:
    from torch import Tensor

C1, C2 = 0.01**2, 0.03**2  # (K1 L)^2 and (K2 L)^2 at the data range L = 1
CACHED = 1 << 18  # values that one map of a strip may hold
ROWS = 54  # of windows in a strip: more wastes work on the banded matrix's zeros, fewer on the overlap of strips


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

    def bands(self, which: slice) -> Level:
        """Return the same level with fewer bands."""
        return Level(self.images[:, which], self.shift[which], self.windows)


class Moments(NamedTuple):
    """Local statistics of images, ``(n, band, y, x)`` each; halves, so that those of two images add up."""

    mean: Tensor  # about the shift
    spread: Tensor  # variance / 2 + C2 / 4
    true_mean: Tensor  # with the shift added back
    energy: Tensor  # true mean^2 / 2 + C1 / 4


@dataclasses.dataclass(frozen=True)
class Strip:
    """Some rows of a level: pixels, local statistics in the plane and, for the 3D form, in the volume."""

    pixels: Tensor
    plane: Moments
    volume: Moments | None
    about: Tensor  # the plane's means about a shift common to all bands
    weights: Tensor | None  # 1 where a window lies inside the field, ``(n, 1, y, x)``


def level_terms(level: Level, fans: Sequence[Fan], *, volume: bool, luminance: bool) -> list[NDArray[np.float64]]:
    """Return the averages of the 2D maps and, if ``volume``, of the 3D maps: ``(2, pair, band)`` each.

    First contrast times structure, then the same times luminance (left at 0 unless ``luminance``). Pairs come
    in the fans' order; one without a common window gets NaN.
    """
    bands, longest = level.images.shape[1], max(fan.stop - fan.start for fan in fans)
    # Bands are independent in 2D: the more images share a strip, the fewer bands it takes to fill the cache.
    group = bands if volume else max(1, bands // longest)
    parts = [
        _band_group_terms(level.bands(slice(first, first + group)), fans, volume=volume, luminance=luminance)
        for first in range(0, bands, group)
    ]
    return [np.concatenate(forms, axis=-1) for forms in zip(*parts, strict=True)]


def _band_group_terms(
    level: Level, fans: Sequence[Fan], *, volume: bool, luminance: bool
) -> list[NDArray[np.float64]]:
    import torch

    bands, height, width = level.images.shape[1:]
    rows = _rows_of_a_strip(bands, height, width)
    filters = Filters(level.images, rows)
    pairs = sum(fan.stop - fan.start for fan in fans)
    depths = [bands, len(filters.along)] if volume else [bands]
    sums = [torch.zeros(2, pairs, depth, dtype=torch.float64) for depth in depths]
    counts = torch.zeros(pairs, 1, dtype=torch.float64)
    for top in range(0, height - WINDOW + 1, rows):
        strip = _strip(level, filters, top, rows, volume=volume)
        for at, fan in _runs(fans, max(1, CACHED // strip.pixels[0].numel())):
            counts[at] += _common_windows(strip, fan)
            for total, maps in zip(sums, _maps(strip, filters, fan), strict=True):
                total[:, at] += _summed(maps, strip, fan, luminance=luminance)
    return [(total / counts).numpy() for total in sums]


def _rows_of_a_strip(bands: int, height: int, width: int) -> int:
    """Return how many rows of windows a strip has: even strips, as large as cache and filter like."""
    rows = height - WINDOW + 1
    most = max(WINDOW, min(ROWS, CACHED // (bands * width) - WINDOW + 1))
    return -(-rows // -(-rows // most))


def _runs(fans: Iterable[Fan], longest: int) -> Iterator[tuple[slice, Fan]]:
    """Yield the fans cut into runs of at most ``longest`` pairs, each with its place among all pairs."""
    done = 0
    for fan in fans:
        for start in range(fan.start, fan.stop, longest):
            stop = min(start + longest, fan.stop)
            yield slice(done, done + stop - start), Fan(fan.left, start, stop)
            done += stop - start


def _strip(level: Level, filters: Filters, top: int, rows: int, *, volume: bool) -> Strip:
    """Compute what belongs to single images: windows from row ``top`` on."""
    pixels = level.images[:, :, top : top + rows + WINDOW - 1].contiguous()
    mean = filters.plane(pixels)
    variance = filters.plane(pixels * pixels, less=mean * mean)
    plane = _moments(mean, variance, level.shift)
    weights = None
    if level.windows is not None:
        weights = level.windows[:, None, top : top + rows].to(pixels.dtype)
    if not volume:
        return Strip(pixels, plane, None, mean, weights)
    # One common shift: the window along bands has to see that bands differ in their means. By the law of
    # total variance, a window's variance is that within its bands and that between them.
    common = level.shift.mean()
    about = mean + (level.shift - common)
    deep = filters.bands(about)
    total = filters.bands(variance + about * about) - deep * deep
    return Strip(pixels, plane, _moments(deep, total, common), about, weights)


def _moments(mean: Tensor, variance: Tensor, shift: Tensor) -> Moments:
    true_mean = mean + shift
    return Moments(mean, variance / 2 + C2 / 4, true_mean, true_mean * true_mean / 2 + C1 / 4)


class _Maps(NamedTuple):
    """A fan's maps of covariance + C2 / 2 (half the contrast term's numerator), and whose moments go with it."""

    covariance: Tensor
    moments: Moments


def _maps(strip: Strip, filters: Filters, fan: Fan) -> Iterator[_Maps]:
    """Yield a fan's maps in the plane and, where the strip has a volume, in the volume."""
    less = _products(strip.plane.mean, fan).sub_(C2 / 2)
    covariance = filters.plane(_products(strip.pixels, fan), less=less)
    if strip.volume is not None:
        between = _products(strip.about, fan).add_(covariance)
        deep = filters.bands(between).sub_(_products(strip.volume.mean, fan))
        yield _Maps(covariance, strip.plane)
        yield _Maps(deep, strip.volume)
    else:
        yield _Maps(covariance, strip.plane)


def _summed(maps: _Maps, strip: Strip, fan: Fan, *, luminance: bool) -> Tensor:
    """Return the sums over windows of contrast times structure, and of that times luminance, ``(2, m, band)``."""
    import torch

    moments = maps.moments
    contrast = maps.covariance.div_(_sums(moments.spread, fan))
    if strip.weights is not None:
        contrast.mul_(_products(strip.weights, fan))
    sums = [contrast.sum(dim=(2, 3))]
    if luminance:
        light = _products(moments.true_mean, fan).add_(C1 / 2).div_(_sums(moments.energy, fan))
        sums.append(light.mul_(contrast).sum(dim=(2, 3)))
    else:
        sums.append(torch.zeros_like(sums[0]))
    return torch.stack(sums)


def _products(values: Tensor, fan: Fan) -> Tensor:
    return values[fan.left] * values[fan.start : fan.stop]


def _sums(values: Tensor, fan: Fan) -> Tensor:
    return values[fan.left] + values[fan.start : fan.stop]


def _common_windows(strip: Strip, fan: Fan) -> Tensor | int:
    if strip.weights is None:
        return strip.plane.mean[0, 0].numel()
    return _products(strip.weights, fan).sum(dim=(2, 3))
