"""Morlet wavelets on a periodic canvas, applied and subsampled in the Fourier domain.

Mallat, Group invariant scattering, CPAM 2012; Bruna and Mallat, Invariant scattering convolution networks,
PAMI 2013. Center frequencies 3 pi / 4 / 2^j and envelopes of 0.8 * 2^j px, as is usual.

A wavelet of scale j passes a band no wider than 2 pi / 2^j, so its output needs only every 2^j-th position.
Only the frequencies inside that band are multiplied and transformed back: the cost is proportional to the pixels
of the output, not of the canvas, and nothing aliases.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from hseval.utils.arrays import Float64Array, IntArray

if TYPE_CHECKING:
    import torch

CENTER_FREQUENCY = 0.75 * math.pi  # rad/px, center frequency of the finest scale
ENVELOPE_STD = 0.8  # px, standard deviation of the finest scale's Gaussian envelope
TAPER_START = 0.8  # a filter's passband falls to 0 from this share of its half width on


@dataclasses.dataclass(frozen=True)
class WaveletScale:
    """The wavelets of one scale, for a canvas of ``(step * y, step * x)`` pixels.

    Attributes:
        step: 2^j, px between output positions.
        first_rows: per orientation, the first (signed) frequency index of its passband's rows.
        first_columns: the same for columns.
        response: float32 ``(orientation, y, x)``, the filters there (real: the wavelets are Hermitian).
        envelope: float32 ``(y, x)``, transfer function of the envelope of a whole scattering path that ends here.
    """

    step: int
    first_rows: tuple[int, ...]
    first_columns: tuple[int, ...]
    response: torch.Tensor
    envelope: torch.Tensor


@functools.lru_cache(maxsize=16)
def build_filter_bank(
    canvas: tuple[int, int], scales: int, orientations: int, device: str = "cpu"
) -> tuple[WaveletScale, ...]:
    """Return the wavelets of every scale, finest first. ``canvas`` is a multiple of ``2 ** (scales - 1)``."""
    import torch

    bank = []
    for j in range(scales):
        shape = canvas[0] >> j, canvas[1] >> j
        wavelets = [_build_wavelet(canvas, shape, j, angle, orientations) for angle in compute_angles(orientations)]
        rows, columns, responses = zip(*wavelets, strict=True)
        arrays = np.stack(responses), _compute_path_envelope(canvas, shape, j)
        response, envelope = (torch.from_numpy(array.astype(np.float32)).to(device) for array in arrays)
        bank.append(WaveletScale(2**j, rows, columns, response, envelope))
    return tuple(bank)


def compute_angles(orientations: int) -> list[float]:
    """Return the directions of the wavelets' oscillation, radians from the x axis, in [0, pi)."""
    return [math.pi * index / orientations for index in range(orientations)]


def apply_wavelets(spectra: torch.Tensor, scale: WaveletScale) -> torch.Tensor:
    """Filter with every orientation of a scale.

    Args:
        spectra: complex ``(..., y', x')``: 2D spectra (``fft2``) of signals whose sampling is at least as
            fine as the scale's and that share its canvas.
        scale: of :func:`build_filter_bank`.

    Returns:
        complex ``(..., orientation, y, x)``, the signals convolved with the wavelets at every ``step``-th px.
    """
    import torch

    height, width = spectra.shape[-2:]
    fine = height // scale.response.shape[-2]  # one of fine x fine positions remains: ifft2 divides by fewer
    response = scale.response / fine**2
    products = spectra.new_empty(*spectra.shape[:-2], *response.shape)
    for i, (rows, columns) in enumerate(zip(scale.first_rows, scale.first_columns, strict=True)):
        for y, source_y in _compute_wrapped_slices(rows, response.shape[-2], height):
            for x, source_x in _compute_wrapped_slices(columns, response.shape[-1], width):
                torch.mul(spectra[..., source_y, source_x], response[i, y, x], out=products[..., i, y, x])
    waves: torch.Tensor = torch.fft.ifft2(products)
    return waves


def compute_coverage(spectra: torch.Tensor, scale: WaveletScale) -> torch.Tensor:
    """Return the share of a path's envelope inside fields, (..., y, x), from their ``fft2`` on the full canvas."""
    import torch

    height, width = scale.envelope.shape
    rows = _compute_signed_indices(height, spectra.device) % spectra.shape[-2]
    columns = _compute_signed_indices(width, spectra.device) % spectra.shape[-1]
    low = spectra.index_select(-2, rows).index_select(-1, columns)
    share: torch.Tensor = torch.fft.ifft2(low * (scale.envelope / scale.step**2)).real
    return share


def modulus(values: torch.Tensor) -> torch.Tensor:
    """Return the absolute value of complex ``values``; several times faster than ``abs``, which guards overflow."""
    real, imaginary = values.real, values.imag
    return (real * real).addcmul_(imaginary, imaginary).sqrt_()


def _compute_wrapped_slices(first: int, length: int, size: int) -> list[tuple[slice, slice]]:
    """Return (to, from) slices that take frequencies ``first ... first + length - 1`` out of a spectrum of ``size``.

    Frequency k lies at k mod size in the spectrum, and at k mod length in the subsampled one; both wrap at 0.
    """
    wrap = first + (-first) % length
    intervals = [(first, wrap), (wrap, first + length)]
    return [(slice(a % length, a % length + b - a), slice(a % size, a % size + b - a)) for a, b in intervals if b > a]


def _compute_signed_indices(size: int, device: torch.device) -> torch.Tensor:
    import torch

    index = torch.arange(size, device=device)
    return torch.where(index < (size + 1) // 2, index, index - size)


def _build_wavelet(
    canvas: tuple[int, int], shape: tuple[int, int], j: int, angle: float, orientations: int
) -> tuple[int, int, Float64Array]:
    """Return one wavelet: the first row and column of its passband, and its transfer function there (y, x)."""
    center = CENTER_FREQUENCY / 2**j
    peak = center * math.sin(angle), center * math.cos(angle)
    indices = [
        _select_frequencies(size, length, shift) for size, length, shift in zip(canvas, shape, peak, strict=True)
    ]
    v, u = (2 * np.pi * index / size for index, size in zip(indices, canvas, strict=True))
    v, u = v[:, None], u[None, :]
    along, across = u * math.cos(angle) + v * math.sin(angle), v * math.cos(angle) - u * math.sin(angle)
    response = _morlet(along, across, center, ENVELOPE_STD * 2**j, orientations)
    edge = np.pi / 2**j
    first = int(indices[0].min()), int(indices[1].min())
    return *first, response * _compute_passband_taper(v - peak[0], edge) * _compute_passband_taper(u - peak[1], edge)


def _select_frequencies(size: int, length: int, center: float) -> IntArray:
    """Return the ``length`` frequency indices nearest ``center`` (rad/px), in the order of a spectrum of that length.

    Frequency k of the canvas is frequency k mod length of the subsampled signal.
    """
    first = round(center * size / (2 * np.pi)) - length // 2
    index = np.arange(first, first + length, dtype=np.int64)
    return index[np.argsort(index % length)]


def _morlet(along: Float64Array, across: Float64Array, center: float, sigma: float, orientations: int) -> Float64Array:
    """Return a Morlet wavelet's transfer function: a Gaussian at ``center`` less one at 0, so that its mean is 0.

    The envelope is longer across the oscillation when there are more than four orientations.
    """
    slant = 4.0 / orientations
    transverse = (across / slant) ** 2
    shifted = np.exp(-0.5 * sigma**2 * ((along - center) ** 2 + transverse))
    base = np.exp(-0.5 * sigma**2 * (along**2 + transverse))
    return np.asarray(shifted - math.exp(-0.5 * (sigma * center) ** 2) * base)


def _compute_passband_taper(offset: Float64Array, edge: float) -> Float64Array:
    """Return 1 in the middle of the passband, falling to 0 at its edge as a squared cosine."""
    position = np.clip((np.abs(offset) / edge - TAPER_START) / (1 - TAPER_START), 0.0, 1.0)
    return np.asarray(np.cos(0.5 * np.pi * position) ** 2)


def _compute_path_envelope(canvas: tuple[int, int], shape: tuple[int, int], j: int) -> Float64Array:
    """Return the transfer function (y, x) of the Gaussian that bounds every path ending at scale j.

    Variances add along a path: 4^j + 4^(j-1) + ... < 4/3 * 4^j.
    """
    sigma = ENVELOPE_STD * 2**j * math.sqrt(4.0 / 3.0)
    v, u = (2 * np.pi * np.fft.fftfreq(length, 1 / length) / size for length, size in zip(shape, canvas, strict=True))
    return np.asarray(np.exp(-0.5 * sigma**2 * (v[:, None] ** 2 + u[None, :] ** 2)))
