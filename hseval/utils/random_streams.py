"""Random streams: one user seed, and one independent stream for each consumer's name.

A stream depends on (seed, name, index) alone, so adding a metric or a cube changes no other's draws.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def create_rng(seed: int, name: str, *index: int) -> np.random.Generator:
    """Return the generator of ``name`` under ``seed`` (numpy's SeedSequence, never ``seed + i``)."""
    import numpy as np

    # SeedSequence pads with zeros, so the number of indices has its word: (seed, name) is not (seed, name, 0).
    words = [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF, zlib.crc32(name.encode()), len(index), *index]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))
