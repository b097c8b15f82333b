"""Gaussian smoothing and ridge filters at several scales, on a canvas that is filled beyond the field of view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.data.field_of_view import compute_canvas_shape, fill_outside
from hseval.utils.arrays import BoolArray, Float32Array

if TYPE_CHECKING:
    import torch

MARGIN_SIGMAS = 3.0  # of the widest Gaussian: margin on the periodic canvas between opposite edges


class FourierImage:
    """Channels of one cube in the Fourier domain, ready to be filtered.

    Args:
        channels: float ``(c, y, x)``, finite.
        valid: bool ``(y, x)``; other pixels are filled smoothly from the inside (see :mod:`hseval.data.field_of_view`).
        max_sigma: the largest sigma of later calls, px.
    """

    def __init__(self, channels: Float32Array, valid: BoolArray, *, max_sigma: float) -> None:
        import torch

        self.shape = valid.shape
        height, width = valid.shape
        shape = compute_canvas_shape(height, width, margin=int(np.ceil(MARGIN_SIGMAS * max_sigma)))
        images, field = torch.from_numpy(channels)[None], torch.from_numpy(np.ascontiguousarray(valid))[None]
        filled = fill_outside(images, field, canvas=shape)[0]
        self.spectrum = torch.fft.rfft2(filled)
        self.y_frequencies = 2 * np.pi * torch.fft.fftfreq(shape[0])[:, None]
        self.x_frequencies = 2 * np.pi * torch.fft.rfftfreq(shape[1])[None, :]
        self.padded_shape = shape

    def smooth(self, sigma: float) -> Float32Array:
        """Return ``(c, y, x)`` after a Gaussian of ``sigma`` px."""
        return self._invert_transform(self.spectrum * self._compute_gaussian(sigma))

    def compute_ridges(self, sigma: float, count: int) -> Float32Array:
        """Return the Hessian's larger and smaller eigenvalue at a scale, times sigma squared: ``(2 count, y, x)``.

        Scale-normalized second derivatives of a Gaussian (Lindeberg, Edge detection and ridge detection with automatic
        scale selection, 1998); a dark line has one large positive eigenvalue, a bright one a large negative
        one, a blob two of one sign. Only the first ``count`` channels are used.
        """
        import torch

        smooth = self.spectrum[:count] * self._compute_gaussian(sigma) * sigma**2
        yy, xx, yx = (
            torch.from_numpy(self._invert_transform(-smooth * factor))
            for factor in (self.y_frequencies**2, self.x_frequencies**2, self.y_frequencies * self.x_frequencies)
        )
        middle, half = (yy + xx) / 2, torch.hypot((yy - xx) / 2, yx)
        return torch.cat([middle + half, middle - half]).numpy()

    def _compute_gaussian(self, sigma: float) -> torch.Tensor:
        import torch

        return torch.exp(-0.5 * sigma**2 * (self.y_frequencies**2 + self.x_frequencies**2))

    def _invert_transform(self, spectrum: Any) -> Float32Array:
        import torch

        height, width = self.shape
        return np.asarray(torch.fft.irfft2(spectrum, s=self.padded_shape)[..., :height, :width].numpy())
