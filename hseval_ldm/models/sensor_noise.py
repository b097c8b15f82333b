"""The sensor's noise: measured separately, so that the codebook need not encode it, and added to samples.

A decoder trained with L1 predicts the median of what it can't infer: it removes noise, and its samples would be
smoother than any real cube. The noise is therefore measured on the residuals of reconstructions, as its variance
against brightness (the photon transfer curve of Janesick 2007: read noise plus shot noise), and drawn from the cube's
own stream when a cube is sampled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BRIGHTNESS_BINS = 8  # per band, to which its line is fitted
MIN_PIXELS = 64
NORMAL_SQUARE_MEDIAN = 0.454936  # median square of a standard normal
TRIM_STDS = 1.75  # standard deviations beyond which a pixel is trimmed
NORMAL_TRIMMED_VARIANCE = 0.671729  # variance of a standard normal within TRIM_STDS

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
        """Return the noise of an ideal sensor."""
        return cls(np.zeros(bands), np.zeros(bands))

    @classmethod
    def fit(cls, batches: Sequence[NoisePixels]) -> SensorNoise:
        """Fit the noise to the pixels that :func:`extract_noise_pixels` returned for one or more batches.

        Variances are trimmed, so that a vessel missing from the reconstruction is not taken for noise.
        """
        bright, fine = (torch.cat(part, dim=1).double().cpu().numpy() for part in zip(*batches, strict=True))
        lines = [_fit_noise_line(*band) for band in zip(bright, fine, strict=True)]
        offset, slope = np.array(lines, dtype=np.float64).T
        return cls(offset, slope)

    def compute_std(self, cubes: Tensor) -> Tensor:
        """Return the standard deviation at each pixel of clean physical cubes ``(n, band, y, x)``."""
        return compute_noise_std(cubes, torch.from_numpy(self.offset), torch.from_numpy(self.slope))


def compute_noise_std(cubes: Tensor, offset: Tensor, slope: Tensor) -> Tensor:
    """Return the noise's standard deviation at each pixel of clean physical cubes ``(n, band, y, x)``.

    ``offset`` and ``slope`` ``(band,)`` are those of :class:`SensorNoise`, of any float type and on any device.
    """
    offset, slope = (values.to(cubes)[:, None, None] for values in (offset, slope))
    return (offset + slope * cubes.clamp_min(0)).clamp_min(0).sqrt()


def extract_noise_pixels(
    cubes: Tensor, target: Tensor, field: Tensor, *, max_per_cube: int | None = None
) -> NoisePixels:
    """Return the brightness and the fine part of the residual at the field's pixels, each ``(band, pixel)``.

    The fine part is the residual's second difference along x and y, scaled to unit gain for white noise: it removes
    slopes, curvature and straight lines along an axis (the mask of Immerkaer 1996).

    Reconstructions ``cubes`` and real cubes ``target`` are physical ``(n, band, y, x)``. A pixel of ``field``, bool
    ``(n, 1, y, x)``, counts if its eight neighbors lie in it as well; at most ``max_per_cube`` per cube, on average and
    evenly spaced, are used (None: all).
    """
    fine = _second_difference(_second_difference(target - cubes, -1), -2) / 6
    indices = (torch.nn.functional.max_pool2d((~field).float(), 3, 1)[:, 0] == 0).nonzero(as_tuple=True)
    count = len(indices[0])
    if max_per_cube is not None and count > max_per_cube * len(cubes):
        spaced = torch.linspace(0, count - 1, max_per_cube * len(cubes), dtype=torch.float64).long().to(cubes.device)
        indices = tuple(axis[spaced] for axis in indices)
    n, y, x = indices
    return cubes[n, :, y + 1, x + 1].T, fine[n, :, y, x].T


def _second_difference(images: Tensor, axis: int) -> Tensor:
    # Slices, because autocast and TF32 would round a convolution.
    before, center, after = (images.narrow(axis, start, images.shape[axis] - 2) for start in range(3))
    return before - 2 * center + after


def _fit_noise_line(brightness: NDArray[np.float64], residuals: NDArray[np.float64]) -> tuple[float, float]:
    """Fit variance against brightness over bins of equal counts, with non-negative coefficients."""
    from scipy.optimize import nnls

    if len(brightness) < MIN_PIXELS:
        return 0.0, 0.0
    bins = np.array_split(np.argsort(brightness, kind="stable"), BRIGHTNESS_BINS)
    middle = np.array([np.median(brightness[indices]) for indices in bins])
    variance = np.array([_compute_trimmed_variance(residuals[indices] ** 2) for indices in bins])
    if not variance.any():
        return 0.0, 0.0
    scale = max(float(np.abs(middle).max()), 1e-12)
    # The error of each bin's variance is proportional to the variance, so the fit is relative.
    weight = 1 / np.maximum(variance, variance.max() * 1e-6)
    fitted, _ = nnls(np.stack([weight, weight * np.maximum(middle, 0) / scale], axis=1), weight * variance)
    return float(fitted[0]), float(fitted[1] / scale)


def _compute_trimmed_variance(squares: NDArray[np.float64]) -> float:
    """Return the variance of the normal distribution that most of the values, given squared, come from.

    It is the fixed point of the variance of the values within ``TRIM_STDS`` standard deviations, corrected for the
    trimming of a normal distribution. Outliers, where structures are missing, bias it less than they bias a median.
    """
    variance = float(np.median(squares)) / NORMAL_SQUARE_MEDIAN
    for _ in range(50):
        inliers = squares[squares <= TRIM_STDS**2 * variance]
        previous, variance = variance, float(inliers.mean()) / NORMAL_TRIMMED_VARIANCE
        if abs(variance - previous) <= 1e-4 * previous:
            break
    return variance
