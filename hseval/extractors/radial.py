"""Radial power spectra of images in a field of view of any shape.

The periodogram of a tapered image: the surround has weight 0 and the rim next to none, so that neither a black
surround nor the edge of the frame counts as an edge of the image. Plain functions on numpy arrays.
"""

from __future__ import annotations

import functools

import numpy as np

from hseval.utils.arrays import Array, BoolArray, Float64Array, IntArray

BINS_PER_OCTAVE, OCTAVES = 3, 8  # bins below the Nyquist frequency: thirds of an octave, from 1/512 to 1/2 cycle/px
MIN_PERIODS = 3.0  # periods across the field (the root of its area) below which the taper hides a frequency
NYQUIST = 0.5


def compute_bin_edges() -> Float64Array:
    """Return the bins' interior edges in cycles/px, ``(25 - 1,)``: bins are ``(0, e_1], (e_1, e_2] ... (1/2, inf)``.

    The last one holds the corners of the frequency plane, beyond the Nyquist frequency of rows and columns.
    """
    steps = np.arange(BINS_PER_OCTAVE * OCTAVES - 1, -1, -1)
    return NYQUIST * 2.0 ** (-steps / BINS_PER_OCTAVE)


def compute_bin_centers() -> Float64Array:
    """Return the bins' centers in cycles/px, ``(25,)`` (geometric; end bins count as wide as the others)."""
    inner = compute_bin_edges()
    half = 2.0 ** (0.5 / BINS_PER_OCTAVE)
    return np.concatenate([inner / half, inner[-1:] * half])


def compute_field_taper(valid: BoolArray) -> Float64Array:
    """Return a smooth window ``(y, x)``: 0 outside ``valid``, rising as a squared sine to 1 in its middle.

    It is a function of the distance to the nearest pixel outside (everything beyond the image is outside), over the
    largest such distance. A field without a valid pixel gives zeros.
    """
    from scipy.ndimage import distance_transform_edt

    distance = np.asarray(distance_transform_edt(np.pad(valid, 1)))[1:-1, 1:-1]
    widest = float(distance.max())
    window: Float64Array = np.sin(0.5 * np.pi * distance / (widest + 0.5 if widest else 1.0)) ** 2
    return np.minimum(window, 1.0)


def compute_radial_power(images: Array, window: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return the mean power spectral density of images in radial bins.

    The squared Fourier transform of the images, centered under the window and multiplied by it, over its sum of
    squares (Welch, The use of fast Fourier transform for the estimation of power spectra, 1967). White noise of
    variance s has the density s in every bin, and the mean over all frequencies is the variance under the window.

    Args:
        images: ``(c, y, x)``, finite wherever ``window`` is above 0.
        window: ``(y, x)``, at least 0.

    Returns:
        density ``(c, 25)`` in squared units of the images, 0 in bins without a frequency; and ``(25,)``, each bin's
        share of all frequencies, the constant included, so that shares add up to a little less than 1.
    """
    from scipy.fft import rfft2

    energy, total = float(np.square(window).sum()), float(window.sum())
    shape = _compute_fft_shape(images.shape[-2], images.shape[-1])
    bins, weight = _assign_frequency_bins(shape)
    count = np.bincount(bins, weights=weight, minlength=len(compute_bin_centers()) + 1)[1:]
    if energy == 0:
        return np.zeros((len(images), len(count))), np.zeros_like(count)
    values = np.where(window > 0, images, 0.0).astype(np.float64)
    mean = (values * window).sum(axis=(1, 2)) / total
    spectra = rfft2((values - mean[:, None, None]) * window, s=shape, axes=(-2, -1))
    power = (spectra.real**2 + spectra.imag**2).reshape(len(images), -1) / energy
    sums = np.stack([np.bincount(bins, weights=weight * band, minlength=len(count) + 1)[1:] for band in power])
    return sums / np.maximum(count, 1.0), count / (shape[0] * shape[1])


def _compute_fft_shape(height: int, width: int) -> tuple[int, int]:
    """Return slightly larger lengths with a fast transform; the window is 0 in the padding."""
    from scipy.fft import next_fast_len

    return int(next_fast_len(height)), int(next_fast_len(width, real=True))


@functools.lru_cache(maxsize=32)
def _assign_frequency_bins(shape: tuple[int, int]) -> tuple[IntArray, Float64Array]:
    """Return, for each frequency of ``rfft2``, its bin + 1 (0: the constant) and how often it counts."""
    height, width = shape
    down, right = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    radius = np.hypot(down, right)
    # A frequency that equals an edge up to rounding belongs to the bin below.
    bins = np.searchsorted(compute_bin_edges() * (1 + 1e-12), radius.ravel(), side="left") + 1
    bins[0] = 0
    unpaired = (np.arange(width // 2 + 1) == 0) | (2 * np.arange(width // 2 + 1) == width)
    weight = np.broadcast_to(np.where(unpaired, 1.0, 2.0), radius.shape).ravel()
    return bins, weight
