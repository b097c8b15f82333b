"""Correlations between bands, Fisher's z, and differences by band."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hseval.utils.arrays import Array, Float64Array, IntArray


# Correlations are shrunk by this share: near 1 only noise differs, and it would dominate Fisher's z.
CORRELATION_SHRINKAGE = 0.02
# A band whose variance is below this share of its mean square (float32's rounding) counts as constant.
MIN_VARIANCE_RATIO = 1e-10


def band_pair_indices(bands: int) -> tuple[IntArray, IntArray]:
    """Return the indices of all pairs of two different bands, row by row."""
    down, right = np.triu_indices(bands, k=1)
    return down.astype(np.int64), right.astype(np.int64)


def compute_correlations(means: Array, covs: Array) -> Float64Array:
    """Return the correlation of every pair of bands.

    Args:
        means: ``(..., band)``.
        covs: ``(..., band (band + 1) / 2)``, upper triangles, row by row.

    Returns:
        ``(..., band (band - 1) / 2)`` in the order of :func:`band_pair_indices`; 0 where a band does not vary.
    """
    wide, bands = np.asarray(covs, dtype=np.float64), means.shape[-1]
    down, right = np.triu_indices(bands)
    variance = wide[..., down == right]
    varies = variance > MIN_VARIANCE_RATIO * np.square(means, dtype=np.float64)
    scale = np.zeros_like(variance)
    np.divide(1.0, np.sqrt(variance, where=varies, out=np.ones_like(variance)), out=scale, where=varies)
    first, second = band_pair_indices(bands)
    return np.clip(wide[..., down != right] * scale[..., first] * scale[..., second], -1.0, 1.0)


def fisher_z(correlation: Array) -> Float64Array:
    """Return Fisher's z of correlations shrunk by ``CORRELATION_SHRINKAGE``; its variance does not depend on them.

    Fisher, On the probable error of a coefficient of correlation deduced from a small sample, Metron 1921.
    """
    return np.arctanh((1 - CORRELATION_SHRINKAGE) * np.asarray(correlation, dtype=np.float64))


def inverse_fisher_z(z: Array) -> Float64Array:
    """Return the correlations whose :func:`fisher_z` is ``z``."""
    return np.asarray(np.tanh(z) / (1 - CORRELATION_SHRINKAGE))


def compute_rms_by_band(pairs: Array, bands: int) -> Float64Array:
    """Return the root mean square ``(band,)`` over the pairs of each band, of ``pairs`` ``(band (band - 1) / 2,)``."""
    squares = np.zeros((bands, bands))
    squares[band_pair_indices(bands)] = np.square(pairs)
    return np.asarray(np.sqrt((squares + squares.T).sum(axis=1) / (bands - 1)))
