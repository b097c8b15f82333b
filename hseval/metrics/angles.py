"""Spectral angles in degrees, and variances orthogonal to a spectrum. Angles do not depend on gain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hseval.utils.arrays import Array, Float64Array


def normalize_spectra(spectra: Array) -> Float64Array:
    """Return spectra ``(..., band)`` divided by their norms; NaN where the norm is 0, which has no direction."""
    wide = np.asarray(spectra, dtype=np.float64)
    norms = np.linalg.norm(wide, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        directions: Float64Array = np.divide(wide, norms, out=np.full_like(wide, np.nan), where=norms > 0)
    return directions


def spectral_angle(a: Array, b: Array) -> Float64Array:
    """Return the angle between spectra ``(..., band)`` in degrees, 0 to 180; NaN where a norm is 0.

    The spectral angle of Kruse et al., The spectral image processing system (SIPS), Remote Sensing of Environment
    1993, computed as ``2 atan2(|u - v|, |u + v|)`` of the unit vectors (Kahan, How futile are mindless assessments of
    roundoff, 2006, section 12): the arc cosine of a product near 1 loses half of its digits.
    """
    u, v = normalize_spectra(a), normalize_spectra(b)
    difference = np.linalg.norm(u - v, axis=-1)
    total = np.linalg.norm(u + v, axis=-1)
    return np.asarray(np.degrees(2 * np.arctan2(difference, total)))


def orthogonal_variance(means: Array, covs: Array) -> Float64Array:
    """Return the variance orthogonal to each mean spectrum: ``tr C - u^T C u``, u the mean's direction.

    Divided by the mean's norm, its root is the root mean square tangent of the pixels' angles to their mean.

    Args:
        means: ``(..., band)``.
        covs: ``(..., band (band + 1) / 2)``, upper triangles, row by row.

    Returns:
        ``(...)``, NaN where the mean's norm is 0.
    """
    directions = normalize_spectra(means)
    down, right = np.triu_indices(directions.shape[-1])
    multiplicity = np.where(down == right, 1.0, 2.0)
    wide = np.asarray(covs, dtype=np.float64)
    total = (wide * (down == right)).sum(axis=-1)
    along = (wide * (directions[..., down] * directions[..., right] * multiplicity)).sum(axis=-1)
    return np.asarray(np.maximum(total - along, 0.0))
