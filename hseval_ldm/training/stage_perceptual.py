"""The first stage: the perceptual encoder, trained on the user's cubes without labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hseval.utils.random_streams import stream
from hseval_ldm.data.batches import Batches, whole
from hseval_ldm.data.dataset import TrainingData
from hseval_ldm.data.normalization import Batch
from hseval_ldm.data.prefetch import Feed
from hseval_ldm.models.perceptual import Features, changed, places_in
from hseval_ldm.options import LdmOptions
from hseval_ldm.training.checkpoint import load_optimizer_state, optimizer_state, pack, unpack
from hseval_ldm.training.optimizer import adamw, rate_at, spread, take_step
from hseval_ldm.utils.distributed import Ranks
from hseval_ldm.utils.precision import autocast

JUDGED = 64  # held-out cubes, at most


def build_features(options: LdmOptions, bands: int, *, seed: int) -> Features:
    """Return the encoder with weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed the generators of all GPUs as well.
        torch.default_generator.manual_seed(int(stream(seed, "ldm features weights").integers(2**63)))
        return Features(bands, options.features_width)


class FeaturesStage:
    """Trains :class:`~hseval_ldm.models.perceptual.Features`; see :class:`~hseval_ldm.training.stage.Stage`."""

    name = "features"
    memory_knob = "ae_batch"
    loss_knob = "features_lr"

    def __init__(
        self, options: LdmOptions, data: TrainingData, held_out: TrainingData, bands: int, *, ranks: Ranks, seed: int
    ) -> None:
        self.options, self.data, self.held_out, self.ranks, self.seed = options, data, held_out, ranks, seed
        self.steps, self.batch = options.features_steps, options.ae_batch
        self.epoch_steps = max(1, len(data) // options.ae_batch)
        self.model = build_features(options, bands, seed=seed).to(ranks.device)
        self.network = spread(_Contrast(self.model), ranks)
        self.optimizer = adamw(self.model.parameters(), ranks.device)
        self.autocast = autocast(options.precision, ranks.device)
        self.batches = Batches(data, options, ranks, seed=seed, name="features")
        self.feed = Feed(self._views, self.steps, workers=options.loaders)

    def start_epoch(self, epoch: int) -> Mapping[str, float]:
        """Do nothing."""
        return {}

    def step(self, step: int) -> Mapping[str, Tensor]:
        """Do one step."""
        one, other, places = self.feed.get(step)
        device = self.ranks.device
        with self.autocast():
            loss = self.network(one.to(device), other.to(device), [p.to(device) for p in places])
        rate = rate_at(step, self.steps, self.options.features_lr)
        take_step(self.optimizer, loss, list(self.model.parameters()), rate)
        return {"contrast": loss.detach()}

    def evaluate(self, step: int) -> Mapping[str, float]:
        """Return the loss on held-out cubes, of one rank, with draws of their own."""
        judged = self.held_out if len(self.held_out) else self.data
        batch = whole(judged, np.arange(min(len(judged), JUDGED)), self.options, torch.device("cpu"))
        seed = int(stream(self.seed, "judged views").integers(2**63))
        one, other, places = self._two(batch, step=0, first=0, seed=seed)
        device = self.ranks.device
        with torch.no_grad(), self.autocast():
            loss = self.model.contrast(one.to(device), other.to(device), [p.to(device) for p in places])
        return {"held_out_contrast": float(loss)}

    def picture(self, step: int, out: Path) -> None:
        """Draw nothing: features are no picture."""

    def close(self) -> None:
        """End the threads that prepare batches."""
        self.feed.close()

    def state(self) -> Mapping[str, Tensor]:
        """Return weights and moments."""
        moments = optimizer_state(self.optimizer, dict(self.model.named_parameters()))
        return pack("model", self.model.state_dict()) | pack("optimizer", moments)

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take them back."""
        self.model.load_state_dict(unpack("model", tensors))
        names = dict(self.model.named_parameters())
        load_optimizer_state(self.optimizer, names, unpack("optimizer", tensors))

    def _views(self, step: int) -> tuple[Tensor, Tensor, list[Tensor]]:
        return self._two(self.batches.at(step), step=step, first=self.batches.mine.start or 0, seed=self.seed)

    def _two(self, batch: Batch, *, step: int, first: int, seed: int) -> tuple[Tensor, Tensor, list[Tensor]]:
        one, other = (
            changed(batch.cubes, batch.field, seed=seed, view=view, step=step, first=first) for view in (0, 1)
        )
        return one, other, places_in(batch.field, seed=seed, step=step, first=first)


class _Contrast(torch.nn.Module):
    """The loss as a module's forward, which is what DDP watches."""

    def __init__(self, model: Features) -> None:
        super().__init__()
        self.model = model

    def forward(self, one: Tensor, other: Tensor, places: list[Tensor]) -> Tensor:
        return self.model.contrast(one, other, places)
