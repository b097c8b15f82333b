"""A trivial baseline: mean and standard deviation of the spectra, without spatial information.

A metric that does not beat it on a degradation detects nothing spatial in that degradation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from hseval.core.options import option
from hseval.data.field_of_view import find_valid_pixels
from hseval.extractors.spectral_windows import compute_window_weights
from hseval.utils.arrays import Array, BoolArray, Float32Array, Float64Array
from hseval.utils.errors import HsevalError


@dataclasses.dataclass(frozen=True)
class StatisticsOptions:
    """Options of the features."""

    nodes: int = option(16, "spectral nodes (at most one per band)")

    def __post_init__(self) -> None:
        """Refuse a spectrum without nodes."""
        if not 1 <= self.nodes <= 256:
            raise HsevalError(f"extractor 'statistics': nodes = {self.nodes}, expected 1 to 256")


class Statistics:
    """Mean and standard deviation over the valid pixels at each spectral node, in the cube's own units."""

    name: ClassVar[str] = "statistics"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "mean and standard deviation of the spectra, nothing spatial: a trivial baseline"
    reads_structures: ClassVar[bool] = False
    Options = StatisticsOptions

    def __init__(self, options: StatisticsOptions | None = None) -> None:
        self.options = options or StatisticsOptions()

    def __call__(self, cubes: Float32Array, *, wavelengths: Array, masks: Mapping[str, BoolArray]) -> Float32Array:
        """Return means, then standard deviations, by node, float32 ``(n, 2 * node)``; NaN without a valid pixel."""
        weights = compute_window_weights(wavelengths, self.options.nodes, shape="hat")
        fields = find_valid_pixels(cubes, masks["fov"])
        pixels = [cube[:, valid] for cube, valid in zip(cubes, fields, strict=True)]
        return np.stack([compute_mean_and_std(cube_pixels, weights) for cube_pixels in pixels])


def compute_mean_and_std(pixels: Float32Array, weights: Float64Array) -> Float32Array:
    """Return means and standard deviations of pixels ``(band, pixel)`` at the nodes of ``weights`` ``(node, band)``."""
    if not pixels.shape[1]:
        return np.full(2 * len(weights), np.nan, dtype=np.float32)
    nodes = weights @ pixels.astype(np.float64)
    return np.concatenate([nodes.mean(axis=1), nodes.std(axis=1)]).astype(np.float32)
