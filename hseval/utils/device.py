"""The device that torch computes on."""

from __future__ import annotations

import os

from hseval.utils.errors import HsevalError, format_error


def resolve_device(device: str | None) -> str:
    """Return a device that torch can compute on; under torchrun every rank gets a GPU of its own.

    Raises:
        HsevalError: torch can't compute on it.
    """
    import torch

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and "LOCAL_RANK" in os.environ:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        torch.ones(1, device=device).cpu()
    except (RuntimeError, NotImplementedError, AssertionError) as error:
        raise HsevalError(f"--device {device}: can't be used ({format_error(error)}); cpu works") from error
    return device
