"""Numerics of ``plausibility``: shares outside a range, energy outside a subspace, z-scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hseval.utils.arrays import Array, Float64Array


def share_below(values: Array, probabilities: Float64Array, threshold: Array) -> Float64Array:
    """Return the share of each row's pixels below a threshold, read from quantiles by linear interpolation.

    Args:
        values: ``(..., band, k)`` ascending; the first is the smallest pixel and the last the largest.
        probabilities: ``(k,)`` ascending from 0 to 1, the share of pixels below each of the values.
        threshold: ``(band,)``.

    Returns:
        ``(..., band)``: exactly 0 where no pixel is below, 1 where all are.
    """
    n_below = (values < np.asarray(threshold)[:, None]).sum(axis=-1)
    upper = np.clip(n_below, 1, values.shape[-1] - 1)
    low, high = (np.take_along_axis(values, index[..., None], axis=-1)[..., 0] for index in (upper - 1, upper))
    low, high = low.astype(np.float64), high.astype(np.float64)
    gap = np.where(high > low, high - low, 1.0)
    fraction = np.clip((threshold - low) / gap, 0.0, 1.0)
    interpolated = probabilities[upper - 1] + fraction * (probabilities[upper] - probabilities[upper - 1])
    return np.where(n_below == 0, 0.0, np.where(n_below == values.shape[-1], 1.0, interpolated))


def share_above(values: Array, probabilities: Float64Array, threshold: Array) -> Float64Array:
    """Return the share of each row's pixels above a threshold, as :func:`share_below`."""
    return share_below(-values[..., ::-1], 1.0 - probabilities[::-1], -np.asarray(threshold))


def compute_energy_moments(means: Array, covs: Array) -> tuple[Float64Array, Float64Array]:
    """Return each cube's second moments about 0 divided by their trace, and its mean square.

    Args:
        means: ``(n, band)``.
        covs: ``(n, band (band + 1) / 2)``, upper triangles, row by row.

    Returns:
        ``(n, band (band + 1) / 2)``, 0 for a cube that is 0 throughout, and ``(n,)`` mean squares over bands.
    """
    wide = np.asarray(means, dtype=np.float64)
    down, right = np.triu_indices(wide.shape[1])
    moments = np.asarray(covs, dtype=np.float64) + wide[:, down] * wide[:, right]
    trace = moments[:, down == right].sum(axis=1)
    shares = np.divide(moments, trace[:, None], out=np.zeros_like(moments), where=trace[:, None] > 0)
    return shares, trace / wide.shape[1]


def compute_residual_projector(moment: Float64Array, energy: float) -> tuple[Float64Array, int]:
    """Return the projector onto the complement of the smallest subspace that contains a share of the energy.

    Args:
        moment: ``(band, band)`` second moments about 0, of trace 1.
        energy: the share, below 1.

    Returns:
        ``(band, band)``, and the subspace's dimension: at most all bands but one, so that the complement is not empty.
    """
    values, vectors = np.linalg.eigh(moment)
    energies = np.cumsum(values[::-1]) / values.sum()
    rank = min(int(np.searchsorted(energies, energy)) + 1, len(values) - 1)
    complement = vectors[:, : len(values) - rank]
    return complement @ complement.T, rank


def compute_residual_energy(moments: Array, projector: Float64Array) -> Float64Array:
    """Return the share of energy ``(n,)`` that a projector preserves of moments ``(n, band (band + 1) / 2)``."""
    down, right = np.triu_indices(len(projector))
    weights = projector[down, right] * np.where(down == right, 1.0, 2.0)
    return np.maximum(moments @ weights, 0.0)


def unpack_symmetric(triangle: Array, bands: int) -> Float64Array:
    """Return the symmetric matrix ``(band, band)`` of an upper triangle, row by row."""
    matrix = np.zeros((bands, bands))
    matrix[np.triu_indices(bands)] = triangle
    return matrix + np.triu(matrix, 1).T


def compute_z_scores(*, real: Float64Array, generated: Float64Array, min_std: float) -> Float64Array:
    """Return each sample's z-scores ``(m, ...)``: deviations from the real mean in real standard deviations.

    Args:
        real: ``(n, ...)``, n >= 2.
        generated: ``(m, ...)``.
        min_std: smaller standard deviations are raised to this: where real cubes hardly vary, a negligible difference
            must not become a large z-score.
    """
    std = np.maximum(real.std(axis=0, ddof=1), min_std)
    return np.asarray((generated - real.mean(axis=0)) / std)
