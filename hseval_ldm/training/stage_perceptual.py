"""The first stage: the perceptual encoder, trained on the user's cubes without labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from hseval.generator_kit import NetworkStage, Ranks
from hseval.plugin import create_rng, fork_torch_rng
from hseval_ldm.data.batches import BatchLoader, load_whole_cubes
from hseval_ldm.data.dataset import CubeDataset
from hseval_ldm.data.normalization import Batch
from hseval_ldm.data.prefetch import Prefetcher
from hseval_ldm.models.perceptual import PerceptualEncoder, augment_view, draw_positions
from hseval_ldm.options import LdmOptions
from hseval_ldm.training.optimizer import build_adamw, compute_learning_rate, wrap_network
from hseval_ldm.utils.precision import build_autocast

MAX_HELD_OUT_CUBES = 64  # held-out cubes in an evaluation, at most


def build_perceptual_encoder(options: LdmOptions, bands: int, *, seed: int) -> PerceptualEncoder:
    """Return the encoder with weights that depend on the seed alone."""
    with fork_torch_rng(int(create_rng(seed, "ldm features weights").integers(2**63))):
        return PerceptualEncoder(bands, options.features_width)


class PerceptualStage(NetworkStage):
    """Trains the perceptual encoder."""

    model: PerceptualEncoder

    def __init__(
        self, options: LdmOptions, data: CubeDataset, held_out: CubeDataset, bands: int, *, ranks: Ranks, seed: int
    ) -> None:
        self.options, self.data, self.held_out, self.ranks, self.seed = options, data, held_out, ranks, seed
        model = build_perceptual_encoder(options, bands, seed=seed).to(ranks.device)
        self.network = wrap_network(_ContrastiveLoss(model), ranks)
        super().__init__(
            "features",
            model,
            build_adamw(model.parameters(), ranks.device),
            self._compute_step_loss,
            steps=options.features_steps,
            batch_size=options.ae_batch,
            epoch_steps=max(1, len(data) // options.ae_batch),
            learning_rate=lambda step: compute_learning_rate(step, options.features_steps, options.features_lr),
            loss_name="contrast",
            loss_option="features_lr",
            memory_option="ae_batch",
        )
        self.autocast = build_autocast(options.precision, ranks.device)
        self.batch_loader = BatchLoader(data, options, ranks, seed=seed, name="features")
        self.prefetcher = Prefetcher(self._load_views, self.steps, workers=options.loaders)

    def _compute_step_loss(self, step: int) -> Tensor:
        view_a, view_b, positions = self.prefetcher.get(step)
        device = self.ranks.device
        with self.autocast():
            loss: Tensor = self.network(view_a.to(device), view_b.to(device), [p.to(device) for p in positions])
        return loss

    def evaluate(self, step: int) -> Mapping[str, float]:
        """Return the loss on held-out cubes, on one rank, with random draws of its own."""
        data = self.held_out if len(self.held_out) else self.data
        indices = np.arange(min(len(data), MAX_HELD_OUT_CUBES))
        batch = load_whole_cubes(data, indices, self.options, torch.device("cpu"))
        seed = int(create_rng(self.seed, "judged views").integers(2**63))
        view_a, view_b, positions = self._build_views(batch, step=0, first_index=0, seed=seed)
        device = self.ranks.device
        with torch.no_grad(), self.autocast():
            loss = self.model.contrastive_loss(view_a.to(device), view_b.to(device), [p.to(device) for p in positions])
        return {"held_out_contrast": float(loss)}

    def close(self) -> None:
        """Stop the threads that prepare batches."""
        self.prefetcher.close()

    def _load_views(self, step: int) -> tuple[Tensor, Tensor, list[Tensor]]:
        batch, first_index = self.batch_loader.load(step), self.batch_loader.local_slice.start
        return self._build_views(batch, step=step, first_index=first_index, seed=self.seed)

    def _build_views(
        self, batch: Batch, *, step: int, first_index: int, seed: int
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        view_a, view_b = (
            augment_view(batch.cubes, batch.field, seed=seed, view=view, step=step, first_index=first_index)
            for view in (0, 1)
        )
        return view_a, view_b, draw_positions(batch.field, seed=seed, step=step, first_index=first_index)


class _ContrastiveLoss(torch.nn.Module):
    """The loss as the forward of a module, as DDP requires."""

    def __init__(self, model: PerceptualEncoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, view_a: Tensor, view_b: Tensor, positions: list[Tensor]) -> Tensor:
        return self.model.contrastive_loss(view_a, view_b, positions)
