"""Spectra shifted and broadened along the wavelength: a miscalibrated and a coarser spectrometer."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hseval.degradations.base import DegradationKind
from hseval.degradations.inside import (
    compute_valid_mask,
    explain_missing_wavelengths,
    replace_valid_pixels,
    zero_invalid_pixels,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.cubes import Cube, CubeSet

    Float64Array = NDArray[np.float64]

MERGE_GAP_RATIO = 0.1  # bands nearer than this share of the median gap share a node: a spline would oscillate
KERNEL_HALF_WIDTH_STD, N_KERNEL_NODES = 4.0, 161  # support of the Gaussian, and number of points in it
FWHM_PER_STD = float(np.sqrt(8 * np.log(2)))  # of a Gaussian, in standard deviations


class SpectralShift:
    """Spectra shifted to longer wavelengths."""

    name: ClassVar[str] = "shift"
    summary: ClassVar[str] = "spectra moved to longer wavelengths: the wavelength calibration is off"
    kind: ClassVar[DegradationKind] = "spectral"
    unit: ClassVar[str] = "nm"
    severities: ClassVar[tuple[float, ...]] = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
    is_set_wide: ClassVar[bool] = True

    def explain_unmet_need(self, data: CubeSet) -> str | None:
        """Return why there are no spectra to interpolate, or None."""
        return explain_missing_wavelengths(data)

    def degrade(self, cube: Cube, severity: float, *, wavelengths: Float64Array, rng: np.random.Generator) -> Cube:
        """Return the cube with spectra shifted by ``severity`` nm, by a cubic spline, constant beyond the ends."""
        return _add_spectral_change(
            cube, compute_change_matrix(wavelengths, offsets=np.array([-severity]), weights=np.ones(1))
        )


class SpectralBroadening:
    """Spectra convolved with a Gaussian."""

    name: ClassVar[str] = "broadening"
    summary: ClassVar[str] = "spectra smeared by a Gaussian: a coarser spectral resolution"
    kind: ClassVar[DegradationKind] = "spectral"
    unit: ClassVar[str] = "nm FWHM"
    severities: ClassVar[tuple[float, ...]] = (4.0, 8.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 160.0, 256.0)
    is_set_wide: ClassVar[bool] = True

    def explain_unmet_need(self, data: CubeSet) -> str | None:
        """Return why there are no spectra to interpolate, or None."""
        return explain_missing_wavelengths(data)

    def degrade(self, cube: Cube, severity: float, *, wavelengths: Float64Array, rng: np.random.Generator) -> Cube:
        """Return the cube with spectra, as cubic splines constant beyond the ends, convolved with the Gaussian."""
        positions = np.linspace(-KERNEL_HALF_WIDTH_STD, KERNEL_HALF_WIDTH_STD, N_KERNEL_NODES)
        weights = np.exp(-0.5 * positions**2)
        return _add_spectral_change(
            cube,
            compute_change_matrix(
                wavelengths, offsets=positions * severity / FWHM_PER_STD, weights=weights / weights.sum()
            ),
        )


def compute_change_matrix(wavelengths: Float64Array, *, offsets: Float64Array, weights: Float64Array) -> Float64Array:
    """Return the change ``(band, band)`` of a spectrum that becomes ``sum_k weights_k S(wavelength + offsets_k)``.

    S is the cubic spline through the bands, constant beyond the first and the last. The change is taken against the
    same spline without offsets, so that severity 0 changes nothing even where bands that nearly coincide share a node.
    """
    from scipy.interpolate import CubicSpline

    nodes, averaging = compute_spline_nodes(wavelengths)
    spline = CubicSpline(nodes, np.eye(len(nodes)))

    def evaluate(nm: Float64Array) -> Float64Array:
        values: Float64Array = spline(np.clip(nm, nodes[0], nodes[-1]))
        return values

    shifted = np.tensordot(weights, evaluate(offsets[:, None] + wavelengths), axes=1)
    change: Float64Array = (shifted - weights.sum() * evaluate(wavelengths)) @ averaging
    return change


def compute_spline_nodes(wavelengths: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return the spline's nodes (nm, ascending) and the matrix ``(node, band)`` that averages the bands of each."""
    centers = np.asarray(wavelengths, dtype=np.float64)
    gaps = np.diff(centers)
    median_gap = np.median(gaps[gaps > 0]) if (gaps > 0).any() else 1.0
    node = np.concatenate([[0], np.cumsum(gaps > MERGE_GAP_RATIO * median_gap)])
    membership = (node == np.arange(node[-1] + 1)[:, None]).astype(np.float64)
    averaging = membership / membership.sum(axis=1, keepdims=True)
    return averaging @ centers, averaging


def _add_spectral_change(cube: Cube, change_matrix: Float64Array) -> Cube:
    """Return the cube with a linear change ``(band, band)`` added to each spectrum."""
    valid = compute_valid_mask(cube)
    values = zero_invalid_pixels(cube, valid)
    flat = change_matrix.astype(np.float32) @ values.reshape(len(values), -1)
    return replace_valid_pixels(cube, values + flat.reshape(values.shape), valid)
