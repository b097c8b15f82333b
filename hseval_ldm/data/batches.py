"""The order of training items, and the batches of the two stages that train on cubes, by step and rank."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hseval.generator_kit import Ranks
from hseval.plugin import create_rng
from hseval_ldm.data.augmentation import apply_flips, choose_crop_offsets, crop_batch, draw_crop_candidates, draw_flips
from hseval_ldm.data.dataset import CubeDataset, compute_detail_weight
from hseval_ldm.data.normalization import Batch, pad_batch
from hseval_ldm.options import LdmOptions


class BatchLoader:
    """Loads this rank's part of each step's global batch; a function of (seed, name, step) alone."""

    def __init__(self, data: CubeDataset, options: LdmOptions, ranks: Ranks, *, seed: int, name: str) -> None:
        self.data, self.options, self.ranks, self.seed, self.name = data, options, ranks, seed, name
        self.local_slice = ranks.get_local_slice(options.ae_batch)

    def load(self, step: int) -> Batch:
        """Return the batch of a step, on the CPU."""
        options, count = self.options, self.options.ae_batch
        indices = draw_batch_indices(step, batch_size=count, count=len(self.data), seed=self.seed, name=self.name)
        batch = self.data.load_batch(indices[self.local_slice])
        flips = draw_flips(options.flip, seed=self.seed, step=step, count=count)
        batch = apply_flips(batch, options.flip, flips[self.local_slice])
        if options.crop is not None:
            candidates = draw_crop_candidates(self.data.size, options.crop, seed=self.seed, step=step, count=count)
            offsets = choose_crop_offsets(batch.field, options.crop, candidates[self.local_slice])
            batch = crop_batch(batch, options.crop, offsets)
        return pad_batch(batch, options.compression)

    def load_with_weights(self, step: int) -> tuple[Batch, Tensor]:
        """Return the batch of a step and the weights of its pixels in the reconstruction loss."""
        batch = self.load(step)
        return batch, self.compute_weights(batch)

    def compute_weights(self, batch: Batch) -> Tensor:
        """Return the weights ``(n, 1, y, x)`` of a batch."""
        return compute_detail_weight(batch, mask_gain=self.options.mask_gain, contrast_gain=self.options.contrast_gain)


def load_whole_cubes(data: CubeDataset, indices: NDArray[Any], options: LdmOptions, device: torch.device) -> Batch:
    """Return whole cubes, padded to a multiple of the compression, on ``device``."""
    return pad_batch(data.load_batch(indices), options.compression).to(device)


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
