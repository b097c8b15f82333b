"""The order of training items: each epoch takes each once, and step k's batch is a function of seed and k."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from hseval.utils.random_streams import create_rng


def draw_batch_indices(step: int, *, batch_size: int, count: int, seed: int, name: str) -> NDArray[np.int64]:
    """Return the items of the global batch of step ``step``, int64 ``(batch,)``, each from 0 to ``count - 1``.

    Steps walk through one random permutation of the items per epoch; a batch may begin in one epoch and end in the
    next, so that no item is left out or taken twice in an epoch.
    """
    places = np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.int64)
    epochs, within = np.divmod(places, count)
    chosen = np.empty(batch_size, dtype=np.int64)
    for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
        part = epochs == epoch
        chosen[part] = draw_permutation(epoch, count=count, seed=seed, name=name)[within[part]]
    return chosen


@functools.lru_cache(maxsize=4)  # the epoch at hand and the next one, in each of two stages
def draw_permutation(epoch: int, *, count: int, seed: int, name: str) -> NDArray[np.int64]:
    """Return an epoch's order of all items, int64 ``(count,)``, read-only."""
    order: NDArray[np.int64] = create_rng(seed, name, epoch).permutation(count).astype(np.int64)
    order.flags.writeable = False
    return order
