"""Cubes at the scales of a multi-scale similarity, in the units and the memory layout of the maps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hseval.metrics.ssim.fields import BoolArray, find_windows_by_scale
from hseval.metrics.ssim.maps import PyramidLevel
from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    from torch import Tensor


def iterate_pyramid(
    cubes: NDArray[Any], data_range: float | NDArray[Any], valid: BoolArray, scales: int
) -> Iterator[PyramidLevel]:
    """Yield the cubes at each scale, finest first, in units of the data range and minus their bands' means."""
    images, shift = _normalize_cubes(cubes, data_range, None if valid.all() else _move_rows_first(~valid))
    for index, windows in enumerate(find_windows_by_scale(valid)[:scales]):
        if index:
            images = _halve_images(images, shift)
        yield PyramidLevel(images, shift, None if windows is None else _move_rows_first(windows))


def _normalize_cubes(
    cubes: NDArray[Any], data_range: float | NDArray[Any], invalid: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return a copy of the cubes divided by the data range and minus a shift by band, and the shift."""
    import torch

    bands = cubes.shape[1]
    span = np.broadcast_to(np.asarray(data_range, dtype=np.float64).reshape(-1, 1), (bands, 1))
    if not (np.isfinite(span).all() and (span > 0).all()):
        raise HsevalError(f"data range {np.ravel(data_range)}: expected numbers above 0")
    dtype = torch.float64 if cubes.dtype == np.float64 else torch.float32
    images = torch.from_numpy(cubes.transpose(2, 0, 1, 3)).to(dtype, copy=True, memory_format=torch.contiguous_format)
    images.div_(torch.from_numpy(span.copy()).to(dtype))
    if invalid is not None:
        images.masked_fill_(invalid, 0.0)
    n_valid = images[:, :, 0].numel() - (0 if invalid is None else int(invalid.sum()))
    total = images.sum(dim=3).sum(dim=(0, 1), dtype=torch.float64)  # one sum in float64 is ten times slower
    shift = (total / max(n_valid, 1)).to(dtype)[:, None]
    images.sub_(shift)
    if invalid is not None:
        images.masked_fill_(invalid, 0.0)
    return images, shift


def _halve_images(images: Tensor, shift: Tensor) -> Tensor:
    """Return 2 x 2 means; an odd side is first padded by a row of zeros, which in shifted values are -shift."""
    height, n, bands, width = images.shape
    odd_y, odd_x = height % 2, width % 2
    if odd_y or odd_x:
        padded = (-shift).expand(height + odd_y, n, bands, width + odd_x).clone()
        padded[odd_y:, :, :, odd_x:] = images
        images = padded
    rows = images[0::2] + images[1::2]
    return (rows[..., 0::2] + rows[..., 1::2]).mul_(0.25)


def _move_rows_first(pixels: BoolArray) -> Tensor:
    """Return ``(n, y, x)`` as a tensor ``(y, n, 1, x)``."""
    import torch

    return torch.from_numpy(pixels.transpose(1, 0, 2)[:, :, None].copy())
