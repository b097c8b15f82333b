"""Misaligned bands: the effect of motion while a spectrum is scanned band by band."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hseval.degradations.base import DegradationKind
from hseval.degradations.inside import (
    compute_valid_mask,
    explain_missing_bands,
    fill_to_canvas,
    replace_valid_pixels,
    zero_invalid_pixels,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.cubes import Cube, CubeSet

    Float64Array = NDArray[np.float64]
    Float32Array = NDArray[np.float32]


class Misregistration:
    """Bands that drift apart along the spectrum."""

    name: ClassVar[str] = "misregistration"
    summary: ClassVar[str] = "bands that drift apart along the spectrum, in a direction of each cube's own"
    kind: ClassVar[DegradationKind] = "spatial"
    unit: ClassVar[str] = "px"
    severities: ClassVar[tuple[float, ...]] = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 2.0, 4.0, 8.0)
    is_set_wide: ClassVar[bool] = False

    def explain_unmet_need(self, data: CubeSet) -> str | None:
        """Return why there are not two bands, or None."""
        return explain_missing_bands(data)

    def degrade(self, cube: Cube, severity: float, *, wavelengths: Float64Array, rng: np.random.Generator) -> Cube:
        """Return the cube with band b moved by ``severity (b / (bands - 1) - 1/2)`` px along a random direction."""
        valid = compute_valid_mask(cube)
        angle = rng.uniform(0, 2 * np.pi)
        direction = np.array([np.sin(angle), np.cos(angle)])
        shifts = severity * np.linspace(-0.5, 0.5, len(cube.data))[:, None] * direction
        return replace_valid_pixels(cube, shift_bands(zero_invalid_pixels(cube, valid), valid, shifts), valid)


def shift_bands(values: Float32Array, valid: NDArray[np.bool_], shifts: Float64Array) -> Float32Array:
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
    down, right = (
        _compute_phase_factors(shifts[:, 0], np.fft.fftfreq(height)),
        _compute_phase_factors(shifts[:, 1], np.fft.rfftfreq(width)),
    )
    shifted: Float32Array = irfft2(rfft2(filled) * down[:, :, None] * right[:, None, :], s=(height, width))
    return shifted[:, : valid.shape[0], : valid.shape[1]]


def _compute_phase_factors(shifts: NDArray[Any], frequencies: NDArray[Any]) -> NDArray[np.complex64]:
    """Return the factor of each frequency under each band's shift, complex64 ``(band, frequency)``."""
    factors = np.exp(-2j * np.pi * shifts[:, None] * frequencies)
    # The Nyquist frequency has no phase: a fractional shift leaves the mean of it and its mirror image.
    highest = np.abs(frequencies) == 0.5
    factors[:, highest] = factors[:, highest].real
    return np.asarray(factors, dtype=np.complex64)
