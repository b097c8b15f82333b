"""Gaussian smoothing and ridges at several scales, on a canvas that the field of view is filled out to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.data.field_of_view import canvas_shape, fill_outside

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

REACH = 3.0  # of the widest Gaussian: room on the periodic canvas between opposite edges


class Canvas:
    """Channels of one cube in the Fourier domain, ready to be filtered.

    Args:
        channels: float ``(c, y, x)``, finite.
        valid: bool ``(y, x)``; elsewhere channels are filled smoothly from inside (see :mod:`hseval.data.field_of_view`).
        widest: the largest sigma that will be asked for, px.
    """

    def __init__(self, channels: Floats, valid: NDArray[np.bool_], *, widest: float) -> None:
        import torch

        self.shape = valid.shape
        height, width = valid.shape
        shape = canvas_shape(height, width, margin=int(np.ceil(REACH * widest)))
        images, field = torch.from_numpy(channels)[None], torch.from_numpy(np.ascontiguousarray(valid))[None]
        filled = fill_outside(images, field, canvas=shape)[0]
        self.spectrum = torch.fft.rfft2(filled)
        self.y = 2 * np.pi * torch.fft.fftfreq(shape[0])[:, None]
        self.x = 2 * np.pi * torch.fft.rfftfreq(shape[1])[None, :]
        self.canvas = shape

    def smoothed(self, sigma: float) -> Floats:
        """Return ``(c, y, x)`` after a Gaussian of ``sigma`` px."""
        return self._back(self.spectrum * self._gaussian(sigma))

    def ridges(self, sigma: float, count: int) -> Floats:
        """Return the Hessian's larger and smaller eigenvalue at a scale, times sigma squared: ``(2 count, y, x)``.

        Scale-normalised second derivatives of a Gaussian (Lindeberg, Edge detection and ridge detection with automatic
        scale selection, 1998); a dark line has one large positive eigenvalue, a bright one a large negative
        one, a blob two of one sign. Only the first ``count`` channels are looked at.
        """
        import torch

        smooth = self.spectrum[:count] * self._gaussian(sigma) * sigma**2
        yy, xx, yx = (
            torch.from_numpy(self._back(-smooth * factor)) for factor in (self.y**2, self.x**2, self.y * self.x)
        )
        middle, half = (yy + xx) / 2, torch.hypot((yy - xx) / 2, yx)
        found: Floats = torch.cat([middle + half, middle - half]).numpy()
        return found

    def _gaussian(self, sigma: float) -> torch.Tensor:
        import torch

        return torch.exp(-0.5 * sigma**2 * (self.y**2 + self.x**2))

    def _back(self, spectrum: Any) -> Floats:
        import torch

        height, width = self.shape
        found: Floats = torch.fft.irfft2(spectrum, s=self.canvas)[..., :height, :width].numpy()
        return found
