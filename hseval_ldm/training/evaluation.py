"""Held-out evaluation during training: hseval's metrics, the contrast that reconstructions retain, and previews."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hseval import score
from hseval.generator_kit import Ranks, save_contact_sheet
from hseval.plugin import FOV, ArraySet, HsevalError, create_rng
from hseval_ldm.data.batches import load_whole_cubes
from hseval_ldm.data.dataset import CubeDataset
from hseval_ldm.data.normalization import Batch, Normalization
from hseval_ldm.models import losses
from hseval_ldm.models.codebook import compute_usage
from hseval_ldm.models.vqgan import Autoencoder, CubeBatch, find_valid_tokens, join_cubes
from hseval_ldm.options import LdmOptions

Autocast = Callable[[], AbstractContextManager[object]]
METRICS = ("fid", "spectral-kl", "ms-ssim")
MAX_HELD_OUT_CUBES = 256  # held-out cubes in an evaluation, at most
EVALUATION_BATCH_SIZE = 16
MAX_PREVIEW_PAIRS = 4
PREVIEW_SAMPLES = 8
RING_PX = 3  # width of the ring around a structure, with which it is compared


@dataclasses.dataclass
class HeldOutEvaluator:
    """Compares samples and reconstructions with the held-out cubes."""

    held_out: CubeDataset
    normalization: Normalization
    ranks: Ranks
    seed: int
    _real_set: ArraySet | None = None

    @property
    def count(self) -> int:
        """Number of held-out cubes in an evaluation."""
        return min(len(self.held_out), MAX_HELD_OUT_CUBES)

    def load_batches(self, options: LdmOptions) -> list[Batch]:
        """Return the held-out cubes in batches, on the rank's device."""
        starts = range(0, self.count, EVALUATION_BATCH_SIZE)
        batches = [np.arange(start, min(start + EVALUATION_BATCH_SIZE, self.count)) for start in starts]
        return [load_whole_cubes(self.held_out, indices, options, self.ranks.device) for indices in batches]

    def compute_scores(self, generated: Sequence[CubeBatch]) -> dict[str, float]:
        """Return hseval's scores of finished cubes against the held-out ones; NaN where one can't be computed.

        The main rank computes them for all ranks.
        """
        scores = [math.nan] * len(METRICS)
        if self.ranks.is_main and self.count >= 4:
            scores = self._score(generated)
        shared = torch.tensor(scores, dtype=torch.float64, device=self.ranks.device)
        self.ranks.broadcast_(shared)
        return dict(zip(METRICS, shared.tolist(), strict=True))

    def get_real_set(self) -> ArraySet:
        """Return the held-out cubes as a set of hseval, physical and 0 outside the field."""
        if self._real_set is None:
            batch = self.held_out.load_batch(np.arange(self.count))
            cubes = torch.where(batch.field, self.normalization.to_physical(batch.cubes), 0.0)
            self._real_set = self._to_array_set(CubeBatch(cubes, batch.masks > 0, batch.field))
        return self._real_set

    def _score(self, generated: Sequence[CubeBatch]) -> list[float]:
        samples, real = self._to_array_set(join_cubes(generated)), self.get_real_set()
        try:
            report = score(samples, ref=real, metrics=list(METRICS), seed=self.seed, device="cpu", cache=False)
        except HsevalError:  # samples of an early network may be impossible to score; training continues
            return [math.nan] * len(METRICS)
        return [math.nan if (value := report[name].value) is None else float(value) for name in METRICS]

    def _to_array_set(self, batch: CubeBatch) -> ArraySet:
        names = self.normalization.structures
        masks: dict[str, Any] = {name: batch.masks[:, number].cpu().numpy() for number, name in enumerate(names)}
        if FOV not in masks and not bool(batch.field.all()):
            masks[FOV] = batch.field[:, 0].cpu().numpy()
        return ArraySet(batch.cubes.float().cpu().numpy(), wavelengths=self.normalization.wavelengths, masks=masks)


@torch.no_grad()
def evaluate_reconstruction(
    model: Autoencoder, evaluator: HeldOutEvaluator, options: LdmOptions, autocast: Autocast
) -> Mapping[str, float]:
    """Return metrics of held-out reconstructions.

    ``held_out_l1`` and ``held_out_fine`` as in training, unweighted; ``psnr`` in dB against the training set's
    range; ``held_out_angle`` in degrees; ``perplexity`` and ``codes`` used of the codebook; ``kept_STRUCTURE``, the
    retained share of a structure's contrast to its surroundings (1: all); and hseval's scores of the
    reconstructions as finished cubes.
    """
    if not evaluator.count:
        return {}
    batch_metrics: list[dict[str, float]] = []
    weights: list[int] = []
    finished, counts = [], torch.zeros(options.codes, dtype=torch.int64, device=evaluator.ranks.device)
    for batch in evaluator.load_batches(options):
        tokens = find_valid_tokens(batch.field, options.compression)
        with autocast():
            reconstruction = model(batch.to_network_input())
        counts += model.codebook.count_codes(reconstruction.quantized.indices, tokens)
        batch_metrics.append(_compute_metrics(model, batch, reconstruction.cubes))
        weights.append(len(batch.cubes))
        height, width = evaluator.normalization.size
        cubes, logits = (images[..., :height, :width] for images in (reconstruction.cubes, reconstruction.masks))
        rng = create_rng(evaluator.seed, "judged camera", len(batch_metrics))
        noise = torch.from_numpy(rng.standard_normal(tuple(cubes.shape), dtype=np.float32)).to(cubes.device)
        finished.append(model.postprocess(cubes, logits, noise=options.noise * noise))
    metrics = {
        name: float(np.average([values[name] for values in batch_metrics], weights=weights))
        for name in batch_metrics[0]
    }
    perplexity, n_used = compute_usage(counts)
    return metrics | {"perplexity": perplexity, "codes": float(n_used)} | evaluator.compute_scores(finished)


def _compute_metrics(model: Autoencoder, batch: Batch, cubes: Tensor) -> dict[str, float]:
    physical = model.normalization.to_physical
    reconstructed, real = physical(cubes), physical(batch.cubes)
    value_range = float((model.normalization.high - model.normalization.low).max())
    field = batch.field.float()
    pixels, fine = losses.pixel_losses(cubes, batch.cubes, field, batch.field)
    squared = ((reconstructed - real).square() * field).sum(dim=(1, 2, 3))
    mean_squared = squared / (field.sum(dim=(1, 2, 3)) * cubes.shape[1])
    metrics = {
        "held_out_l1": float(pixels),
        "held_out_fine": float(fine),
        "psnr": float((10 * torch.log10(value_range**2 / mean_squared.clamp_min(1e-20))).mean()),
        "held_out_angle": math.degrees(
            float(losses.compute_field_mean(losses.spectral_angle(reconstructed, real), batch.field))
        ),
    }
    for number, name in enumerate(model.normalization.structures):
        if name != FOV:
            mask = batch.masks[:, number : number + 1]
            retention = compute_contrast_retention(reconstructed, real, mask, batch.field)
            metrics |= {f"kept_{name}": retention} if math.isfinite(retention) else {}
    return metrics


def compute_contrast_retention(cubes: Tensor, real: Tensor, mask: Tensor, field: Tensor) -> float:
    """Return the share of a structure's contrast that reconstructions retain: 1 is all of it, 0 nothing.

    The contrast is the structure's mean spectrum minus that of the ring around it; the reconstruction's is projected
    onto the real one's, summed over cubes. Both are physical ``(n, band, y, x)``; ``mask`` (0 or 1) and ``field``
    (bool) are ``(n, 1, y, x)``.
    """
    near = functional.max_pool2d(mask, 2 * RING_PX + 1, 1, RING_PX)
    ring = (near > 0) & (mask == 0) & field
    is_visible = (mask.sum(dim=(1, 2, 3)) > 0) & (ring.sum(dim=(1, 2, 3)) > 0)
    ours, reference = (
        (_compute_masked_mean(c, mask) - _compute_masked_mean(c, ring.float()))[is_visible] for c in (cubes, real)
    )
    power = reference.square().sum()
    return float((ours * reference).sum() / power) if power > 0 else math.nan


def _compute_masked_mean(cubes: Tensor, mask: Tensor) -> Tensor:
    return (cubes * mask).sum(dim=(2, 3)) / mask.sum(dim=(2, 3)).clamp_min(1)


@torch.no_grad()
def save_reconstruction_preview(
    model: Autoencoder, evaluator: HeldOutEvaluator, options: LdmOptions, autocast: Autocast, out: Path
) -> None:
    """Save a contact sheet of pairs of a held-out cube and its reconstruction."""
    count = min(MAX_PREVIEW_PAIRS, evaluator.count)
    if not count:
        return
    batch = load_whole_cubes(evaluator.held_out, np.arange(count), options, evaluator.ranks.device)
    with autocast():
        reconstruction = model(batch.to_network_input())
    height, width = evaluator.normalization.size
    cubes, logits = (images[..., :height, :width] for images in (reconstruction.cubes, reconstruction.masks))
    decoded = model.postprocess(cubes, logits)
    real = CubeBatch(evaluator.normalization.to_physical(batch.cubes), batch.masks > 0, batch.field)
    cropped = (images[..., :height, :width] for images in real)
    pairs = CubeBatch(*(torch.stack(pair, dim=1).flatten(0, 1) for pair in zip(cropped, decoded, strict=True)))
    titles = [title for number in range(count) for title in (f"real {number}", f"decoded {number}")]
    save_cube_preview(pairs, evaluator.normalization, titles, out)


def save_cube_preview(batch: CubeBatch, normalization: Normalization, titles: Sequence[str], out: Path) -> None:
    """Save a contact sheet of cubes."""
    masks = {name: batch.masks[:, index].cpu().numpy() for index, name in enumerate(normalization.structures)}
    cubes = ArraySet(
        batch.cubes.float().cpu().numpy(),
        wavelengths=normalization.wavelengths,
        masks=masks | {FOV: batch.field[:, 0].cpu().numpy()},
        ids=titles,
        location=out.stem,
    )
    save_contact_sheet(cubes, out)
