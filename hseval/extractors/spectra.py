"""The distribution of pixel values by structure and band, in a form that can be pooled over a set."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from hseval.core.options import option
from hseval.utils.arrays import Array, BoolArray, Float32Array, Float64Array


class StructureSpectra:
    """Order statistics, mean and covariance of each structure's spectra."""

    name: ClassVar[str] = "spectra"
    version: ClassVar[str] = "2"
    summary: ClassVar[str] = "order statistics, mean and covariance of the pixels of each structure"

    @dataclasses.dataclass(frozen=True)
    class Options:
        """Options of the spectra."""

        levels: int = option(256, "order statistics stored for each structure and band")

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()
        if not 16 <= self.options.levels <= 4096:
            raise ValueError(f"levels is {self.options.levels}, expected 16 to 4096")

    def __call__(
        self, cubes: Float32Array, *, wavelengths: Array, masks: Mapping[str, BoolArray]
    ) -> dict[str, Float32Array]:
        """Return the spectra of a batch of cubes ``(n, band, y, x)``; structures in the order of their sorted names.

        Returns:
            ``quantiles`` ``(n, S, band, K)`` by :func:`compute_order_statistics`, ``pixels`` ``(n, S)`` counts,
            ``mean`` ``(n, S, band)`` and ``cov`` ``(n, S, band (band + 1) / 2)`` by
            :func:`compute_mean_and_covariance`. A structure that a cube lacks has 0 pixels and NaN elsewhere.
        """
        count, bands = cubes.shape[:2]
        names = sorted(masks)
        quantiles = np.full((count, len(names), bands, self.options.levels), np.nan, dtype=np.float32)
        pixels = np.zeros((count, len(names)), dtype=np.float32)
        mean = np.full((count, len(names), bands), np.nan, dtype=np.float32)
        cov = np.full((count, len(names), bands * (bands + 1) // 2), np.nan, dtype=np.float32)
        for i, cube in enumerate(cubes):
            for s, name in enumerate(names):
                inside = cube[:, masks[name][i]]
                pixels[i, s] = inside.shape[1]
                if inside.shape[1]:
                    quantiles[i, s] = compute_order_statistics(inside, self.options.levels)
                    mean[i, s], cov[i, s] = compute_mean_and_covariance(inside)
        return {"quantiles": quantiles, "pixels": pixels, "mean": mean, "cov": cov}


def compute_order_statistics(pixels: Float32Array, count: int) -> Float32Array:
    """Return ``count`` values that represent a band's distribution with equal weight.

    They are the quantiles at the mid-ranks ``(j + 1/2) / count``, pixel values that are never interpolated (inverted
    distribution function), so that they commute with strictly monotone maps of the pixels. Their distribution
    function is within ``1 / (2 count)`` of the pixels' own wherever values are distinct.

    Args:
        pixels: ``(band, pixel)``, at least one pixel, finite.
        count: values to return.

    Returns:
        float32 ``(band, count)``, ascending.
    """
    size = pixels.shape[1]
    ranks = -(-(2 * np.arange(count) + 1) * size // (2 * count)) - 1  # ceil((j + 1/2) n / K) - 1, in integers
    return np.sort(pixels, axis=1)[:, ranks]


def compute_mean_and_covariance(pixels: Float32Array) -> tuple[Float64Array, Float64Array]:
    """Return mean and covariance (divisor n) over pixels, computed in float64.

    Args:
        pixels: ``(band, pixel)``, at least one pixel.

    Returns:
        mean ``(band,)`` and the covariance's upper triangle, row by row, ``(band (band + 1) / 2,)``.
    """
    values = pixels.astype(np.float64)
    mean = values.mean(axis=1)
    values -= mean[:, None]
    cov = values @ values.T / values.shape[1]
    return mean, cov[np.triu_indices(len(cov))]
