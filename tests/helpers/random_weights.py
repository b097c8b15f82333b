"""Networks with random weights as if trained: no weight is zero, and activations have a stable scale."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import nn

from hseval_ldm.models.autoencoder import ChannelNorm

M = TypeVar("M", bound=nn.Module)


def randomize_weights(module: M, seed: int = 0) -> M:
    """Redraw all weights; new networks have zeros that hide dependencies."""
    generator = torch.Generator().manual_seed(seed)

    def draw(parameter: nn.Parameter, scale: float, mean: float = 0.0) -> None:
        parameter.data = mean + scale * torch.randn(parameter.shape, generator=generator).to(parameter)

    for part in module.modules():
        if isinstance(part, ChannelNorm):
            draw(part.gain, 0.2, mean=1.0)
            draw(part.shift, 0.2)
        elif isinstance(part, nn.Conv2d):
            draw(part.weight, 1 / math.sqrt(part.weight[0].numel()))
            if part.bias is not None:
                draw(part.bias, 0.2)
    return module


def draw_normal(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return standard normal numbers, a function of the seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
