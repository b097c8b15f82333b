"""Spectral windows: smooth weights over wavelength, in nm, for bands that lie anywhere.

The spectrum is taken as piecewise linear between band centers and averaged under each window. So the weights
follow the spacing of the bands: two bands that nearly coincide count half each, every window has a band, and
measuring a band twice changes next to nothing.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from hseval.utils.arrays import Array, Float64Array

QUADRATURE_POINTS = 2048  # quadrature points over the range of the wavelengths


def compute_window_weights(
    wavelengths: Array, count: int, *, shape: Literal["hat", "cosine"] = "cosine"
) -> Float64Array:
    """Return the weights of ``min(count, band)`` windows that partition the wavelengths' range.

    Args:
        wavelengths: ``(band,)`` nm, ascending.
        count: requested number of windows.
        shape: ``"hat"`` (linear, sharp) or ``"cosine"`` (squared cosine, smooth). Both are partitions of
            unity over wavelength: neighbors overlap, and all windows add up to 1 everywhere.

    Returns:
        ``(window, band)``, rows summing to 1, windows in order of wavelength.
    """
    centers = np.asarray(wavelengths, dtype=np.float64)
    count = min(count, centers.size)
    if count == 1 and centers.size == 1:
        return np.ones((1, 1))
    low, high = centers[0], centers[-1]
    nm = low + (high - low) * (np.arange(QUADRATURE_POINTS) + 0.5) / QUADRATURE_POINTS
    weights = _compute_profiles(nm, low, high, count, shape) @ compute_interpolation_weights(centers, nm)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def compute_interpolation_weights(wavelengths: Array, targets: Array) -> Float64Array:
    """Return ``(target, band)`` weights of linear interpolation between bands, constant beyond the ends."""
    bands = np.asarray(wavelengths, dtype=np.float64)
    if bands.size == 1:
        return np.ones((len(targets), 1))
    upper = np.clip(np.searchsorted(bands, targets), 1, bands.size - 1)
    gap = np.maximum(bands[upper] - bands[upper - 1], 1e-12)
    share = np.clip((targets - bands[upper - 1]) / gap, 0.0, 1.0)
    weights = np.zeros((len(targets), bands.size))
    index = np.arange(len(targets))
    weights[index, upper - 1] = 1.0 - share
    weights[index, upper] += share
    return weights


def _compute_profiles(nm: Array, low: float, high: float, count: int, shape: str) -> Float64Array:
    """Return each window's height at ``nm``: (window, len(nm))."""
    if count == 1:
        return np.ones((1, nm.size))
    centers = np.linspace(low, high, count)
    distance = np.minimum(np.abs(nm - centers[:, None]) / max(centers[1] - centers[0], 1e-12), 1.0)
    return np.asarray(1.0 - distance if shape == "hat" else np.cos(0.5 * np.pi * distance) ** 2)
