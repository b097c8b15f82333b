"""Shared parts of optimization: learning rates by step, the optimizer, networks distributed over ranks."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from hseval.generator_kit import Ranks

WARMUP_SHARE = 0.02  # share of the steps over which the learning rate rises
MIN_RATE_RATIO = 0.02  # final learning rate, relative to the peak


def compute_learning_rate(step: int, steps: int, peak_rate: float) -> float:
    """Return the learning rate: a linear rise, then half a cosine (Loshchilov and Hutter 2017)."""
    warmup = max(1, round(WARMUP_SHARE * steps))
    progress = min(1.0, max(0.0, (step - warmup) / max(1, steps - warmup)))
    return (
        peak_rate
        * min(1.0, (step + 1) / warmup)
        * (MIN_RATE_RATIO + (1 - MIN_RATE_RATIO) * 0.5 * (1 + math.cos(math.pi * progress)))
    )


def build_adamw(parameters: Iterable[Tensor], device: torch.device, *, beta1: float = 0.9) -> torch.optim.AdamW:
    """Return AdamW; fused on a GPU, where a step would otherwise be many small kernels."""
    fused = device.type == "cuda"
    return torch.optim.AdamW(parameters, lr=0.0, betas=(beta1, 0.99), weight_decay=1e-4, fused=fused)


def wrap_network(module: nn.Module, ranks: Ranks, *, compiled: bool = False) -> nn.Module:
    """Return the module, wrapped in DDP if there are several ranks, and compiled if requested.

    Buffers are not broadcast: the codebook sums its averages over ranks itself. The original module shares the weights
    under its own names: states are read from it.
    """
    if ranks.size > 1:
        arguments: dict[str, Any] = {"broadcast_buffers": False}
        if ranks.device.type == "cuda":
            arguments["device_ids"] = [ranks.device.index]
        with warnings.catch_warnings():
            # torch is going to rename and redefine the argument; older releases have only this one.
            warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)
            module = nn.parallel.DistributedDataParallel(module, **arguments)
    return torch.compile(module) if compiled else module  # type: ignore[return-value]
