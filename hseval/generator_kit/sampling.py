"""Sampling in batches such that cube i depends on (seed, i) alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.utils.random_streams import create_rng

Array = NDArray[Any]


def draw_noise(seed: int, name: str, index: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the standard normal noise of cube ``index``, float32 of ``shape``, from the stream (seed, name, index)."""
    return create_rng(seed, name, index).standard_normal(shape, dtype=np.float32)


def sample_in_batches(
    generate: Callable[[Array], Array],
    *,
    start: int,
    stop: int,
    batch_size: int,
    seed: int,
    name: str,
    shape: tuple[int, ...],
) -> Iterator[tuple[int, Array]]:
    """Yield ``(index, result)`` for the indices ``start`` to ``stop - 1``.

    Every call gets ``batch_size`` inputs, the last one repeated where there are fewer: kernels choose their order of
    summation by the batch size, and a cube must not depend on how many are sampled with it.

    ``generate`` maps noise float32 ``(batch_size, *shape)`` to results ``(batch_size, ...)``; result i depends on noise
    i alone, and noise on the stream (seed, name, index).
    """
    for first in range(start, stop, batch_size):
        indices = range(first, min(first + batch_size, stop))
        noise = [draw_noise(seed, name, index, shape) for index in indices]
        noise += noise[-1:] * (batch_size - len(noise))
        yield from zip(indices, generate(np.stack(noise)), strict=False)
