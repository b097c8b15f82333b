"""Ranks: the processes that torchrun starts, which share the work of a score or of a training.

All ranks make every call, in the same order. In a single process the calls do nothing, and torch is not loaded.
Nothing is pickled: messages are bytes in uint8 tensors, arrays are safetensors.
"""

from __future__ import annotations

import atexit
import dataclasses
import gc
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from hseval.utils.device import read_torchrun_variable, resolve_device
from hseval.utils.errors import HsevalError, format_error

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    Arrays = Mapping[str, NDArray[Any]]

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
    """This process is number ``rank`` of ``size`` and computes on the torch device ``device_name``."""

    rank: int = 0
    size: int = 1
    device_name: str = "cpu"

    @classmethod
    def join(cls, device: str | None, *, timeout_s: float = 3600) -> Ranks:
        """Join the process group of torchrun (gloo; nccl between GPUs); without torchrun, return a single rank.

        Args:
            device: see :func:`~hseval.utils.device.resolve_device`.
            timeout_s: how long a rank waits for another one, here and in every later call.

        Raises:
            HsevalError: the device can't be used, or the other ranks can't be reached.
        """
        device_name = resolve_device(device)
        size, rank = read_torchrun_variable("WORLD_SIZE", 1), read_torchrun_variable("RANK", 0)
        if not 0 <= rank < size:
            raise HsevalError(f"RANK={rank} WORLD_SIZE={size}: expected RANK in 0 .. WORLD_SIZE - 1, as torchrun sets")
        if size > 1:
            _join_process_group(rank, size, device_name, timeout_s)
        return cls(rank, size, device_name)

    def leave(self) -> None:
        """Leave the process group."""
        if self.size > 1:
            _leave_process_group()

    @property
    def device(self) -> torch.device:
        """The device that this rank computes on."""
        import torch

        return torch.device(self.device_name)

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

    def shard_indices(self, count: int) -> range:
        """Return every ``size``-th index of ``range(count)``, from this rank's number on."""
        return range(self.rank, count, self.size)

    def sum_(self, *tensors: Tensor) -> None:
        """Replace each tensor by its sum over the ranks; the bits are the same on every rank."""
        if self.size > 1:
            from torch import distributed

            for tensor in tensors:
                _replace_by_collective(tensor, distributed.all_reduce)

    def mean_(self, *tensors: Tensor) -> None:
        """Replace each floating-point tensor by its mean over the ranks."""
        if self.size > 1:
            self.sum_(*tensors)
            for tensor in tensors:
                tensor.detach().div_(self.size)

    def broadcast_(self, tensor: Tensor) -> None:
        """Replace the tensor by the main rank's."""
        if self.size > 1:
            from torch import distributed

            _replace_by_collective(tensor, lambda contiguous: distributed.broadcast(contiguous, src=0))

    def gather(self, tensor: Tensor) -> Tensor:
        """Return the tensors ``(n, ...)`` of all ranks in rank order, ``(size * n, ...)``, without gradient."""
        if self.size == 1:
            return tensor.detach()
        import torch

        return torch.cat(_all_gather(tensor.detach(), self.size))

    def gather_arrays(self, arrays: Arrays) -> list[Arrays]:
        """Return every rank's named arrays, in rank order, on every rank."""
        if self.size == 1:
            return [arrays]
        import numpy as np
        from safetensors.numpy import load, save

        payload = save({name: np.asarray(array, order="C") for name, array in arrays.items()})
        return [load(message) for message in self._gather_bytes(payload)]

    def raise_first_error(self, error: str | None) -> None:
        """Raise the error of the lowest rank that has one on every rank, so that none waits for a failed one.

        Raises:
            HsevalError: a rank passed an error.
        """
        for message in self._gather_bytes((error or "").encode()):
            if message:
                raise HsevalError(message.decode())

    def _gather_bytes(self, message: bytes) -> list[bytes]:
        if self.size == 1:
            return [message]
        import numpy as np
        import torch

        lengths = [int(length) for length in _all_gather(torch.tensor([len(message)]), self.size)]
        padded = torch.zeros(max(lengths), dtype=torch.uint8)
        padded[: len(message)] = torch.from_numpy(np.frombuffer(message, dtype=np.uint8).copy())
        gathered = _all_gather(padded, self.size)
        return [tensor[:length].numpy().tobytes() for tensor, length in zip(gathered, lengths, strict=True)]


def _join_process_group(rank: int, size: int, device_name: str, timeout_s: float) -> None:
    import torch
    import torch.distributed.nn.functional  # Before there is a group: its functions' defaults would hold it for ever.
    from torch import distributed

    uses_gpu = device_name.startswith("cuda")
    if uses_gpu:
        torch.cuda.set_device(device_name)
    if distributed.is_initialized():
        return
    # gloo in addition to nccl, for messages and counts, which are tensors on the CPU.
    backend = "cpu:gloo,cuda:nccl" if uses_gpu else "gloo"
    try:
        distributed.init_process_group(backend, timeout=timedelta(seconds=timeout_s))
    except (RuntimeError, ValueError, OSError) as error:
        reason = f"rank {rank} of {size} can't join the others ({format_error(error)})"
        raise HsevalError(f"{reason}; start all ranks with torchrun") from error
    atexit.register(_leave_process_group)


def _leave_process_group() -> None:
    """Leave the process group and free what holds it, so that its threads end.

    Threads of gloo that were left when the interpreter ended aborted 1 process in 10, after all its work.
    """
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()
    gc.collect()  # networks of torch's DDP hold the group, often in cycles


def _replace_by_collective(tensor: Tensor, collective: Callable[[Tensor], Any]) -> None:
    values = tensor.detach()
    contiguous = values.contiguous()
    collective(contiguous)
    if contiguous is not values:
        values.copy_(contiguous)


def _all_gather(tensor: Tensor, size: int) -> list[Tensor]:
    import torch
    from torch import distributed

    if tensor.dtype == torch.bool:  # gloo does not support bool
        return [gathered.bool() for gathered in _all_gather(tensor.to(torch.uint8), size)]
    tensors = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(size)]
    distributed.all_gather(tensors, tensor.contiguous())
    return tensors
