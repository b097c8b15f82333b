"""Ranks: the processes that torchrun starts, each with an equal share of every global batch.

Every call is made by all ranks, in the same order. A lone process pays nothing for any of them.
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
    """Do it on every rank; HsevalError on all where one met it. The action itself calls no other rank."""
    done, error = _capture_error(action)
    ranks.raise_first_error(error)
    return done[0]


def run_on_main_rank(ranks: Ranks, action: Callable[[], T]) -> T | None:
    """Let the chief do it and the others wait; HsevalError on all where the chief met it; None on the others."""
    done, error = _capture_error(action) if ranks.is_main else ([], None)
    ranks.raise_first_error(error)
    return done[0] if done else None


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
        """Take this process's place under torchrun (gloo; nccl between GPUs), or be a lone process.

        Args:
            device: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` ...; None: CUDA where torch sees it. Under torchrun ``"cuda"``
                is the GPU of the rank's own number on its machine.
            timeout_s: how long a rank waits for another one, here and in every later call.

        Raises:
            HsevalError: nothing can be computed on the device, or the other ranks can't be reached.
        """
        chosen = resolve_device(device)
        size, rank = _read_env_int("WORLD_SIZE", 1), _read_env_int("RANK", 0)
        if not 0 <= rank < size:
            raise HsevalError(f"RANK={rank} WORLD_SIZE={size}: expected RANK in 0 .. WORLD_SIZE - 1, as torchrun sets")
        if size == 1:
            return cls(0, 1, chosen)
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)
        if not distributed.is_initialized():
            # Text and counts travel by gloo beside nccl: hseval's own ranks hand over tensors on the CPU.
            backend = "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo"
            try:
                distributed.init_process_group(backend, timeout=timedelta(seconds=timeout_s))
            except (RuntimeError, ValueError, OSError) as error:
                told = (
                    f"rank {rank} of {size} can't join the others ({format_error(error)}); start all through torchrun"
                )
                raise HsevalError(told) from error
        return cls(rank, size, chosen)

    def leave(self) -> None:
        """End the work with the other ranks."""
        if self.size > 1 and distributed.is_initialized():
            distributed.destroy_process_group()

    @property
    def is_main(self) -> bool:
        """Whether this is the one rank that writes files and talks to the user."""
        return self.rank == 0

    def get_local_slice(self, batch_size: int) -> slice:
        """Return the part of a global batch that is this rank's; equal parts, so that means of means are means.

        Raises:
            HsevalError: the batch does not divide.
        """
        if batch_size % self.size:
            told = f"batch {batch_size} does not divide over {self.size} ranks; give a multiple of {self.size}"
            raise HsevalError(told)
        part = batch_size // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    def get_local_range(self, count: int) -> range:
        """Return the contiguous part of ``range(count)`` that is this rank's, for any ``count``; all in rank order."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    @torch.no_grad()
    def sum_(self, *tensors: Tensor) -> None:
        """Replace each tensor by its sum over the ranks; the bits are the same on every rank."""
        if self.size == 1:
            return
        for tensor in tensors:
            whole = tensor.contiguous()
            distributed.all_reduce(whole)
            if whole is not tensor:
                tensor.copy_(whole)

    @torch.no_grad()
    def mean_(self, *tensors: Tensor) -> None:
        """Replace each floating-point tensor by its mean over the ranks."""
        if self.size > 1:
            self.sum_(*tensors)
            for tensor in tensors:
                tensor.div_(self.size)

    @torch.no_grad()
    def broadcast_(self, tensor: Tensor) -> None:
        """Replace the tensor by the chief's."""
        if self.size > 1:
            whole = tensor.contiguous()
            distributed.broadcast(whole, src=0)
            if whole is not tensor:
                tensor.copy_(whole)

    def gather(self, tensor: Tensor) -> Tensor:
        """Return every rank's ``(n, ...)``, one after the other in rank order: ``(size * n, ...)``, no gradient."""
        return tensor.detach() if self.size == 1 else torch.cat(self._all_gather(tensor))

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        self.sum_(torch.zeros(1))

    def raise_first_error(self, error: str | None) -> None:
        """Raise the first rank's error on every rank, so that none waits for one that gave up.

        Raises:
            HsevalError: some rank passed an error.
        """
        told = [error or ""]
        if self.size > 1:
            mine = torch.tensor(list(told[0].encode()), dtype=torch.uint8)
            told = [bytes(part.tolist()).decode() for part in self._all_gather_ragged(mine)]
        for each in told:
            if each:
                raise HsevalError(each)

    @torch.no_grad()
    def _all_gather(self, tensor: Tensor) -> list[Tensor]:
        if tensor.dtype == torch.bool:  # gloo knows no bool
            return [part.bool() for part in self._all_gather(tensor.to(torch.uint8))]
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(self.size)]
        distributed.all_gather(parts, tensor.contiguous())
        return parts

    def _all_gather_ragged(self, tensor: Tensor) -> list[Tensor]:
        lengths = [int(part) for part in self._all_gather(torch.tensor([len(tensor)]))]
        longest = tensor.new_zeros((max(lengths), *tensor.shape[1:]))
        longest[: len(tensor)] = tensor.detach()
        return [part[:length] for part, length in zip(self._all_gather(longest), lengths, strict=True)]


def _read_env_int(name: str, default: int) -> int:
    value = os.environ.get(name, str(default))
    try:
        return int(value)
    except ValueError as error:
        raise HsevalError(f"{name}={value!r}: expected an integer, as torchrun sets it") from error


def resolve_device(device: str | None) -> torch.device:
    """Return a device that can be computed on: the one named, or a GPU where there is one.

    Raises:
        HsevalError: it can't be.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise HsevalError(f"--device {device}: torch sees no CUDA here; cpu works")
    if device == "cuda":
        device = f"cuda:{_read_env_int('LOCAL_RANK', 0)}"
    try:
        chosen = torch.device(device)
        torch.ones(1, device=chosen).cpu()
    except (RuntimeError, NotImplementedError, AssertionError) as error:
        raise HsevalError(f"--device {device}: can't be computed on ({format_error(error)}); cpu works") from error
    return chosen
