"""The batches of the two stages that train on cubes: which cubes, which flips, which crops, by step and rank."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from hseval_ldm.data.augmentation import crop, crop_candidates, crop_offsets, flip_choices, flipped
from hseval_ldm.data.dataset import TrainingData, detail_weight
from hseval_ldm.data.epoch_order import indices
from hseval_ldm.data.normalization import Batch
from hseval_ldm.models.vqgan import padded
from hseval_ldm.options import LdmOptions
from hseval_ldm.utils.distributed import Ranks


class Batches:
    """Makes this rank's part of each step's global batch; a function of (seed, name, step) alone."""

    def __init__(self, data: TrainingData, options: LdmOptions, ranks: Ranks, *, seed: int, name: str) -> None:
        self.data, self.options, self.ranks, self.seed, self.name = data, options, ranks, seed, name
        self.mine = ranks.share(options.ae_batch)

    def at(self, step: int) -> Batch:
        """Return the batch of a step, on the CPU."""
        options, count = self.options, self.options.ae_batch
        chosen = indices(step, batch=count, count=len(self.data), seed=self.seed, name=self.name)
        batch = self.data.batch(chosen[self.mine])
        flips = flip_choices(options.flip, seed=self.seed, step=step, count=count)
        batch = flipped(batch, options.flip, flips[self.mine])
        if options.crop is not None:
            corners = crop_candidates(self.data.size, options.crop, seed=self.seed, step=step, count=count)
            batch = crop(batch, options.crop, crop_offsets(batch.field, options.crop, corners[self.mine]))
        return padded(batch, options.compression)

    def weighted(self, step: int) -> tuple[Batch, Tensor]:
        """Return the batch of a step and the weights of its pixels in the reconstruction's loss."""
        batch = self.at(step)
        return batch, self.weight(batch)

    def weight(self, batch: Batch) -> Tensor:
        """Return the weights ``(n, 1, y, x)`` of a batch."""
        return detail_weight(batch, mask_gain=self.options.mask_gain, contrast_gain=self.options.contrast_gain)


def whole(data: TrainingData, at: NDArray[Any], options: LdmOptions, device: torch.device) -> Batch:
    """Return whole cubes, padded to what the encoder takes, on ``device``."""
    return padded(data.batch(at), options.compression).to(device)
