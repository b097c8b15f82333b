"""Encoder and decoder: a picture (bands, and masks as further channels) to latents and back.

Both are plain convolutions on a space-to-depth stem: full resolution, where most of the time of such networks goes,
is only ever touched by one reshape and one convolution. There is no attention and no norm over space, so a decoded
pixel depends on the latents within :attr:`Decoder.reach` alone, and tiles with that overlap have no seam.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

from hseval_ldm.layers import ChannelNorm, Double, Halve, ResidualBlock

WIDEST = 4  # channels double with each level up to this multiple


def level_widths(width: int, compression: int, stem: int) -> list[int]:
    """Return the channels of each level, from the stem's resolution to the latents'."""
    halvings = int(math.log2(compression // stem))
    return [width * min(2**level, WIDEST) for level in range(halvings + 1)]


class Encoder(nn.Module):
    """Maps a picture ``(n, channel, y, x)`` to latents ``(n, latent channel, y / compression, x / compression)``."""

    def __init__(self, *, channels: int, latent: int, width: int, blocks: int, compression: int, stem: int) -> None:
        super().__init__()
        widths = level_widths(width, compression, stem)
        self.stem = stem
        layers: list[nn.Module] = [nn.Conv2d(channels * stem**2, widths[0], 3, padding=1)]
        for finer, coarser in zip([None, *widths], widths, strict=False):
            if finer is not None:
                layers.append(Halve(finer, coarser))
            layers += [ResidualBlock(coarser, coarser) for _ in range(blocks)]
        layers += [ChannelNorm(widths[-1]), nn.SiLU(), nn.Conv2d(widths[-1], latent, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, picture: Tensor) -> Tensor:
        """Encode; both sides have to be multiples of the compression."""
        return self.layers(functional.pixel_unshuffle(picture, self.stem)).float()  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Maps (quantised) latents to a picture; the mirror image of :class:`Encoder`."""

    def __init__(self, *, channels: int, latent: int, width: int, blocks: int, compression: int, stem: int) -> None:
        super().__init__()
        widths = level_widths(width, compression, stem)[::-1]
        self.stem, self.blocks = stem, blocks
        layers: list[nn.Module] = [nn.Conv2d(latent, widths[0], 3, padding=1)]
        for coarser, finer in zip([None, *widths], widths, strict=False):
            if coarser is not None:
                layers.append(Double(coarser, finer))
            layers += [ResidualBlock(finer, finer) for _ in range(blocks)]
        layers += [ChannelNorm(widths[-1]), nn.SiLU()]
        self.layers = nn.Sequential(*layers)
        self.last = nn.Conv2d(widths[-1], channels * stem**2, 3, padding=1)
        self.levels = len(widths)

    def forward(self, latents: Tensor) -> Tensor:
        """Decode to float32."""
        return functional.pixel_shuffle(self.last(self.layers(latents)).float(), self.stem)

    @property
    def reach(self) -> int:
        """How many latents away a decoded pixel still depends on: 3 x 3 convolutions, level by level, rounded up."""
        convolutions = [2 * self.blocks] * self.levels
        convolutions[0] += 1
        convolutions[-1] += 1
        return math.ceil(sum(count / (1 << level) for level, count in enumerate(convolutions)))
