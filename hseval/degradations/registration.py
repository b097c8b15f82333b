"""Bands that do not lie on each other: what motion does while a spectrum is scanned band by band."""

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
        """Return that there is one band alone, or None."""
        return explain_missing_bands(data)

    def degrade(self, cube: Cube, severity: float, *, wavelengths: Float64Array, rng: np.random.Generator) -> Cube:
        """Return the cube with band b moved by ``severity (b / (bands - 1) - 1/2)`` px along a random direction."""
        valid = compute_valid_mask(cube)
        angle = rng.uniform(0, 2 * np.pi)
        direction = np.array([np.sin(angle), np.cos(angle)])
        moves = severity * np.linspace(-0.5, 0.5, len(cube.data))[:, None] * direction
        return replace_valid_pixels(cube, shift_bands(zero_invalid_pixels(cube, valid), valid, moves), valid)


def shift_bands(values: Float32Array, valid: NDArray[np.bool_], shifts: Float64Array) -> Float32Array:
    """Move every band by px (down, right), parts of a pixel included, by Fourier's shift theorem.

    What comes in from beyond the field is a smooth continuation of what lies inside, so the surround adds nothing.

    Args:
        values: ``(band, y, x)``, 0 where not valid.
        valid: bool ``(y, x)``.
        shifts: ``(band, 2)``, down and right.
    """
    from scipy.fft import irfft2, rfft2

    whole = fill_to_canvas(values, valid, margin=int(np.ceil(2 * np.abs(shifts).max())) + 2)
    height, width = whole.shape[1:]
    down, right = (
        _compute_phase_factors(shifts[:, 0], np.fft.fftfreq(height)),
        _compute_phase_factors(shifts[:, 1], np.fft.rfftfreq(width)),
    )
    shifted: Float32Array = irfft2(rfft2(whole) * down[:, :, None] * right[:, None, :], s=(height, width))
    return shifted[:, : valid.shape[0], : valid.shape[1]]


def _compute_phase_factors(shifts: NDArray[Any], frequencies: NDArray[Any]) -> NDArray[np.complex64]:
    """Return by what a shift of each band turns each frequency, complex64 ``(band, frequency)``."""
    turns = np.exp(-2j * np.pi * shifts[:, None] * frequencies)
    # The highest one has no phase: what a shift by part of a pixel leaves of it is the mean with its mirror image.
    highest = np.abs(frequencies) == 0.5
    turns[:, highest] = turns[:, highest].real
    return np.asarray(turns, dtype=np.complex64)
