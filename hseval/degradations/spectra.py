"""Spectra shifted and broadened along the wavelength: a miscalibrated and a coarser spectrometer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hseval.degradations.base import PixelDegradation

if TYPE_CHECKING:
    from hseval.core.cubes import CubeSet
    from hseval.utils.arrays import Array, BoolArray
    from hseval.utils.random_streams import Rng

MERGE_GAP_RATIO = 0.1  # bands nearer than this share of the median gap share a node: a spline would oscillate
KERNEL_HALF_WIDTH_STD, N_KERNEL_NODES = 4.0, 161  # support of the Gaussian, and number of points in it
FWHM_PER_STD = float(np.sqrt(8 * np.log(2)))  # of a Gaussian, in standard deviations


class SplineDegradation(PixelDegradation):
    """Base of those that read spectra between the bands, by a cubic spline that is constant beyond the ends."""

    kind = "spectral"

    def explain_unmet_need(self, data: CubeSet) -> str | None:
        """Return why there are no spectra to interpolate, or None."""
        if not data.info.wavelengths_known:
            return "needs wavelengths in nm (--wavelengths)"
        if len(np.unique(data.wavelengths)) < 2:
            return f"needs at least 2 bands of different wavelengths, found {len(data.wavelengths)}"
        return None


class SpectralShift(SplineDegradation):
    """Spectra shifted to longer wavelengths."""

    name = "shift"
    summary = "spectra moved to longer wavelengths: the wavelength calibration is off"
    unit = "nm"
    severities = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)

    def change(self, values: Array, valid: BoolArray, severity: float, wavelengths: Array, rng: Rng) -> Array:
        """Return the values with spectra shifted by ``severity`` nm."""
        return _add_change(values, compute_change_matrix(wavelengths, np.array([-severity]), weights=np.ones(1)))


class SpectralBroadening(SplineDegradation):
    """Spectra convolved with a Gaussian."""

    name = "broadening"
    summary = "spectra smeared by a Gaussian: a coarser spectral resolution"
    unit = "nm FWHM"
    severities = (4.0, 8.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 160.0, 256.0)

    def change(self, values: Array, valid: BoolArray, severity: float, wavelengths: Array, rng: Rng) -> Array:
        """Return the values with spectra convolved with the Gaussian."""
        positions = np.linspace(-KERNEL_HALF_WIDTH_STD, KERNEL_HALF_WIDTH_STD, N_KERNEL_NODES)
        weights = np.exp(-0.5 * positions**2)
        offsets = positions * severity / FWHM_PER_STD
        return _add_change(values, compute_change_matrix(wavelengths, offsets, weights=weights / weights.sum()))


def compute_change_matrix(wavelengths: Array, offsets: Array, *, weights: Array) -> Array:
    """Return the change ``(band, band)`` of a spectrum that becomes ``sum_k weights_k S(wavelength + offsets_k)``.

    S is the cubic spline through the bands, constant beyond the first and the last. The change is taken against the
    same spline without offsets, so that severity 0 changes nothing even where bands that nearly coincide share a node.
    """
    from scipy.interpolate import CubicSpline

    nodes, averaging = compute_spline_nodes(wavelengths)
    spline = CubicSpline(nodes, np.eye(len(nodes)))

    def evaluate(nm: Array) -> Array:
        return spline(np.clip(nm, nodes[0], nodes[-1]))

    shifted = np.tensordot(weights, evaluate(offsets[:, None] + wavelengths), axes=1)
    return np.asarray((shifted - weights.sum() * evaluate(wavelengths)) @ averaging)


def compute_spline_nodes(wavelengths: Array) -> tuple[Array, Array]:
    """Return the spline's nodes (nm, ascending) and the matrix ``(node, band)`` that averages the bands of each."""
    centers = np.asarray(wavelengths, dtype=np.float64)
    gaps = np.diff(centers)
    median_gap = np.median(gaps[gaps > 0]) if (gaps > 0).any() else 1.0
    node = np.concatenate([[0], np.cumsum(gaps > MERGE_GAP_RATIO * median_gap)])
    membership = (node == np.arange(node[-1] + 1)[:, None]).astype(np.float64)
    averaging = membership / membership.sum(axis=1, keepdims=True)
    return averaging @ centers, averaging


def _add_change(values: Array, change_matrix: Array) -> Array:
    """Return values with a linear change ``(band, band)`` added to each spectrum."""
    flat = change_matrix.astype(np.float32) @ values.reshape(len(values), -1)
    return values + flat.reshape(values.shape)
