"""The optimiser's common part: rates by step, gradients clipped, networks spread over ranks."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from hseval_ldm.utils.distributed import Ranks

WARMUP_SHARE = 0.02  # share of the steps over which the rate rises
MIN_RATE_RATIO = 0.02  # of the peak, at the end
MAX_GRADIENT_NORM = 1.0  # norm of the gradient, at most


def compute_learning_rate(step: int, steps: int, peak_rate: float) -> float:
    """Return the learning rate: a linear rise, then half a cosine (Loshchilov and Hutter 2017)."""
    rise = max(1, round(WARMUP_SHARE * steps))
    along = min(1.0, max(0.0, (step - rise) / max(1, steps - rise)))
    return (
        peak_rate
        * min(1.0, (step + 1) / rise)
        * (MIN_RATE_RATIO + (1 - MIN_RATE_RATIO) * 0.5 * (1 + math.cos(math.pi * along)))
    )


def build_adamw(parameters: Iterable[Tensor], device: torch.device, *, beta1: float = 0.9) -> torch.optim.AdamW:
    """Return AdamW; fused on a GPU, where a step is otherwise many small kernels."""
    fused = device.type == "cuda"
    return torch.optim.AdamW(parameters, lr=0.0, betas=(beta1, 0.99), weight_decay=1e-4, fused=fused)


def update_parameters(
    optimizer: torch.optim.Optimizer, loss: Tensor, parameters: list[nn.Parameter], learning_rate: float
) -> None:
    """Minimise: backward, clip, step."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
    optimizer.step()


def wrap_network(module: nn.Module, ranks: Ranks, *, compiled: bool = False) -> nn.Module:
    """Return the module, under several ranks wrapped so that backward averages gradients (DDP), or compiled, or both.

    Buffers are not broadcast: the codebook's averages are summed over ranks where they are made. The module itself
    keeps its names and its weights: states are read from it.
    """
    if ranks.size > 1:
        given: dict[str, Any] = {"broadcast_buffers": False}
        if ranks.device.type == "cuda":
            given["device_ids"] = [ranks.device.index]
        with warnings.catch_warnings():
            # torch is about to give the argument another name and another meaning; older releases know this one alone.
            warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)
            module = nn.parallel.DistributedDataParallel(module, **given)
    return torch.compile(module) if compiled else module  # type: ignore[return-value]
