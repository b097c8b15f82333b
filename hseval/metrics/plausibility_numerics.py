"""Could these spectra be real? Shares outside a range, energy outside a subspace, deviations from what is usual."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64Array = NDArray[np.float64]


def share_below(values: NDArray[Any], probabilities: Float64Array, threshold: NDArray[Any]) -> Float64Array:
    """Return the share of each row's pixels below a threshold, read from quantiles by linear interpolation.

    Args:
        values: ``(..., band, k)`` ascending; the first is the smallest pixel and the last the largest.
        probabilities: ``(k,)`` ascending from 0 to 1, the share of pixels that each of the values stands above.
        threshold: ``(band,)``.

    Returns:
        ``(..., band)``: exactly 0 where no pixel is below, 1 where all are.
    """
    below = (values < np.asarray(threshold)[:, None]).sum(axis=-1)
    upper = np.clip(below, 1, values.shape[-1] - 1)
    low, high = (np.take_along_axis(values, at[..., None], axis=-1)[..., 0] for at in (upper - 1, upper))
    low, high = low.astype(np.float64), high.astype(np.float64)
    gap = np.where(high > low, high - low, 1.0)
    part = np.clip((threshold - low) / gap, 0.0, 1.0)
    between = probabilities[upper - 1] + part * (probabilities[upper] - probabilities[upper - 1])
    share: Float64Array = np.where(below == 0, 0.0, np.where(below == values.shape[-1], 1.0, between))
    return share


def share_above(values: NDArray[Any], probabilities: Float64Array, threshold: NDArray[Any]) -> Float64Array:
    """Return the share of each row's pixels above a threshold, as :func:`share_below`."""
    return share_below(-values[..., ::-1], 1.0 - probabilities[::-1], -np.asarray(threshold))


def compute_energy_moments(means: NDArray[Any], covs: NDArray[Any]) -> tuple[Float64Array, Float64Array]:
    """Return each cube's second moments about 0 over their trace, and its mean square.

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
    """Return the projector ``(band, band)`` onto all but the smallest subspace that holds a share of the energy.

    Args:
        moment: ``(band, band)`` second moments about 0, of trace 1.
        energy: the share, below 1.

    Returns:
        projector onto what is left, and the subspace's dimension: at most all bands but one, so that something is left.
    """
    values, vectors = np.linalg.eigh(moment)
    held = np.cumsum(values[::-1]) / values.sum()
    rank = min(int(np.searchsorted(held, energy)) + 1, len(values) - 1)
    rest = vectors[:, : len(values) - rank]
    return rest @ rest.T, rank


def compute_residual_energy(moments: NDArray[Any], projector: Float64Array) -> Float64Array:
    """Return the share of energy, ``(n,)``, that a projector keeps of moments ``(n, band (band + 1) / 2)``."""
    down, right = np.triu_indices(len(projector))
    weights = projector[down, right] * np.where(down == right, 1.0, 2.0)
    share: Float64Array = np.maximum(moments @ weights, 0.0)
    return share


def unpack_symmetric(triangle: NDArray[Any], bands: int) -> Float64Array:
    """Return the symmetric matrix ``(band, band)`` of an upper triangle, row by row."""
    matrix = np.zeros((bands, bands))
    matrix[np.triu_indices(bands)] = triangle
    return matrix + np.triu(matrix, 1).T


def compute_z_scores(*, real: Float64Array, generated: Float64Array, min_std: float) -> Float64Array:
    """Return how many of the real cubes' deviations each sample is from their mean, as ``generated`` ``(m, ...)``.

    Args:
        real: ``(n, ...)``, n >= 2.
        generated: ``(m, ...)``.
        min_std: a deviation below this counts as this, so that cubes all alike make no trifle a wonder.
    """
    spread = np.maximum(real.std(axis=0, ddof=1), min_std)
    away: Float64Array = (generated - real.mean(axis=0)) / spread
    return away
