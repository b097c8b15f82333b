"""Misaligned bands: the effect of motion while a spectrum is scanned band by band."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hseval.degradations.base import PixelDegradation
from hseval.degradations.inside import explain_missing_bands, fill_to_canvas

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.cubes import CubeSet
    from hseval.utils.arrays import Array, BoolArray
    from hseval.utils.random_streams import Rng


class Misregistration(PixelDegradation):
    """Bands that drift apart along the spectrum."""

    name = "misregistration"
    summary = "bands that drift apart along the spectrum, in a direction of each cube's own"
    kind = "spatial"
    unit = "px"
    severities = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 2.0, 4.0, 8.0)
    is_set_wide = False

    def explain_unmet_need(self, data: CubeSet) -> str | None:
        """Return why there are not two bands, or None."""
        return explain_missing_bands(data)

    def change(self, values: Array, valid: BoolArray, severity: float, wavelengths: Array, rng: Rng) -> Array:
        """Return band b moved by ``severity (b / (bands - 1) - 1/2)`` px along a random direction."""
        angle = rng.uniform(0, 2 * np.pi)
        direction = np.array([np.sin(angle), np.cos(angle)])
        shifts = severity * np.linspace(-0.5, 0.5, len(values))[:, None] * direction
        return shift_bands(values, valid, shifts)


def shift_bands(values: Array, valid: BoolArray, shifts: Array) -> Array:
    """Move every band by whole or fractional px (down, right), by Fourier's shift theorem.

    Pixels that come in from beyond the field continue those inside smoothly, so the surround has no effect.

    Args:
        values: ``(band, y, x)``, 0 where not valid.
        valid: bool ``(y, x)``.
        shifts: ``(band, 2)``, down and right.
    """
    from scipy.fft import irfft2, rfft2

    filled = fill_to_canvas(values, valid, margin=int(np.ceil(2 * np.abs(shifts).max())) + 2)
    height, width = filled.shape[1:]
    down = _compute_phase_factors(shifts[:, 0], np.fft.fftfreq(height))
    right = _compute_phase_factors(shifts[:, 1], np.fft.rfftfreq(width))
    shifted: Array = irfft2(rfft2(filled) * down[:, :, None] * right[:, None, :], s=(height, width))
    return shifted[:, : valid.shape[0], : valid.shape[1]]


def _compute_phase_factors(shifts: Array, frequencies: Array) -> NDArray[np.complex64]:
    """Return the factor of each frequency under each band's shift, complex64 ``(band, frequency)``."""
    factors = np.exp(-2j * np.pi * shifts[:, None] * frequencies)
    # The Nyquist frequency has no phase: a fractional shift leaves the mean of it and its mirror image.
    highest = np.abs(frequencies) == 0.5
    factors[:, highest] = factors[:, highest].real
    return np.asarray(factors, dtype=np.complex64)
