"""The Gaussian window of a structural similarity, as products with banded matrices in tiles.

A separable filter of 11 taps does little work for each value it moves; as a matrix product it runs at the
speed of the matrix library, several times faster than a grouped convolution.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hseval.metrics.ssim_fields import WINDOW

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
