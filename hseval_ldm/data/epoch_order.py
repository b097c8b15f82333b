"""The order of training items: each epoch uses each item once, and step k's batch is a function of seed and k."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from hseval.plugin import create_rng


def draw_batch_indices(step: int, *, batch_size: int, count: int, seed: int, name: str) -> NDArray[np.int64]:
    """Return the items of the global batch of step ``step``, int64 ``(batch,)``, each from 0 to ``count - 1``.

    Steps go through one random permutation of the items per epoch; a batch may begin in one epoch and end in the
    next, so that no item is omitted or repeated in an epoch.
    """
    positions = np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.int64)
    epochs, offsets = np.divmod(positions, count)
    indices = np.empty(batch_size, dtype=np.int64)
    for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
        in_epoch = epochs == epoch
        indices[in_epoch] = draw_permutation(epoch, count=count, seed=seed, name=name)[offsets[in_epoch]]
    return indices


@functools.lru_cache(maxsize=4)  # the current epoch and the next one, in each of two stages
def draw_permutation(epoch: int, *, count: int, seed: int, name: str) -> NDArray[np.int64]:
    """Return an epoch's order of all items, int64 ``(count,)``, read-only."""
    order: NDArray[np.int64] = create_rng(seed, name, epoch).permutation(count).astype(np.int64)
    order.flags.writeable = False
    return order
