"""The numerics on plain arrays: centering, principal axes, and thresholds that preserve a mask's area."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Tensors = dict[str, Array]
BLOCK_COLUMNS = 1 << 14  # columns at a time, so that float64 copies take megabytes


def fit_gaussian(layers: Array, *, bands: int, variance: float, components: int | None) -> tuple[Tensors, float]:
    """Fit ``(n, layer, pixel)``, ``bands`` of them bands and the rest soft masks; ``layers`` is overwritten.

    Returns:
        ``axes`` (k, layer, pixel), ``mean`` (layer, pixel) and ``thresholds`` (mask,), such that a sample is
        ``mean + z @ axes`` and a mask is True where its layer exceeds its threshold; and the share of variance
        retained.

    Raises:
        ValueError: there is no variance.
    """
    areas = [_compute_mean_area(layers[:, number]) for number in range(bands, layers.shape[1])]
    mean = center_layers(layers, bands)
    axes, share = compute_principal_axes(layers.reshape(len(layers), -1), variance=variance, components=components)
    axes = axes.reshape(-1, *mean.shape)
    std = np.sqrt(np.einsum("kmp,kmp->mp", axes[:, bands:], axes[:, bands:]))
    thresholds = [find_area_threshold(*layer) for layer in zip(mean[bands:], std, areas, strict=True)]
    return {"axes": axes, "mean": mean, "thresholds": np.array(thresholds, dtype=np.float32)}, share


def center_layers(layers: Array, bands: int) -> Array:
    """Center ``(n, layer, pixel)`` in place, scale mask layers to the variance of a band; return the scaled mean.

    NaN becomes the mean of the cubes in which the pixel is known, which adds no variance.
    """
    mean = np.zeros(layers.shape[1:], dtype=np.float32)
    power = np.zeros(len(mean))
    for number in range(len(mean)):
        values = layers[:, number]
        known = np.isfinite(values).sum(axis=0)
        mean[number] = np.nansum(values, axis=0, dtype=np.float64) / np.maximum(known, 1)
        values -= mean[number]
        np.nan_to_num(values, copy=False)
        power[number] = np.einsum("np,np->", values, values, dtype=np.float64)
        if number >= bands and power[number] > 0:
            scale = np.sqrt(power[:bands].mean() / power[number])
            values *= scale
            mean[number] *= scale
    return mean


def compute_principal_axes(matrix: Array, *, variance: float, components: int | None) -> tuple[Array, float]:
    """Turn centered float32 vectors ``(n, p)``, n << p, into principal axes times their standard deviations, in place.

    In the dual: ``X X' = U S^2 U'`` is n x n and the scaled axes are ``U' X / sqrt(n - 1)``, so that ``z @ axes``
    with standard normal z has the covariance of the vectors (Jolliffe, Principal Component Analysis, 2002, 3.5).

    Returns:
        Axes ``(k, p)``, a view of ``matrix``, and the share of the variance that they retain.
    """
    blocks = [slice(start, start + BLOCK_COLUMNS) for start in range(0, matrix.shape[1], BLOCK_COLUMNS)]
    gram = sum(columns @ columns.T for columns in (matrix[:, block].astype(np.float64) for block in blocks))
    power, vectors = np.linalg.eigh(gram)
    power, vectors = power[:0:-1].clip(min=0), vectors[:, :0:-1]  # n centered vectors span n - 1 dimensions
    if not power.any():
        raise ValueError("the valid pixels are the same in all cubes, and a Gaussian needs variance")
    shares = np.cumsum(power) / power.sum()
    count = min(components or int(np.searchsorted(shares, variance)) + 1, len(shares))
    rotation = (vectors[:, :count].T / np.sqrt(len(matrix) - 1)).astype(np.float32)
    for block in blocks:
        matrix[:count, block] = rotation @ matrix[:, block]
    return matrix[:count], float(shares[count - 1])


def find_area_threshold(mean: Array, std: Array, area: float) -> float:
    """Return the level that ``area`` Gaussian pixels of this mean and standard deviation exceed on average."""
    from scipy.optimize import brentq
    from scipy.special import ndtr

    if not 0 < area < mean.size:
        return np.inf if area <= 0 else -np.inf
    positive_std = np.maximum(std, 1e-6)  # a mask that never varies is a step: any level inside it fits
    low, high = (mean - 9 * positive_std).min(), (mean + 9 * positive_std).max()
    return float(brentq(lambda level: ndtr((mean - level) / positive_std).sum() - area, low, high))


def _compute_mean_area(soft_masks: Array) -> float:
    # Cubes without this mask (NaN) do not count.
    known = soft_masks[~np.isnan(soft_masks[:, 0])]
    return float((known > 1).sum() / max(len(known), 1))
