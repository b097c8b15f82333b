"""Bands that do not lie on each other: what motion does while a spectrum is scanned band by band."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hseval.degradations.base import Kind
from hseval.degradations.inside import filled, needs_two_bands, spoiled, valid_pixels, zero_outside

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.cubes import Cube, CubeSet

    Doubles = NDArray[np.float64]
    Floats = NDArray[np.float32]


class Misregistration:
    """Bands that drift apart along the spectrum."""

    name: ClassVar[str] = "misregistration"
    summary: ClassVar[str] = "bands that drift apart along the spectrum, in a direction of each cube's own"
    kind: ClassVar[Kind] = "spatial"
    unit: ClassVar[str] = "px"
    doses: ClassVar[tuple[float, ...]] = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 2.0, 4.0, 8.0)
    shared: ClassVar[bool] = False

    def unfit(self, data: CubeSet) -> str | None:
        """Return that there is one band alone, or None."""
        return needs_two_bands(data)

    def degrade(self, cube: Cube, dose: float, *, wavelengths: Doubles, rng: np.random.Generator) -> Cube:
        """Return the cube with band b moved by ``dose (b / (bands - 1) - 1/2)`` px along a random direction."""
        valid = valid_pixels(cube)
        angle = rng.uniform(0, 2 * np.pi)
        direction = np.array([np.sin(angle), np.cos(angle)])
        moves = dose * np.linspace(-0.5, 0.5, len(cube.data))[:, None] * direction
        return spoiled(cube, moved(zero_outside(cube, valid), valid, moves), valid)


def moved(values: Floats, valid: NDArray[np.bool_], moves: Doubles) -> Floats:
    """Move every band by px (down, right), parts of a pixel included, by Fourier's shift theorem.

    What comes in from beyond the field is a smooth continuation of what lies inside, so the surround adds nothing.

    Args:
        values: ``(band, y, x)``, 0 where not valid.
        valid: bool ``(y, x)``.
        moves: ``(band, 2)``, down and right.
    """
    from scipy.fft import irfft2, rfft2

    whole = filled(values, valid, margin=int(np.ceil(2 * np.abs(moves).max())) + 2)
    height, width = whole.shape[1:]
    down, right = _turns(moves[:, 0], np.fft.fftfreq(height)), _turns(moves[:, 1], np.fft.rfftfreq(width))
    shifted: Floats = irfft2(rfft2(whole) * down[:, :, None] * right[:, None, :], s=(height, width))
    return shifted[:, : valid.shape[0], : valid.shape[1]]


def _turns(moves: NDArray[Any], frequencies: NDArray[Any]) -> NDArray[np.complex64]:
    """Return by what a shift of each band turns each frequency, complex64 ``(band, frequency)``."""
    turns = np.exp(-2j * np.pi * moves[:, None] * frequencies)
    # The highest one has no phase: what a shift by part of a pixel leaves of it is the mean with its mirror image.
    highest = np.abs(frequencies) == 0.5
    turns[:, highest] = turns[:, highest].real
    return np.asarray(turns, dtype=np.complex64)
