"""The sensor's noise: what no code book should spend its codes on, and what a sample must not lack.

A decoder trained with L1 gives the median of what it can't know: it removes noise. Its samples would then be
smoother than any real cube. The noise is therefore measured on what reconstructions leave, as its variance
against brightness (the photon transfer curve of Janesick 2007: read noise plus shot noise), and drawn anew,
from the cube's own stream, when a cube is sampled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BRIGHTNESS_BINS = 8  # of brightness, for each band's line
MIN_PIXELS = 64
NORMAL_SQUARE_MEDIAN = 0.454936  # of a standard normal
TRIM_STDS = 1.75  # deviations beyond which a pixel is not noise
NORMAL_TRIMMED_VARIANCE = 0.671729  # of a standard normal inside them

NoisePixels = tuple[Tensor, Tensor]


@dataclasses.dataclass(frozen=True, eq=False)
class SensorNoise:
    """Variance of a pixel as ``offset + slope * brightness``, by band, in physical units squared.

    Attributes:
        offset: float64 ``(band,)``, 0 or more.
        slope: float64 ``(band,)``, 0 or more.
    """

    offset: NDArray[np.float64]
    slope: NDArray[np.float64]

    @classmethod
    def zeros(cls, bands: int) -> SensorNoise:
        """Return a sensor without noise."""
        return cls(np.zeros(bands), np.zeros(bands))

    @classmethod
    def measure(cls, cubes: Tensor, target: Tensor, field: Tensor) -> SensorNoise:
        """Measure what reconstructions ``cubes`` leave of the real ``target``, both physical ``(n, band, y, x)``.

        Only what is finer than a pixel's neighbourhood counts, and variances are trimmed, so that a vessel that was
        missed is no noise. ``field`` is bool ``(n, 1, y, x)``.
        """
        return cls.fit([extract_noise_pixels(cubes, target, field)])

    @classmethod
    def fit(cls, parts: Sequence[NoisePixels]) -> SensorNoise:
        """Return the noise of pixels that :func:`extract_noise_pixels` took from one or more batches."""
        bright, fine = (torch.cat(part, dim=1).double().cpu().numpy() for part in zip(*parts, strict=True))
        offset, slope = np.array(
            [_fit_noise_line(*band) for band in zip(bright, fine, strict=True)], dtype=np.float64
        ).T
        return cls(offset, slope)

    def compute_std(self, cubes: Tensor) -> Tensor:
        """Return the standard deviation at each pixel of clean physical cubes ``(n, band, y, x)``."""
        return compute_noise_std(cubes, torch.from_numpy(self.offset), torch.from_numpy(self.slope))


def compute_noise_std(cubes: Tensor, offset: Tensor, slope: Tensor) -> Tensor:
    """Return the noise's standard deviation at each pixel of clean physical cubes ``(n, band, y, x)``.

    ``offset`` and ``slope`` ``(band,)`` are those of :class:`SensorNoise`, of any float type and on any device.
    """
    offset, slope = (line.to(cubes)[:, None, None] for line in (offset, slope))
    return (offset + slope * cubes.clamp_min(0)).clamp_min(0).sqrt()


def extract_noise_pixels(
    cubes: Tensor, target: Tensor, field: Tensor, *, max_per_cube: int | None = None
) -> NoisePixels:
    """Return the brightness and the fine part of the residual at the field's pixels, each ``(band, pixel)``.

    The fine part is the residual's second difference along y of that along x, of unit gain for white noise: slopes,
    curvature and straight lines along an axis do not pass (the mask of Immerkaer 1996).

    Args:
        cubes: reconstruction, physical ``(n, band, y, x)``.
        target: the same of the real cubes.
        field: bool ``(n, 1, y, x)``; a pixel counts if its eight neighbours lie in the field as well.
        max_per_cube: pixels to take of each cube, on average and evenly spread; None: all.
    """
    fine = _second_difference(_second_difference(target - cubes, -1), -2) / 6
    at = (torch.nn.functional.max_pool2d((~field).float(), 3, 1)[:, 0] == 0).nonzero(as_tuple=True)
    if max_per_cube is not None and len(at[0]) > max_per_cube * len(cubes):
        chosen = (
            torch.linspace(0, len(at[0]) - 1, max_per_cube * len(cubes), dtype=torch.float64).long().to(cubes.device)
        )
        at = tuple(axis[chosen] for axis in at)
    n, y, x = at
    return cubes[n, :, y + 1, x + 1].T, fine[n, :, y, x].T


def _second_difference(images: Tensor, axis: int) -> Tensor:
    # Slices, not a convolution, which autocast and TF32 would round.
    before, here, after = (images.narrow(axis, start, images.shape[axis] - 2) for start in range(3))
    return before - 2 * here + after


def _fit_noise_line(brightness: NDArray[np.float64], residuals: NDArray[np.float64]) -> tuple[float, float]:
    """Fit variance against brightness through equally full bins, with no negative coefficient."""
    from scipy.optimize import nnls

    if len(brightness) < MIN_PIXELS:
        return 0.0, 0.0
    parts = np.array_split(np.argsort(brightness, kind="stable"), BRIGHTNESS_BINS)
    middle = np.array([np.median(brightness[part]) for part in parts])
    variance = np.array([_trimmed_variance(residuals[part] ** 2) for part in parts])
    if not variance.any():
        return 0.0, 0.0
    scale = max(float(np.abs(middle).max()), 1e-12)
    # Each bin's variance is known to a share of itself, so errors are relative.
    weight = 1 / np.maximum(variance, variance.max() * 1e-6)
    fitted, _ = nnls(np.stack([weight, weight * np.maximum(middle, 0) / scale], axis=1), weight * variance)
    return float(fitted[0]), float(fitted[1] / scale)


def _trimmed_variance(squares: NDArray[np.float64]) -> float:
    """Return the variance of the normal distribution most of the values, given squared, come from.

    It is the fixed point of: the variance of what lies within ``TRIM_STDS`` deviations, as a normal distribution would have
    it. What a reconstruction missed counts for less there than in a median, whatever its size.
    """
    variance = float(np.median(squares)) / NORMAL_SQUARE_MEDIAN
    for _ in range(50):
        kept = squares[squares <= TRIM_STDS**2 * variance]
        before, variance = variance, float(kept.mean()) / NORMAL_TRIMMED_VARIANCE
        if abs(variance - before) <= 1e-4 * before:
            break
    return variance
