"""The denoising network: the ``UNet2DModel`` of diffusers for latents of any height and width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hseval.plugin import HsevalError, create_rng, fork_torch_rng, format_count

MAX_NORM_GROUPS = 32  # groups of the group norms, or the largest smaller number that divides the channels


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


def build_unet(
    *,
    channels: int,
    base: int,
    multipliers: Sequence[int] = (1, 2, 4),
    blocks: int = 2,
    attention: Sequence[bool] | None = None,
    head: int = 64,
    dropout: float = 0.0,
    seed: int = 0,
) -> Denoiser:
    """Build the network with random weights; under ``torch.device("meta")`` without any.

    Args:
        channels: latent channels of input and output.
        base: channels of the first level.
        multipliers: channels of each level in units of ``base``; each level after the first halves both sides.
        blocks: residual blocks per level on the way down (one more on the way up).
        attention: for each level, whether its blocks have attention. By default only the lowest level (and always
            the middle block) has: its cost is quadratic in the tokens, and with three levels latents of 28 x 28 and
            56 x 56 have 49 and 196 tokens there, but 784 and 3136 on the first level.
        head: channels of an attention head, or the largest smaller number that divides the channels of every level.
        dropout: share of features dropped in the residual blocks when training.
        seed: of the initial weights; torch's own generator is neither used nor changed.

    Raises:
        HsevalError: a number is out of range, or ``attention`` and ``multipliers`` differ in length.
    """
    import diffusers

    if attention is None:
        attention = [level == len(multipliers) - 1 for level in range(len(multipliers))]
    _check_arguments(
        channels=channels, base=base, blocks=blocks, head=head, multipliers=multipliers, attention=attention
    )
    widths = tuple(base * multiplier for multiplier in multipliers)
    groups = math.gcd(MAX_NORM_GROUPS, base)
    model: Any = diffusers.UNet2DModel
    with fork_torch_rng(int(create_rng(seed, "ldm unet weights").integers(2**63))):
        unet = model(
            in_channels=channels,
            out_channels=channels,
            block_out_channels=widths,
            layers_per_block=blocks,
            down_block_types=tuple("AttnDownBlock2D" if attends else "DownBlock2D" for attends in attention),
            up_block_types=tuple("AttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(attention)),
            attention_head_dim=math.gcd(head, *widths),
            norm_num_groups=groups,
            attn_norm_num_groups=groups,
            resnet_time_scale_shift="scale_shift",
            dropout=dropout,
        )
    for parameter in unet.conv_out.parameters():
        nn.init.zeros_(
            parameter
        )  # the first prediction is 0, as in Ho et al.: the loss starts at the velocity's variance
    return Denoiser(unet, levels=len(widths))


def select_memory_format(device: torch.device) -> torch.memory_format:
    """Return the fastest memory layout of the network: group norm on a CPU is slow with channels last."""
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def count_parameters(module: nn.Module) -> int:
    """Return the number of trainable parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def _compute_margins(side: int, multiple: int) -> tuple[int, int]:
    missing = -side % multiple
    return missing // 2, missing - missing // 2


def _check_arguments(*, multipliers: Sequence[int], attention: Sequence[bool], **counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise HsevalError(f"unet: {name} is {count}, expected 1 or more")
    if not multipliers or min(multipliers) < 1:
        raise HsevalError(
            f"unet: multipliers is {list(multipliers)}, expected whole numbers of 1 or more, one per level"
        )
    if len(attention) != len(multipliers):
        mismatch = f"attention has length {len(attention)} for {format_count(len(multipliers), 'level')}"
        raise HsevalError(f"unet: {mismatch}; expected true or false per level")
