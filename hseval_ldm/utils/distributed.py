"""Ranks: the processes that torchrun starts, each with an equal share of every global batch.

All ranks make every call, in the same order. In a single process the calls do nothing.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed

from hseval.utils.errors import HsevalError, format_error

T = TypeVar("T")


def run_on_all_ranks(ranks: Ranks, action: Callable[[], T]) -> T:
    """Run the action on every rank; an HsevalError of one rank is raised on all. The action must not communicate."""
    results, error = _capture_error(action)
    ranks.raise_first_error(error)
    return results[0]


def run_on_main_rank(ranks: Ranks, action: Callable[[], T]) -> T | None:
    """Run the action on the main rank alone (None on the others); its HsevalError is raised on all."""
    results, error = _capture_error(action) if ranks.is_main else ([], None)
    ranks.raise_first_error(error)
    return results[0] if results else None


def _capture_error(action: Callable[[], T]) -> tuple[list[T], str | None]:
    try:
        return [action()], None
    except HsevalError as error:
        return [], str(error)


@dataclasses.dataclass(frozen=True)
class Ranks:
    """This process is number ``rank`` of ``size`` and computes on ``device``."""

    rank: int = 0
    size: int = 1
    device: torch.device = dataclasses.field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def join(cls, device: str | None, *, timeout_s: float = 3600) -> Ranks:
        """Join the process group of torchrun (gloo; nccl between GPUs); without torchrun, return a single rank.

        Args:
            device: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` ...; None: CUDA where it is available. Under torchrun ``"cuda"``
                is the GPU of the rank's own number on its machine.
            timeout_s: how long a rank waits for another one, here and in every later call.

        Raises:
            HsevalError: the device can't be used, or the other ranks can't be reached.
        """
        resolved = resolve_device(device)
        size, rank = _read_env_int("WORLD_SIZE", 1), _read_env_int("RANK", 0)
        if not 0 <= rank < size:
            raise HsevalError(f"RANK={rank} WORLD_SIZE={size}: expected RANK in 0 .. WORLD_SIZE - 1, as torchrun sets")
        if size == 1:
            return cls(0, 1, resolved)
        if resolved.type == "cuda":
            torch.cuda.set_device(resolved)
        if not distributed.is_initialized():
            # gloo in addition to nccl, for messages and counts, which are tensors on the CPU.
            backend = "cpu:gloo,cuda:nccl" if resolved.type == "cuda" else "gloo"
            try:
                distributed.init_process_group(backend, timeout=timedelta(seconds=timeout_s))
            except (RuntimeError, ValueError, OSError) as error:
                reason = f"rank {rank} of {size} can't join the others ({format_error(error)})"
                raise HsevalError(f"{reason}; start all ranks with torchrun") from error
        return cls(rank, size, resolved)

    def leave(self) -> None:
        """Leave the process group."""
        if self.size > 1 and distributed.is_initialized():
            distributed.destroy_process_group()

    @property
    def is_main(self) -> bool:
        """Whether this is the main rank, which alone writes files and prints."""
        return self.rank == 0

    def get_local_slice(self, batch_size: int) -> slice:
        """Return this rank's part of a global batch; parts are equal, so that means of means are means.

        Raises:
            HsevalError: the batch can't be divided equally.
        """
        if batch_size % self.size:
            mismatch = f"a batch of {batch_size} can't be divided among {self.size} ranks"
            raise HsevalError(f"{mismatch}; use a multiple of {self.size}")
        local_size = batch_size // self.size
        return slice(self.rank * local_size, (self.rank + 1) * local_size)

    def get_local_range(self, count: int) -> range:
        """Return this rank's contiguous part of ``range(count)``, for any ``count``; the parts are in rank order."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    @torch.no_grad()
    def sum_(self, *tensors: Tensor) -> None:
        """Replace each tensor by its sum over the ranks; the bits are the same on every rank."""
        if self.size == 1:
            return
        for tensor in tensors:
            contiguous = tensor.contiguous()
            distributed.all_reduce(contiguous)
            if contiguous is not tensor:
                tensor.copy_(contiguous)

    @torch.no_grad()
    def mean_(self, *tensors: Tensor) -> None:
        """Replace each floating-point tensor by its mean over the ranks."""
        if self.size > 1:
            self.sum_(*tensors)
            for tensor in tensors:
                tensor.div_(self.size)

    @torch.no_grad()
    def broadcast_(self, tensor: Tensor) -> None:
        """Replace the tensor by the main rank's."""
        if self.size > 1:
            contiguous = tensor.contiguous()
            distributed.broadcast(contiguous, src=0)
            if contiguous is not tensor:
                tensor.copy_(contiguous)

    def gather(self, tensor: Tensor) -> Tensor:
        """Return the tensors ``(n, ...)`` of all ranks in rank order, ``(size * n, ...)``, without gradient."""
        return tensor.detach() if self.size == 1 else torch.cat(self._all_gather(tensor))

    def barrier(self) -> None:
        """Wait until all ranks call it."""
        self.sum_(torch.zeros(1))

    def raise_first_error(self, error: str | None) -> None:
        """Raise the error of the lowest rank that has one on every rank, so that none waits for a failed one.

        Raises:
            HsevalError: a rank passed an error.
        """
        messages = [error or ""]
        if self.size > 1:
            encoded = torch.tensor(list(messages[0].encode()), dtype=torch.uint8)
            messages = [bytes(text.tolist()).decode() for text in self._all_gather_ragged(encoded)]
        for message in messages:
            if message:
                raise HsevalError(message)

    @torch.no_grad()
    def _all_gather(self, tensor: Tensor) -> list[Tensor]:
        if tensor.dtype == torch.bool:  # gloo does not support bool
            return [gathered.bool() for gathered in self._all_gather(tensor.to(torch.uint8))]
        tensors = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(self.size)]
        distributed.all_gather(tensors, tensor.contiguous())
        return tensors

    def _all_gather_ragged(self, tensor: Tensor) -> list[Tensor]:
        lengths = [int(length) for length in self._all_gather(torch.tensor([len(tensor)]))]
        padded = tensor.new_zeros((max(lengths), *tensor.shape[1:]))
        padded[: len(tensor)] = tensor.detach()
        return [gathered[:length] for gathered, length in zip(self._all_gather(padded), lengths, strict=True)]


def _read_env_int(name: str, default: int) -> int:
    value = os.environ.get(name, str(default))
    try:
        return int(value)
    except ValueError as error:
        raise HsevalError(f"{name}={value!r}: expected an integer, as torchrun sets it") from error


def resolve_device(device: str | None) -> torch.device:
    """Return the requested device; None: a GPU if there is one, else the CPU.

    Raises:
        HsevalError: it can't be used.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise HsevalError(f"--device {device}: CUDA is not available here; use cpu")
    if device == "cuda":
        device = f"cuda:{_read_env_int('LOCAL_RANK', 0)}"
    try:
        resolved = torch.device(device)
        torch.ones(1, device=resolved).cpu()
    except (RuntimeError, NotImplementedError, AssertionError) as error:
        raise HsevalError(f"--device {device}: can't be used ({format_error(error)}); use cpu") from error
    return resolved
