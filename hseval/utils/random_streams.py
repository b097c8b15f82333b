"""Random streams: one independent stream for each consumer's name, all from one user seed.

A stream depends only on (seed, name, index), so adding a metric or a cube changes no other stream.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def create_rng(seed: int, name: str, *index: int) -> np.random.Generator:
    """Return the generator of ``name`` under ``seed`` (numpy's SeedSequence, never ``seed + i``)."""
    import numpy as np

    # SeedSequence pads with zeros; with the number of indices as a word, (seed, name) differs from (seed, name, 0).
    words = [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF, zlib.crc32(name.encode()), len(index), *index]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))
