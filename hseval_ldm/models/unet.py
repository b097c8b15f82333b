"""The denoising network: the ``UNet2DModel`` of diffusers for latents of any height and width."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hseval.plugin import create_rng, fork_torch_rng
from hseval_ldm.options import LdmOptions

MAX_NORM_GROUPS = 32  # groups of the group norms, or the largest smaller number that divides the channels
MAX_HEAD_CHANNELS = 64  # of an attention head, or the largest smaller number that divides the channels of every level


class Denoiser(nn.Module):
    """A U-Net (Ho et al. 2020) that maps noisy latents and times to a prediction of the same shape.

    Sides that the levels can't halve are padded with zeros, the mean of normalized latents, and cropped afterwards:
    convolutions pad with zeros anyway, and unlike replicated edges zeros have a deterministic gradient on a GPU. No
    weight depends on the latents' height and width, so weights trained at one resolution load and run at any other;
    group norm and attention then see more tokens, so the weights should be fine-tuned.
    """

    def __init__(self, unet: nn.Module, *, levels: int) -> None:
        super().__init__()
        self.unet = unet
        self.multiple = 2 ** (levels - 1)

    def forward(self, latents: Tensor, t: Tensor) -> Tensor:
        """Predict float32 ``(n, channel, y, x)`` from latents of that shape and times ``t``, int or float ``(n,)``."""
        height, width = latents.shape[-2:]
        above, below = _compute_margins(height, self.multiple)
        left, right = _compute_margins(width, self.multiple)
        padded = functional.pad(latents, (left, right, above, below)) if above + below + left + right else latents
        predicted = self.unet(padded, t, return_dict=False)[0]
        return torch.as_tensor(predicted[..., above : above + height, left : left + width].float())


def build_denoiser(options: LdmOptions, channels: int, *, seed: int = 0) -> Denoiser:
    """Build the network for latents of ``channels`` channels, with random weights; on the ``meta`` device without any.

    All levels but the first have attention: at most 196 tokens of 28 x 28 latents. A fixed rule lets weights transfer
    between sizes. The weights depend on the seed alone; torch's own generator is neither used nor changed.
    """
    import diffusers

    widths = tuple(options.base * multiplier for multiplier in options.multipliers)
    coarser = len(widths) - 1
    groups = math.gcd(MAX_NORM_GROUPS, options.base)
    model: Any = diffusers.UNet2DModel
    with fork_torch_rng(int(create_rng(seed, "ldm unet weights").integers(2**63))):
        unet = model(
            in_channels=channels,
            out_channels=channels,
            block_out_channels=widths,
            layers_per_block=options.unet_blocks,
            down_block_types=("DownBlock2D",) + ("AttnDownBlock2D",) * coarser,
            up_block_types=("AttnUpBlock2D",) * coarser + ("UpBlock2D",),
            attention_head_dim=math.gcd(MAX_HEAD_CHANNELS, *widths),
            norm_num_groups=groups,
            attn_norm_num_groups=groups,
            resnet_time_scale_shift="scale_shift",
            dropout=options.dropout,
        )
    # The first prediction is 0, as in Ho et al.: the loss starts at the velocity's variance.
    for parameter in unet.conv_out.parameters():
        nn.init.zeros_(parameter)
    return Denoiser(unet, levels=len(widths))


def select_memory_format(device: torch.device) -> torch.memory_format:
    """Return the fastest memory layout of the network: group norm on a CPU is slow with channels last."""
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def _compute_margins(side: int, multiple: int) -> tuple[int, int]:
    missing = -side % multiple
    return missing // 2, missing - missing // 2
