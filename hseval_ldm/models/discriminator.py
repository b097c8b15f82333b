"""The patch discriminator, which classifies patches of cubes as real or generated."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hseval_ldm.models.autoencoder import ChannelNorm, disable_autocast


class Discriminator(nn.Module):
    """Strided convolutions (Isola et al. 2017): one logit per 4 x 4 pixels, with a receptive field of 18 x 18.

    Runs in float32 even under autocast: hinge losses in half precision become NaN. Its input is cubes without masks,
    because soft masks would identify a decoder at once.
    """

    def __init__(self, bands: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(bands, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            ChannelNorm(2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1),
            ChannelNorm(4 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 1, 1),
        )

    def forward(self, cubes: Tensor, field: Tensor) -> Tensor:
        """Return float32 logits ``(n, 1, y / 4, x / 4)`` of cubes ``(n, band, y, x)``, 0 outside ``field``."""
        with disable_autocast(cubes.device):
            return torch.as_tensor(self.layers(cubes.float() * field))


def compute_patch_weight(field: Tensor) -> Tensor:
    """Return float ``(n, 1, y / 4, x / 4)``: the share of each patch that lies in the field."""
    return functional.avg_pool2d(field.float(), 4)
