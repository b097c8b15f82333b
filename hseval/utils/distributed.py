"""Processes under torchrun: each extracts features of its share of a set, and every rank gathers them all.

Messages are safetensors bytes in uint8 tensors: nothing is pickled.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]


class Communicator:
    """One process of ``size``; with a single process every call is local and costs nothing."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    def shard_indices(self, count: int) -> range:
        """Return the indices of ``range(count)`` that this rank handles."""
        return range(self.rank, count, self.size)

    def gather(self, arrays: Arrays) -> list[Arrays]:
        """Return every rank's arrays, in rank order, on every rank."""
        if self.size == 1:
            return [arrays]
        import numpy as np
        from safetensors.numpy import load, save

        payload = save({name: np.asarray(array, order="C") for name, array in arrays.items()})
        return [load(message) for message in self._gather_bytes(payload)]

    def raise_first_error(self, error: str | None) -> None:
        """Raise the first rank's error on every rank, so that no rank waits for one that failed.

        Raises:
            HsevalError: some rank passed an error.
        """
        if self.size == 1:
            messages: Sequence[bytes] = [(error or "").encode()]
        else:
            messages = self._gather_bytes((error or "").encode())
        first = next((message.decode() for message in messages if message), None)
        if first is not None:
            raise HsevalError(first)

    def _gather_bytes(self, payload: bytes) -> list[bytes]:
        import numpy as np
        import torch
        from torch import distributed

        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        distributed.all_gather(sizes, torch.tensor([len(payload)]))
        longest = max(int(size) for size in sizes)
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: len(payload)] = torch.from_numpy(np.frombuffer(payload, dtype=np.uint8).copy())
        gathered = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.size)]
        distributed.all_gather(gathered, padded)
        return [message[: int(size)].numpy().tobytes() for message, size in zip(gathered, sizes, strict=True)]


def connect() -> Communicator:
    """Return this process's rank under torchrun (gloo), or a single process without torchrun."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Communicator()
    from torch import distributed

    if not distributed.is_initialized():
        distributed.init_process_group("gloo")
    return Communicator(distributed.get_rank(), distributed.get_world_size())
