"""The sensor's noise: what no code book should spend its codes on, and what a sample must not lack.

A decoder trained with L1 gives the median of what it can't know: it removes noise. Its samples would then be
smoother than any real cube. The noise is therefore measured on what reconstructions leave, as its variance
against brightness (the photon transfer curve of Janesick 2007: read noise plus shot noise), and drawn anew,
from the cube's own stream, when a cube is sampled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BINS = 8  # of brightness, for each band's line
MEDIAN_OF_SQUARE = 0.454936  # median of a squared standard normal
LEAST_PIXELS = 64


@dataclasses.dataclass(frozen=True, eq=False)
class Noise:
    """Variance of a pixel as ``offset + slope * brightness``, by band, in physical units squared.

    Attributes:
        offset: float64 ``(band,)``, 0 or more.
        slope: float64 ``(band,)``, 0 or more.
    """

    offset: NDArray[np.float64]
    slope: NDArray[np.float64]

    @classmethod
    def none(cls, bands: int) -> Noise:
        """Return a sensor without noise."""
        return cls(np.zeros(bands), np.zeros(bands))

    @classmethod
    def measure(cls, cubes: Tensor, target: Tensor, field: Tensor) -> Noise:
        """Measure what reconstructions ``cubes`` leave of the real ``target``, both physical ``(n, band, y, x)``.

        Only what is finer than a pixel's neighbourhood counts (the mask of Immerkaer 1996, which neither slopes nor
        curvature pass), and medians, so that a vessel that was missed is no noise. ``field`` is bool ``(n, 1, y, x)``.
        """
        fine, inside = _fine(target - cubes, field)
        bright = cubes[..., 1:-1, 1:-1]
        pairs = [_line(bright[:, b][inside], fine[:, b][inside]) for b in range(cubes.shape[1])]
        offset, slope = np.array(pairs, dtype=np.float64).T
        return cls(offset, slope)

    def deviation(self, cubes: Tensor) -> Tensor:
        """Return the standard deviation at each pixel of clean physical cubes ``(n, band, y, x)``."""
        offset, slope = (
            torch.as_tensor(v, dtype=cubes.dtype, device=cubes.device)[:, None, None] for v in (self.offset, self.slope)
        )
        return (offset + slope * cubes.clamp_min(0)).clamp_min(0).sqrt()

    def as_record(self) -> dict[str, list[float]]:
        """Return what JSON holds."""
        return {"offset": self.offset.tolist(), "slope": self.slope.tolist()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Noise:
        """Return what :meth:`as_record` was called on."""
        return cls(np.asarray(record["offset"], dtype=np.float64), np.asarray(record["slope"], dtype=np.float64))


def _fine(residual: Tensor, field: Tensor) -> tuple[Tensor, Tensor]:
    """Return the residual's second differences along both axes, of unit gain for white noise, and where they are valid."""
    second = torch.tensor([1.0, -2.0, 1.0], dtype=residual.dtype, device=residual.device)
    kernel = (second[:, None] * second[None]) / 6
    flat = (residual * field).flatten(0, 1)[:, None]
    fine = torch.nn.functional.conv2d(flat, kernel[None, None]).view(*residual.shape[:2], *(s - 2 for s in residual.shape[2:]))
    valid = torch.nn.functional.avg_pool2d(field.float(), 3, 1)[:, 0] > 0.999
    return fine, valid


def _line(brightness: Tensor, fine: Tensor) -> tuple[float, float]:
    """Fit variance against brightness through medians of equally full bins, with no negative coefficient."""
    from scipy.optimize import nnls

    level, square = brightness.double().cpu().numpy(), fine.double().square().cpu().numpy()
    if len(level) < LEAST_PIXELS:
        return 0.0, 0.0
    parts = np.array_split(np.argsort(level, kind="stable"), BINS)
    middle = np.array([np.median(level[p]) for p in parts])
    variance = np.array([np.median(square[p]) for p in parts]) / MEDIAN_OF_SQUARE
    scale = max(float(np.abs(middle).max()), 1e-12)
    # Each bin's median is known to a share of itself, so errors are relative.
    weight = 1 / np.maximum(variance, 1e-30 + variance.max() * 1e-6)
    fitted, _ = nnls(np.stack([weight, weight * np.maximum(middle, 0) / scale], axis=1), np.ones(len(middle)))
    return float(fitted[0]), float(fitted[1] / scale)
