"""Random streams: one independent stream for each consumer's name, all from one user seed.

A stream depends only on (seed, name, index), so adding a metric or a cube changes no other stream.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch

    Rng = np.random.Generator


def create_rng(seed: int, name: str, *index: int) -> Rng:
    """Return the generator of ``name`` under ``seed`` (numpy's SeedSequence, never ``seed + i``)."""
    import numpy as np

    # SeedSequence pads with zeros; with the number of indices as a word, (seed, name) differs from (seed, name, 0).
    words = [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF, zlib.crc32(name.encode()), len(index), *index]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


@contextlib.contextmanager
def fork_torch_rng(seed: int | None = None, device: torch.device | None = None) -> Iterator[None]:
    """Give a block torch's global generators to advance; they are as before at its end.

    Args:
        seed: start the CPU's generator, and that of ``device``, from it; None: from where they are.
        device: a GPU whose generator the block draws from, too; None, or a CPU: none.
    """
    import torch

    gpus = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        if seed is not None:
            # torch.manual_seed would seed the generators of all GPUs, which are not restored.
            torch.default_generator.manual_seed(seed)
            for gpu in gpus:
                with torch.cuda.device(gpu):
                    torch.cuda.manual_seed(seed)
        yield
