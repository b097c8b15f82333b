"""Encoder and decoder: an image (bands, and masks as further channels) to latents and back.

Both are plain convolutions on a space-to-depth stem: at full resolution, where such networks spend most of their time,
there is only one reshape and one convolution. There is no attention and no norm over space, so a decoded pixel depends
on the latents within :attr:`Decoder.receptive_radius` alone, and tiles with that overlap have no seam.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn import functional


def disable_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return a context without autocast; the ``meta`` device has no autocast."""
    if not torch.amp.is_autocast_available(device.type):
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each pixel (Ba et al. 2016); statistics are float32 for every input type."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Normalize ``(n, channel, y, x)`` of any float type; the type is preserved."""
        dtype = features.dtype
        # Autocast would convert the whole tensor to float32; the kernel itself sums in float32.
        with disable_autocast(features.device):
            channels_last = features.movedim(1, -1)
            shape, gain, shift = channels_last.shape[-1:], self.gain.to(dtype), self.shift.to(dtype)
            normalized = functional.layer_norm(channels_last, shape, gain, shift, 1e-6)
        return normalized.movedim(-1, 1)


class ResidualBlock(nn.Module):
    """Norm, SiLU, 3 x 3 convolution, twice, added to the input; the second convolution starts at zero."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.norm_in, self.norm_out = ChannelNorm(channels_in), ChannelNorm(channels_out)
        self.conv_in = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.conv_out = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.skip = nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)
        for parameter in self.conv_out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(n, channels_in, y, x)`` to ``(n, channels_out, y, x)``."""
        residual = self.conv_in(functional.silu(self.norm_in(features)))
        residual = self.conv_out(functional.silu(self.norm_out(residual)))
        return torch.as_tensor(self.skip(features) + residual)


class Downsample(nn.Module):
    """Space to depth and a 1 x 1 convolution: halves both sides without dropping a pixel."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4 * channels_in, channels_out, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(n, channels_in, y, x)`` to ``(n, channels_out, y / 2, x / 2)``."""
        return torch.as_tensor(self.conv(functional.pixel_unshuffle(features, 2)))


class Upsample(nn.Module):
    """A 1 x 1 convolution and depth to space: doubles both sides."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, 4 * channels_out, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(n, channels_in, y, x)`` to ``(n, channels_out, 2 y, 2 x)``."""
        return functional.pixel_shuffle(self.conv(features), 2)


MAX_WIDTH_MULTIPLE = 4  # channels double with each level up to this multiple


def compute_level_widths(width: int, compression: int, stem: int) -> list[int]:
    """Return the channels of each level, from the stem's resolution to the latents'."""
    halvings = int(math.log2(compression // stem))
    return [width * min(2**level, MAX_WIDTH_MULTIPLE) for level in range(halvings + 1)]


class Encoder(nn.Module):
    """Maps an image ``(n, channel, y, x)`` to latents ``(n, latent channel, y / compression, x / compression)``."""

    def __init__(self, *, channels: int, latent: int, width: int, blocks: int, compression: int, stem: int) -> None:
        super().__init__()
        widths = compute_level_widths(width, compression, stem)
        self.stem = stem
        layers: list[nn.Module] = [nn.Conv2d(channels * stem**2, widths[0], 3, padding=1)]
        for finer, coarser in zip([None, *widths], widths, strict=False):
            if finer is not None:
                layers.append(Downsample(finer, coarser))
            layers += [ResidualBlock(coarser, coarser) for _ in range(blocks)]
        layers += [ChannelNorm(widths[-1]), nn.SiLU(), nn.Conv2d(widths[-1], latent, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, network_input: Tensor) -> Tensor:
        """Encode; both sides must be multiples of the compression."""
        return self.layers(functional.pixel_unshuffle(network_input, self.stem)).float()  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Maps (quantized) latents to an image; the mirror image of :class:`Encoder`."""

    def __init__(self, *, channels: int, latent: int, width: int, blocks: int, compression: int, stem: int) -> None:
        super().__init__()
        widths = compute_level_widths(width, compression, stem)[::-1]
        self.stem, self.blocks = stem, blocks
        layers: list[nn.Module] = [nn.Conv2d(latent, widths[0], 3, padding=1)]
        for coarser, finer in zip([None, *widths], widths, strict=False):
            if coarser is not None:
                layers.append(Upsample(coarser, finer))
            layers += [ResidualBlock(finer, finer) for _ in range(blocks)]
        layers += [ChannelNorm(widths[-1]), nn.SiLU()]
        self.layers = nn.Sequential(*layers)
        self.last = nn.Conv2d(widths[-1], channels * stem**2, 3, padding=1)
        self.levels = len(widths)

    def forward(self, latents: Tensor) -> Tensor:
        """Decode to float32."""
        return functional.pixel_shuffle(self.last(self.layers(latents)).float(), self.stem)

    @property
    def receptive_radius(self) -> int:
        """Radius, in latents, that a decoded pixel depends on: its 3 x 3 convolutions level by level, rounded up."""
        convolutions = [2 * self.blocks] * self.levels
        convolutions[0] += 1
        convolutions[-1] += 1
        return math.ceil(sum(count / (1 << level) for level, count in enumerate(convolutions)))


Span = tuple[int, int]


def apply_tiled(function: Callable[[Tensor], Tensor], latents: Tensor, *, tile: int, margin: int, scale: int) -> Tensor:
    """Return ``function(latents)``, computed tile by tile.

    A tile is decoded with ``margin`` more latents on each side, which are then cropped. If ``function`` does not depend
    on latents further away than ``margin``, this equals the untiled result: at the image's edge a tile has no margin,
    so that zero padding applies there as before. ``function`` maps ``(n, c, h, w)`` to ``(n, k, scale * h, scale *
    w)``; ``tile`` is the side of a tile in latents, without its margins (0: the whole image at once); for ``margin``
    see :attr:`Decoder.receptive_radius`.
    """
    height, width = latents.shape[-2:]
    if tile <= 0 or (height <= tile and width <= tile):
        return function(latents)
    rows = []
    for y in _split_spans(height, tile):
        row = [_apply_to_tile(function, latents, y, x, margin=margin, scale=scale) for x in _split_spans(width, tile)]
        rows.append(torch.cat(row, dim=-1))
    return torch.cat(rows, dim=-2)


def _split_spans(length: int, tile: int) -> Iterator[Span]:
    return ((start, min(start + tile, length)) for start in range(0, length, tile))


def _apply_to_tile(
    function: Callable[[Tensor], Tensor], latents: Tensor, y: Span, x: Span, *, margin: int, scale: int
) -> Tensor:
    """Decode the cells ``y`` by ``x`` with their margins, and crop the margins."""
    (top, bottom), (left, right) = y, x
    first_y, first_x = max(top - margin, 0), max(left - margin, 0)
    decoded = function(latents[..., first_y : bottom + margin, first_x : right + margin])
    start_y, start_x = (top - first_y) * scale, (left - first_x) * scale
    return decoded[..., start_y : start_y + (bottom - top) * scale, start_x : start_x + (right - left) * scale]
