"""Maps of structural similarity (Wang et al., 2004) over pairs of cubes, averaged, for many pairs at once.

Local means and variances belong to an image and are computed once for each, whatever the number of pairs; a
pair costs one filtered product. Work goes by strips of rows: memory stays low, and the maps stay in cache.

Images come in divided by the data range and less a shift by band: contrast and structure do not depend on a
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

from hseval.metrics.ssim.fields import WINDOW

if TYPE_CHECKING:
    from torch import Tensor

SIGMA = 1.5  # px, and bands: Wang et al. (2004)
BANDS = 5  # window along bands of the 3D form
TILE = 32  # columns that one product yields: wider wastes work on zeros, narrower starves the library
TILE_ROWS = 18  # the same for rows, whose products are wide already


def gaussian(size: int) -> NDArray[np.float64]:
    """Return the Gaussian window of an odd ``size``, of sum 1."""
    offset = np.arange(size) - size // 2
    window = np.exp(-(offset**2) / (2 * SIGMA**2))
    return np.asarray(window / window.sum())


def bands_window(bands: int) -> int:
    """Return the length of the window along bands: 5, or the largest odd number of bands there is."""
    return min(BANDS, bands - 1 + bands % 2)


class Filters:
    """The window's mean over images ``(y, n, band, x)`` of one size and type, where it lies inside the image.

    Rows come first, so that all images and bands of a strip are filtered along y in one wide product.
    """

    def __init__(self, like: Tensor) -> None:
        self.bands, width = like.shape[2:]
        self.columns = width - WINDOW + 1
        self.across = _banded(WINDOW, min(TILE, self.columns), like).T.contiguous()
        self.down = _banded(WINDOW, TILE_ROWS, like)
        depth = bands_window(self.bands)
        self.along = _banded(depth, self.bands - depth + 1, like)
        self._held: dict[str, Tensor] = {}

    def plane(self, images: Tensor, *, less: Tensor) -> Tensor:
        """Return the filtered ``(y - 10, n, band, x - 10)`` minus ``less``, in the memory of ``less``."""
        lines = self._down(images.view(len(images), -1)).view(-1, images.shape[-1])
        flat = less.view(-1, self.columns)
        wide = self.across.shape[1]
        for left in range(0, self.columns, wide):
            number = min(wide, self.columns - left)
            window = self.across[: number + WINDOW - 1, :number]
            flat[:, left : left + number].addmm_(lines[:, left : left + number + WINDOW - 1], window, beta=-1)
        return less

    def deep(self, maps: Tensor) -> Tensor:
        """Return maps ``(y, n, band, x)`` filtered along bands."""
        return self.along @ maps

    def scratch(self, name: str, *shape: int) -> Tensor:
        """Return memory of that shape that the next call with the same name hands out again.

        Fresh memory for every map costs as much as filling it.
        """
        size = math.prod(shape)
        held = self._held.get(name)
        if held is None or held.numel() < size:
            held = self._held[name] = self.across.new_empty(size)
        return held[:size].view(shape)

    def value(self, number: float) -> Tensor:
        """Return a number as the tensor that torch's fused operations ask for."""
        return self.across.new_tensor(number)

    def _down(self, images: Tensor) -> Tensor:
        """Filter ``(y, value)`` along y, a tile of rows at a time."""
        import torch

        rows = len(images) - WINDOW + 1
        result = self.scratch("down", rows, images.shape[1])
        for top in range(0, rows, TILE_ROWS):
            tall = min(TILE_ROWS, rows - top)
            window = self.down[:tall, : tall + WINDOW - 1]
            torch.mm(window, images[top : top + tall + WINDOW - 1], out=result[top : top + tall])
        return result


def _banded(size: int, outputs: int, like: Tensor) -> Tensor:
    """Return ``(outputs, outputs + size - 1)``; row i holds the window from column i on."""
    matrix = np.zeros((outputs, outputs + size - 1))
    for row in range(outputs):
        matrix[row, row : row + size] = gaussian(size)
    return like.new_tensor(matrix)


C1, C2 = 0.01**2, 0.03**2  # (K1 L)^2 and (K2 L)^2 at the data range L = 1
RUN = 1 << 21  # values that the maps of one run of pairs may hold: more leave the cache, fewer cost overhead
ROWS = 54  # of windows that a strip may hold


class Fan(NamedTuple):
    """Pairs of one image with a run of others: ``(left, start) ... (left, stop - 1)``."""

    left: int
    start: int
    stop: int


@dataclasses.dataclass(frozen=True)
class Level:
    """Images at one scale.

    Attributes:
        images: ``(y, n, band, x)``, less the shift.
        shift: ``(band, 1)``, what was subtracted.
        windows: bool ``(y - 10, n, 1, x - 10)``, the windows inside each field; None: all are.
    """

    images: Tensor
    shift: Tensor
    windows: Tensor | None

    def bands(self, which: slice) -> Level:
        """Return the same level with fewer bands."""
        return Level(self.images[:, :, which], self.shift[which], self.windows)


class Light(NamedTuple):
    """What the luminance term takes of images, ``(y, n, band, x)`` each."""

    mean: Tensor  # with the shift added back
    energy: Tensor  # its square / 2 + C1 / 4


class Moments(NamedTuple):
    """Local statistics of images, ``(y, n, band, x)`` each; halves, so that those of two images add up."""

    mean: Tensor  # about the shift
    spread: Tensor  # variance / 2 + C2 / 4
    light: Light | None


@dataclasses.dataclass(frozen=True)
class Strip:
    """Some rows of a level: pixels, local statistics in the plane and, for the 3D form, in the volume."""

    pixels: Tensor
    plane: Moments
    volume: Moments | None
    about: Tensor  # the plane's means about a shift common to all bands
    weights: Tensor | None  # 1 where a window lies inside the field, ``(y, n, 1, x)``


def level_terms(level: Level, fans: Sequence[Fan], *, volume: bool, luminance: bool) -> list[NDArray[np.float64]]:
    """Return the averages of the 2D maps and, if ``volume``, of the 3D maps: ``(2, pair, band)`` each.

    First contrast times structure, then the same times luminance (left at 0 unless ``luminance``). Pairs come
    in the fans' order; one without a common window gets NaN.
    """
    bands = level.images.shape[2]
    group = bands if volume else _bands_at_once(level, fans)
    parts = [
        _group_terms(level.bands(slice(first, first + group)), fans, volume=volume, luminance=luminance)
        for first in range(0, bands, group)
    ]
    return [np.concatenate(forms, axis=-1) for forms in zip(*parts, strict=True)]


def _group_terms(level: Level, fans: Sequence[Fan], *, volume: bool, luminance: bool) -> list[NDArray[np.float64]]:
    """Return what :func:`level_terms` does, all bands at once."""
    import torch

    height, _, bands, width = level.images.shape
    filters = Filters(level.images)
    pairs = sum(fan.stop - fan.start for fan in fans)
    depths = [bands, len(filters.along)] if volume else [bands]
    sums = [torch.zeros(2, pairs, depth, dtype=torch.float64) for depth in depths]
    counts = torch.zeros(pairs, 1, dtype=torch.float64)
    rows = _rows_of_a_strip(bands, height, width)
    for top in range(0, height - WINDOW + 1, rows):
        strip = _strip(level, filters, top, rows, volume=volume, luminance=luminance)
        for at, fan in _runs(fans, max(1, RUN // strip.pixels[:, 0].numel())):
            counts[at] += _common_windows(strip, filters, fan)
            for total, maps in zip(sums, _maps(strip, filters, fan), strict=True):
                _add_sums(total[:, at], maps, strip, filters, fan)
    return [(total / counts).numpy() for total in sums]


def _bands_at_once(level: Level, fans: Sequence[Fan]) -> int:
    """Return how many bands to take: independent in 2D, so as few as still keep the cache full."""
    height, _, bands, width = level.images.shape
    longest = max(fan.stop - fan.start for fan in fans)
    return min(bands, max(1, RUN // (longest * min(height, ROWS + WINDOW - 1) * width)))


def _rows_of_a_strip(bands: int, height: int, width: int) -> int:
    """Return how many rows of windows a strip has: strips are even, and as tall as RUN and ROWS allow."""
    rows = height - WINDOW + 1
    most = max(WINDOW, min(ROWS, RUN // (bands * width) - WINDOW + 1))
    return -(-rows // -(-rows // most))


def _runs(fans: Iterable[Fan], longest: int) -> Iterator[tuple[slice, Fan]]:
    """Yield the fans cut into runs of at most ``longest`` pairs, each with its place among all pairs."""
    done = 0
    for fan in fans:
        for start in range(fan.start, fan.stop, longest):
            stop = min(start + longest, fan.stop)
            yield slice(done, done + stop - start), Fan(fan.left, start, stop)
            done += stop - start


def _strip(level: Level, filters: Filters, top: int, rows: int, *, volume: bool, luminance: bool) -> Strip:
    """Compute what belongs to single images: windows from row ``top`` on."""
    pixels = level.images[top : top + rows + WINDOW - 1].contiguous()
    zero = pixels.new_zeros(len(pixels) - WINDOW + 1, *pixels.shape[1:3], filters.columns)
    mean = filters.plane(pixels, less=zero)
    variance = filters.plane(pixels * pixels, less=mean * mean)
    weights = None if level.windows is None else level.windows[top : top + rows].to(pixels.dtype)
    plane = _moments(mean, variance, level.shift, luminance=luminance)
    if not volume:
        return Strip(pixels, plane, None, mean, weights)
    # One common shift: the window along bands has to see that bands differ in their means. By the law of
    # total variance, a window's variance is that within its bands and that between them.
    common = level.shift.mean()
    about = mean + (level.shift - common)
    deep = filters.deep(about)
    total = filters.deep(variance + about * about) - deep * deep
    return Strip(pixels, plane, _moments(deep, total, common, luminance=luminance), about, weights)


def _moments(mean: Tensor, variance: Tensor, shift: Tensor, *, luminance: bool) -> Moments:
    light = None
    if luminance:
        true_mean = mean + shift
        light = Light(true_mean, true_mean.square().div_(2).add_(C1 / 4))
    return Moments(mean, (variance / 2).add_(C2 / 4), light)


class _Maps(NamedTuple):
    """A fan's maps of covariance + C2 / 2 (half the contrast term's numerator), and whose moments go with it."""

    covariance: Tensor
    moments: Moments


def _maps(strip: Strip, filters: Filters, fan: Fan) -> Iterator[_Maps]:
    """Yield a fan's maps in the plane and, where the strip has a volume, in the volume."""
    import torch

    product = _combined(torch.mul, strip.pixels, fan, filters.scratch, "product")
    products_less = functools.partial(torch.addcmul, filters.value(-C2 / 2))
    less = _combined(products_less, strip.plane.mean, fan, filters.scratch, "covariance")
    covariance = filters.plane(product, less=less)
    if strip.volume is None:
        yield _Maps(covariance, strip.plane)
        return
    between = _combined(torch.mul, strip.about, fan, filters.scratch, "between").add_(covariance)
    means = _combined(torch.mul, strip.volume.mean, fan, filters.scratch, "means")
    deep = filters.deep(between).sub_(means)
    yield _Maps(covariance, strip.plane)
    yield _Maps(deep, strip.volume)


def _add_sums(total: Tensor, maps: _Maps, strip: Strip, filters: Filters, fan: Fan) -> None:
    """Add to ``total`` ``(2, m, band)`` the sums over windows that :func:`level_terms` averages."""
    import torch

    moments, scratch = maps.moments, filters.scratch
    contrast = maps.covariance.div_(_combined(torch.add, moments.spread, fan, scratch, "spread"))
    if strip.weights is not None:
        contrast.mul_(_combined(torch.mul, strip.weights, fan, scratch, "weights"))
    total[0] += contrast.sum(dim=3).sum(dim=0)
    if moments.light is not None:
        light = _combined(torch.mul, moments.light.mean, fan, scratch, "light").add_(C1 / 2)
        light.div_(_combined(torch.add, moments.light.energy, fan, scratch, "energy"))
        total[1] += light.mul_(contrast).sum(dim=3).sum(dim=0)


def _common_windows(strip: Strip, filters: Filters, fan: Fan) -> Tensor | int:
    import torch

    if strip.weights is None:
        return strip.plane.mean[:, 0, 0].numel()
    return _combined(torch.mul, strip.weights, fan, filters.scratch, "weights").sum(dim=3).sum(dim=0)


def _combined(
    how: Callable[..., Tensor], values: Tensor, fan: Fan, scratch: Callable[..., Tensor], name: str
) -> Tensor:
    """Return the left image's values multiplied by, or added to, those of its partners: ``(y, m, band, x)``."""
    rows, _, bands, columns = values.shape
    out = scratch(name, rows, fan.stop - fan.start, bands, columns)
    return how(values[:, fan.left : fan.left + 1], values[:, fan.start : fan.stop], out=out)
