"""Loss of detail: a Gaussian blur, and blocks as of coarse compression. Both inside the field alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hseval.degradations.base import PixelDegradation

if TYPE_CHECKING:
    from hseval.utils.arrays import Array, BoolArray
    from hseval.utils.random_streams import Rng

BLOCK_SIZE_PX = 8


class GaussianBlur(PixelDegradation):
    """A Gaussian blur by normalized convolution."""

    name = "blur"
    summary = "Gaussian blur of every band"
    kind = "spatial"
    unit = "px"
    severities = (0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2, 2.0, 3.0)

    def change(self, values: Array, valid: BoolArray, severity: float, wavelengths: Array, rng: Rng) -> Array:
        """Return the values blurred.

        The blur is divided by the blurred validity (Knutsson and Westin, CVPR 1993, normalized convolution with a
        constant basis), so that the surround does not count.
        """
        kernel = discrete_gaussian(severity)
        mass: Array = np.maximum(_convolve(valid.astype(np.float32), kernel), np.float32(1e-6))
        return _convolve(values, kernel) / mass


class BlockBlending(PixelDegradation):
    """Blocks blended toward their means."""

    name = "blocks"
    summary = f"blocks of {BLOCK_SIZE_PX} px blended toward their means: coarse compression"
    kind = "spatial"
    unit = "% of blending"
    severities = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 70.0, 100.0)

    def change(self, values: Array, valid: BoolArray, severity: float, wavelengths: Array, rng: Rng) -> Array:
        """Return ``(1 - severity / 100) x + severity / 100`` times the mean of the valid pixels of its block."""
        return values + np.float32(severity / 100) * (compute_block_means(values, valid) - values)


def discrete_gaussian(sigma: float) -> Array:
    """Return the discrete Gaussian ``exp(-s^2) I_k(s^2)``, whose variance is s^2 for the smallest s as well.

    T. Lindeberg, Scale-space for discrete signals, IEEE PAMI 12:234, 1990. A sampled Gaussian of 0.2 px does nothing.
    """
    from scipy.special import ive

    half_width = int(np.ceil(4 * sigma)) + 1
    kernel = ive(np.abs(np.arange(-half_width, half_width + 1)), sigma**2)
    return np.asarray((kernel / kernel.sum()).astype(np.float32))


def compute_block_means(values: Array, valid: BoolArray, size: int = BLOCK_SIZE_PX) -> Array:
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


def _convolve(values: Array, kernel: Array) -> Array:
    """Convolve the last two axes with a symmetric kernel each; beyond the edges there is 0."""
    from scipy.ndimage import correlate1d

    for axis in (-2, -1):
        values = correlate1d(values, kernel, axis=axis, mode="constant", cval=0.0)
    return values
