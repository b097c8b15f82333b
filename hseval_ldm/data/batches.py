"""The batches of the two stages that train on cubes: their cubes, flips and crops, by step and rank."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from hseval.generator_kit import Ranks
from hseval_ldm.data.augmentation import apply_flips, choose_crop_offsets, crop_batch, draw_crop_candidates, draw_flips
from hseval_ldm.data.dataset import CubeDataset, compute_detail_weight
from hseval_ldm.data.epoch_order import draw_batch_indices
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
