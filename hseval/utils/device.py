"""The device that torch computes on."""

from __future__ import annotations

import os

from hseval.utils.errors import HsevalError, format_error
from hseval.utils.plural import format_count


def resolve_device(device: str | None) -> str:
    """Return a device that torch can compute on, with its number: ``"cpu"``, ``"cuda:0"``.

    Args:
        device: None: a GPU if there is one, else the CPU. Under torchrun ``"cuda"`` is the GPU of the process' own
            number on its machine.

    Raises:
        HsevalError: torch can't compute on it.
    """
    if device == "cpu":
        return device
    import torch

    gpu_count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device is None:
        device = "cuda" if gpu_count else "cpu"
    resolved = device
    if device == "cuda" and gpu_count:
        index = read_torchrun_variable("LOCAL_RANK", -1)
        resolved = f"cuda:{torch.cuda.current_device() if index < 0 else index}"
    try:
        torch.ones(1, device=torch.device(resolved)).cpu()
    except (RuntimeError, NotImplementedError, AssertionError) as error:
        choices = " or ".join(["cpu", *(f"cuda:{index}" for index in range(gpu_count))])
        reason = _explain_failure(resolved, gpu_count, error)
        raise HsevalError(f"--device {device}: {reason}; use {choices}") from error
    return resolved


def _explain_failure(device: str, gpu_count: int, error: Exception) -> str:
    import torch

    try:
        parsed = torch.device(device)
    except RuntimeError:
        return "not the name of a device"
    if parsed.type != "cuda":
        return "torch can't compute on it here"
    if (parsed.index or 0) >= gpu_count:
        return f"torch finds {format_count(gpu_count, 'GPU')} here"
    return f"can't be used ({format_error(error)})"


def read_torchrun_variable(name: str, default: int) -> int:
    """Return an integer that torchrun sets in the environment.

    Raises:
        HsevalError: it is not an integer.
    """
    value = os.environ.get(name, str(default))
    try:
        return int(value)
    except ValueError as error:
        raise HsevalError(f"{name}={value!r}: expected an integer, as torchrun sets it") from error
