"""Ranks: under torchrun each process describes its part of a set, and the rows are gathered everywhere.

Messages are safetensors bytes in uint8 tensors: nothing is pickled on the way.
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
    """One process of ``size``; alone, every call is local and free."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    def shard_indices(self, count: int) -> range:
        """Return the indices of ``range(count)`` that are this rank's."""
        return range(self.rank, count, self.size)

    def gather(self, arrays: Arrays) -> list[Arrays]:
        """Return every rank's arrays, in rank order, on every rank."""
        if self.size == 1:
            return [arrays]
        import numpy as np
        from safetensors.numpy import load, save

        payload = save({name: np.asarray(array, order="C") for name, array in arrays.items()})
        return [load(part) for part in self._gather_bytes(payload)]

    def raise_first_error(self, error: str | None) -> None:
        """Raise the first rank's error on every rank, so that none waits for one that gave up.

        Raises:
            HsevalError: some rank passed an error.
        """
        if self.size == 1:
            parts: Sequence[bytes] = [(error or "").encode()]
        else:
            parts = self._gather_bytes((error or "").encode())
        told = next((part.decode() for part in parts if part), None)
        if told is not None:
            raise HsevalError(told)

    def _gather_bytes(self, payload: bytes) -> list[bytes]:
        import numpy as np
        import torch
        from torch import distributed

        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        distributed.all_gather(sizes, torch.tensor([len(payload)]))
        longest = max(int(size) for size in sizes)
        mine = torch.zeros(longest, dtype=torch.uint8)
        mine[: len(payload)] = torch.from_numpy(np.frombuffer(payload, dtype=np.uint8).copy())
        parts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.size)]
        distributed.all_gather(parts, mine)
        return [part[: int(size)].numpy().tobytes() for part, size in zip(parts, sizes, strict=True)]


def connect() -> Communicator:
    """Return this process's place under torchrun (gloo), or a lone process where there is none."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Communicator()
    from torch import distributed

    if not distributed.is_initialized():
        distributed.init_process_group("gloo")
    return Communicator(distributed.get_rank(), distributed.get_world_size())
