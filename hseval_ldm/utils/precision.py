"""The number type of the networks: bf16 where the device is fast at it, else float32."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Literal

import torch

from hseval.plugin import HsevalError

Precision = Literal["auto", "float32", "bf16"]


def resolve_precision(precision: Precision, device: torch.device) -> Literal["float32", "bf16"]:
    """Return the precision to use; ``auto``: bf16 on a GPU or CPU with matrix units for it, else float32.

    Raises:
        HsevalError: bf16 is requested on a GPU without it.
    """
    if precision != "auto":
        if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
            name = torch.cuda.get_device_name(device)
            raise HsevalError(f"precision=bf16: {name} does not support bf16; use float32")
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bf16" if device.type == "cpu" and _has_amx() else "float32"


def build_autocast(precision: Precision, device: torch.device) -> Callable[[], AbstractContextManager[object]]:
    """Return a factory of contexts in which matrix products and convolutions run in ``precision``."""
    if resolve_precision(precision, device) == "float32":
        return contextlib.nullcontext
    return lambda: torch.autocast(device.type, dtype=torch.bfloat16)


def _has_amx() -> bool:
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16") or capabilities.get("amx_tile"))
