"""Held-out judgement during training: hseval's own metrics, and what reconstructions keep of each structure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hseval import score
from hseval.core.cubes import FOV, ArraySet
from hseval.utils.errors import HsevalError
from hseval.utils.random_streams import create_rng
from hseval_ldm.data.batches import load_whole_cubes
from hseval_ldm.data.dataset import CubeDataset
from hseval_ldm.data.normalization import Batch, Normalization
from hseval_ldm.models import losses
from hseval_ldm.models.codebook import compute_usage
from hseval_ldm.models.vqgan import Autoencoder, CubeBatch, find_valid_tokens
from hseval_ldm.options import LdmOptions
from hseval_ldm.utils.distributed import Ranks

Autocast = Callable[[], AbstractContextManager[object]]
DEFAULT_METRICS = ("fid", "spectral-kl", "ms-ssim")
MAX_HELD_OUT_CUBES = 256  # held-out cubes that judge
EVALUATION_BATCH_SIZE = 16
RING_PX = 3  # around a structure, to compare it with


@dataclasses.dataclass
class HeldOutEvaluator:
    """The held-out cubes, and how samples and reconstructions are compared with them."""

    held_out: CubeDataset
    normalization: Normalization
    ranks: Ranks
    seed: int
    _real_set: ArraySet | None = None

    @property
    def count(self) -> int:
        """How many cubes judge."""
        return min(len(self.held_out), MAX_HELD_OUT_CUBES)

    def load_batches(self, options: LdmOptions) -> list[Batch]:
        """Return the held-out cubes in batches, on the rank's device."""
        parts = (
            np.arange(at, min(at + EVALUATION_BATCH_SIZE, self.count))
            for at in range(0, self.count, EVALUATION_BATCH_SIZE)
        )
        return [load_whole_cubes(self.held_out, part, options, self.ranks.device) for part in parts]

    def compute_scores(
        self, generated: Sequence[CubeBatch], *, metrics: Sequence[str] = DEFAULT_METRICS
    ) -> dict[str, float]:
        """Return hseval's scores of finished cubes against the held-out ones; NaN where one can't be computed.

        The chief scores, the others get its figures.
        """
        found = [math.nan] * len(metrics)
        if self.ranks.is_main and self.count >= 4:
            found = self._score(generated, metrics)
        shared = torch.tensor(found, dtype=torch.float64, device=self.ranks.device)
        self.ranks.broadcast_(shared)
        return dict(zip(metrics, shared.tolist(), strict=True))

    def get_real_set(self) -> ArraySet:
        """Return the held-out cubes as hseval takes them, physical and 0 outside the field."""
        if self._real_set is None:
            batch = self.held_out.load_batch(np.arange(self.count))
            cubes = torch.where(batch.field, self.normalization.to_physical(batch.cubes), 0.0)
            self._real_set = self._to_array_set(CubeBatch(cubes, batch.masks > 0, batch.field))
        return self._real_set

    def _score(self, generated: Sequence[CubeBatch], metrics: Sequence[str]) -> list[float]:
        together = CubeBatch(
            *(torch.cat([getattr(part, name) for part in generated]).cpu() for name in CubeBatch._fields)
        )
        samples = self._to_array_set(together)
        try:
            report = score(
                samples, ref=self.get_real_set(), metrics=list(metrics), seed=self.seed, device="cpu", cache=False
            )
        except HsevalError:  # samples of an early network may have nothing to score; that ends no training
            return [math.nan] * len(metrics)
        return [math.nan if (value := report[name].value) is None else float(value) for name in metrics]

    def _to_array_set(self, batch: CubeBatch) -> ArraySet:
        names = self.normalization.structures
        masks: dict[str, Any] = {name: batch.masks[:, number].numpy() for number, name in enumerate(names)}
        if FOV not in masks and not bool(batch.field.all()):
            masks[FOV] = batch.field[:, 0].numpy()
        return ArraySet(batch.cubes.float().numpy(), wavelengths=self.normalization.wavelengths, masks=masks)


@torch.no_grad()
def evaluate_reconstruction(
    model: Autoencoder, evaluator: HeldOutEvaluator, options: LdmOptions, autocast: Autocast
) -> Mapping[str, float]:
    """Return figures of held-out reconstructions.

    ``held_out_l1`` and ``held_out_fine`` as in training, unweighted; ``psnr`` in dB against the training set's
    range; ``held_out_angle`` in degrees; ``perplexity`` and ``codes`` used of the codebook; ``kept_STRUCTURE``, the
    share of a structure's contrast to its surroundings that is left (1: all); and hseval's scores of the
    reconstructions as finished cubes.
    """
    if not evaluator.count:
        return {}
    rows: list[dict[str, float]] = []
    weights: list[int] = []
    finished, counts = [], torch.zeros(options.codes, dtype=torch.int64, device=evaluator.ranks.device)
    for batch in evaluator.load_batches(options):
        tokens = find_valid_tokens(batch.field, options.compression)
        with autocast():
            made = model(batch.to_network_input().contiguous(memory_format=torch.channels_last))
        counts += model.codebook.count_codes(made.quantized.indices, tokens)
        rows.append(_compute_metrics(model, batch, made.cubes))
        weights.append(len(batch.cubes))
        height, width = evaluator.normalization.size
        cubes, logits = (part[..., :height, :width] for part in (made.cubes, made.masks))
        rng = create_rng(evaluator.seed, "judged camera", len(rows))
        noise = torch.from_numpy(rng.standard_normal(tuple(cubes.shape), dtype=np.float32)).to(cubes.device)
        finished.append(model.postprocess(cubes, logits, noise=options.noise * noise))
    figures = {name: float(np.average([row[name] for row in rows], weights=weights)) for name in rows[0]}
    perplexity, used = compute_usage(counts)
    return figures | {"perplexity": perplexity, "codes": float(used)} | evaluator.compute_scores(finished)


def _compute_metrics(model: Autoencoder, batch: Batch, cubes: Tensor) -> dict[str, float]:
    physical = model.normalization.to_physical
    ours, real = physical(cubes), physical(batch.cubes)
    spread = float((model.normalization.high - model.normalization.low).max())
    field = batch.field.float()
    pixels, fine = losses.pixel_losses(cubes, batch.cubes, field, batch.field)
    squared = ((ours - real).square() * field).sum(dim=(1, 2, 3)) / (field.sum(dim=(1, 2, 3)) * cubes.shape[1])
    figures = {
        "held_out_l1": float(pixels),
        "held_out_fine": float(fine),
        "psnr": float((10 * torch.log10(spread**2 / squared.clamp_min(1e-20))).mean()),
        "held_out_angle": math.degrees(
            float(losses.compute_field_mean(losses.spectral_angle(ours, real), batch.field))
        ),
    }
    for number, name in enumerate(model.normalization.structures):
        if name != FOV:
            kept = compute_contrast_retention(ours, real, batch.masks[:, number : number + 1], batch.field)
            figures |= {f"kept_{name}": kept} if math.isfinite(kept) else {}
    return figures


def compute_contrast_retention(cubes: Tensor, real: Tensor, mask: Tensor, field: Tensor) -> float:
    """Return how much of a structure's contrast reconstructions keep: 1 is all of it, 0 nothing.

    The contrast is the structure's mean spectrum less that of the ring around it; the reconstruction's is projected
    on the real one's, summed over cubes.

    Args:
        cubes: physical ``(n, band, y, x)``.
        real: the same.
        mask: the structure, 0 or 1 ``(n, 1, y, x)``.
        field: bool ``(n, 1, y, x)``.
    """
    near = functional.max_pool2d(mask, 2 * RING_PX + 1, 1, RING_PX)
    ring = (near > 0) & (mask == 0) & field
    seen = (mask.sum(dim=(1, 2, 3)) > 0) & (ring.sum(dim=(1, 2, 3)) > 0)
    one, other = (_compute_masked_mean(c, mask) - _compute_masked_mean(c, ring.float()) for c in (cubes, real))
    power = other[seen].square().sum()
    return float((one[seen] * other[seen]).sum() / power) if power > 0 else math.nan


def _compute_masked_mean(cubes: Tensor, mask: Tensor) -> Tensor:
    return (cubes * mask).sum(dim=(2, 3)) / mask.sum(dim=(2, 3)).clamp_min(1)
