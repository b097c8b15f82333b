"""Loss of detail: a Gaussian blur, and blocks as of coarse compression. Both inside the field alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hseval.degradations.base import DegradationKind, UnrestrictedDegradation
from hseval.degradations.inside import compute_valid_mask, replace_valid_pixels, zero_invalid_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.cubes import Cube

    Float64Array = NDArray[np.float64]
    Float32Array = NDArray[np.float32]

BLOCK_SIZE_PX = 8


class GaussianBlur(UnrestrictedDegradation):
    """A Gaussian blur by normalized convolution."""

    name: ClassVar[str] = "blur"
    summary: ClassVar[str] = "Gaussian blur of every band"
    kind: ClassVar[DegradationKind] = "spatial"
    unit: ClassVar[str] = "px"
    severities: ClassVar[tuple[float, ...]] = (0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2, 2.0, 3.0)
    is_set_wide: ClassVar[bool] = True

    def degrade(self, cube: Cube, severity: float, *, wavelengths: Float64Array, rng: np.random.Generator) -> Cube:
        """Return the blurred cube.

        The blur is divided by the blurred validity (Knutsson and Westin, CVPR 1993, normalized convolution with a
        constant basis), so that the surround does not count.
        """
        valid = compute_valid_mask(cube)
        kernel = discrete_gaussian(severity)
        mass = _convolve(valid.astype(np.float32), kernel)
        smooth = _convolve(zero_invalid_pixels(cube, valid), kernel)
        return replace_valid_pixels(cube, smooth / np.maximum(mass, np.float32(1e-6)), valid)


class BlockBlending(UnrestrictedDegradation):
    """Blocks blended toward their means."""

    name: ClassVar[str] = "blocks"
    summary: ClassVar[str] = f"blocks of {BLOCK_SIZE_PX} px blended toward their means: coarse compression"
    kind: ClassVar[DegradationKind] = "spatial"
    unit: ClassVar[str] = "% of blending"
    severities: ClassVar[tuple[float, ...]] = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 70.0, 100.0)
    is_set_wide: ClassVar[bool] = True

    def degrade(self, cube: Cube, severity: float, *, wavelengths: Float64Array, rng: np.random.Generator) -> Cube:
        """Return ``(1 - severity / 100) x + severity / 100`` times the mean of the valid pixels of its block."""
        valid = compute_valid_mask(cube)
        values, share = zero_invalid_pixels(cube, valid), np.float32(severity / 100)
        return replace_valid_pixels(cube, values + share * (compute_block_means(values, valid) - values), valid)


def discrete_gaussian(sigma: float) -> Float32Array:
    """Return the discrete Gaussian ``exp(-s^2) I_k(s^2)``, whose variance is s^2 for the smallest s as well.

    T. Lindeberg, Scale-space for discrete signals, IEEE PAMI 12:234, 1990. A sampled Gaussian of 0.2 px does nothing.
    """
    from scipy.special import ive

    half_width = int(np.ceil(4 * sigma)) + 1
    kernel = ive(np.abs(np.arange(-half_width, half_width + 1)), sigma**2)
    normalized: Float32Array = (kernel / kernel.sum()).astype(np.float32)
    return normalized


def compute_block_means(values: Float32Array, valid: NDArray[np.bool_], size: int = BLOCK_SIZE_PX) -> Float32Array:
    """Return, at every pixel, the mean over the valid pixels of its block; blocks start at the top left corner.

    Args:
        values: ``(band, y, x)``, 0 where not valid.
        valid: bool ``(y, x)``.
        size: of a block, px; those at the right and lower edge may be smaller.
    """
    rows, columns = (np.arange(0, length, size) for length in valid.shape)
    counts = np.add.reduceat(np.add.reduceat(valid.astype(np.float64), rows, axis=0), columns, axis=1)
    sums = np.add.reduceat(np.add.reduceat(values, rows, axis=1, dtype=np.float64), columns, axis=2)
    means = (sums / np.maximum(counts, 1)).astype(np.float32)
    expanded = means.repeat(size, axis=1).repeat(size, axis=2)
    return expanded[:, : valid.shape[0], : valid.shape[1]]


def _convolve(values: Float32Array, kernel: Float32Array) -> Float32Array:
    """Convolve the last two axes with a symmetric kernel each; beyond the edges there is 0."""
    from scipy.ndimage import correlate1d

    for axis in (-2, -1):
        values = correlate1d(values, kernel, axis=axis, mode="constant", cval=0.0)
    return values
