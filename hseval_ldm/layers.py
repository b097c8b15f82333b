"""The building blocks of the networks: nothing in them shares statistics between pixels or cubes.

Group and batch norms average over space, so a crop, a tile and a whole cube would be decoded differently and the
surround of the field of view would change the pixels inside it. Here every norm works on one pixel's channels.
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn import functional


def unchanged_types(device: torch.device) -> AbstractContextManager[object]:
    """Return a context without autocast; the ``meta`` device has none to switch off."""
    if not torch.amp.is_autocast_available(device.type):
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


class ChannelNorm(nn.Module):
    """Layer norm of each pixel's channels (Ba et al. 2016): statistics in float32, whatever the input's type."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Normalise ``(n, channel, y, x)`` of any float type; the type is kept."""
        kind = features.dtype
        # Autocast would widen the whole tensor; the kernel itself sums in float32.
        with unchanged_types(features.device):
            last = features.movedim(1, -1)
            normed = functional.layer_norm(last, last.shape[-1:], self.gain.to(kind), self.shift.to(kind), 1e-6)
        return normed.movedim(-1, 1)


class ResidualBlock(nn.Module):
    """Norm, SiLU, 3 x 3 convolution, twice, added to the input; the second convolution starts at zero."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.norm_in, self.norm_out = ChannelNorm(channels_in), ChannelNorm(channels_out)
        self.conv_in = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.conv_out = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.skip = nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)
        for start in self.conv_out.parameters():
            nn.init.zeros_(start)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(n, channels_in, y, x)`` to ``(n, channels_out, y, x)``."""
        inner = self.conv_in(functional.silu(self.norm_in(features)))
        inner = self.conv_out(functional.silu(self.norm_out(inner)))
        return torch.as_tensor(self.skip(features) + inner)


class Halve(nn.Module):
    """Space to depth and a 1 x 1 convolution: halves both sides without dropping a pixel."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4 * channels_in, channels_out, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(n, channels_in, y, x)`` to ``(n, channels_out, y / 2, x / 2)``."""
        return torch.as_tensor(self.conv(functional.pixel_unshuffle(features, 2)))


class Double(nn.Module):
    """A 1 x 1 convolution and depth to space: doubles both sides."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, 4 * channels_out, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(n, channels_in, y, x)`` to ``(n, channels_out, 2 y, 2 x)``."""
        return functional.pixel_shuffle(self.conv(features), 2)
