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
from hseval.core.cubes import FIELD, ArraySet
from hseval.utils.errors import HsevalError
from hseval.utils.random_streams import stream
from hseval_ldm.data.batches import whole
from hseval_ldm.data.dataset import TrainingData
from hseval_ldm.data.normalization import Batch, Normalisation
from hseval_ldm.models import losses
from hseval_ldm.models.codebook import usage
from hseval_ldm.models.vqgan import Autoencoder, Finished, tokens_of
from hseval_ldm.options import LdmOptions
from hseval_ldm.utils.distributed import Ranks

Autocast = Callable[[], AbstractContextManager[object]]
METRICS = ("fid", "spectral-kl", "ms-ssim")
MOST = 256  # held-out cubes that judge
AT_ONCE = 16
RING_PX = 3  # around a structure, to compare it with


@dataclasses.dataclass
class Judge:
    """The held-out cubes, and how samples and reconstructions are compared with them."""

    held_out: TrainingData
    normalisation: Normalisation
    ranks: Ranks
    seed: int
    _real: ArraySet | None = None

    @property
    def count(self) -> int:
        """How many cubes judge."""
        return min(len(self.held_out), MOST)

    def batches(self, options: LdmOptions) -> list[Batch]:
        """Return the held-out cubes in batches, on the rank's device."""
        parts = (np.arange(at, min(at + AT_ONCE, self.count)) for at in range(0, self.count, AT_ONCE))
        return [whole(self.held_out, part, options, self.ranks.device) for part in parts]

    def scores(self, made: Sequence[Finished], *, metrics: Sequence[str] = METRICS) -> dict[str, float]:
        """Return hseval's scores of finished cubes against the held-out ones; NaN where one can't be computed.

        The chief scores, the others get its figures.
        """
        found = [math.nan] * len(metrics)
        if self.ranks.chief and self.count >= 4:
            found = self._scored(made, metrics)
        shared = torch.tensor(found, dtype=torch.float64, device=self.ranks.device)
        self.ranks.broadcast_(shared)
        return dict(zip(metrics, shared.tolist(), strict=True))

    def real(self) -> ArraySet:
        """Return the held-out cubes as hseval takes them, physical and 0 outside the field."""
        if self._real is None:
            batch = self.held_out.batch(np.arange(self.count))
            cubes = torch.where(batch.field, self.normalisation.to_physical(batch.cubes), 0.0)
            self._real = self._as_set(Finished(cubes, batch.masks > 0, batch.field))
        return self._real

    def _scored(self, made: Sequence[Finished], metrics: Sequence[str]) -> list[float]:
        together = Finished(*(torch.cat([getattr(part, name) for part in made]).cpu() for name in Finished._fields))
        samples = self._as_set(together)
        try:
            report = score(samples, ref=self.real(), metrics=list(metrics), seed=self.seed, device="cpu", cache=False)
        except HsevalError:  # samples of an early network may have nothing to score; that ends no training
            return [math.nan] * len(metrics)
        return [math.nan if (value := report[name].value) is None else float(value) for name in metrics]

    def _as_set(self, made: Finished) -> ArraySet:
        names = self.normalisation.structures
        masks: dict[str, Any] = {name: made.masks[:, number].numpy() for number, name in enumerate(names)}
        if FIELD not in masks and not bool(made.field.all()):
            masks[FIELD] = made.field[:, 0].numpy()
        return ArraySet(made.cubes.float().numpy(), wavelengths=self.normalisation.wavelengths, masks=masks)


@torch.no_grad()
def judged_reconstruction(
    model: Autoencoder, judge: Judge, options: LdmOptions, autocast: Autocast
) -> Mapping[str, float]:
    """Return figures of held-out reconstructions.

    ``held_out_l1`` and ``held_out_fine`` as in training, unweighted; ``psnr`` in dB against the training set's
    range; ``held_out_angle`` in degrees; ``perplexity`` and ``codes`` used of the codebook; ``kept_STRUCTURE``, the
    share of a structure's contrast to its surroundings that is left (1: all); and hseval's scores of the
    reconstructions as finished cubes.
    """
    if not judge.count:
        return {}
    rows: list[dict[str, float]] = []
    weights: list[int] = []
    finished, counts = [], torch.zeros(options.codes, dtype=torch.int64, device=judge.ranks.device)
    for batch in judge.batches(options):
        tokens = tokens_of(batch.field, options.compression)
        with autocast():
            made = model(batch.picture().contiguous(memory_format=torch.channels_last))
        counts += model.codebook.histogram(made.quantised.indices, tokens)
        rows.append(_figures(model, batch, made.cubes))
        weights.append(len(batch.cubes))
        height, width = judge.normalisation.size
        cubes, logits = (part[..., :height, :width] for part in (made.cubes, made.masks))
        rng = stream(judge.seed, "judged camera", len(rows))
        noise = torch.from_numpy(rng.standard_normal(tuple(cubes.shape), dtype=np.float32)).to(cubes.device)
        finished.append(model.finished(cubes, logits, noise=options.noise * noise))
    figures = {name: float(np.average([row[name] for row in rows], weights=weights)) for name in rows[0]}
    perplexity, used = usage(counts)
    return figures | {"perplexity": perplexity, "codes": float(used)} | judge.scores(finished)


def _figures(model: Autoencoder, batch: Batch, cubes: Tensor) -> dict[str, float]:
    physical = model.normalisation.to_physical
    ours, real = physical(cubes), physical(batch.cubes)
    spread = float((model.normalisation.high - model.normalisation.low).max())
    field = batch.field.float()
    pixels, fine = losses.pixel_terms(cubes, batch.cubes, field, batch.field)
    squared = ((ours - real).square() * field).sum(dim=(1, 2, 3)) / (field.sum(dim=(1, 2, 3)) * cubes.shape[1])
    figures = {
        "held_out_l1": float(pixels),
        "held_out_fine": float(fine),
        "psnr": float((10 * torch.log10(spread**2 / squared.clamp_min(1e-20))).mean()),
        "held_out_angle": math.degrees(float(losses.field_mean(losses.spectral_angle(ours, real), batch.field))),
    }
    for number, name in enumerate(model.normalisation.structures):
        if name != FIELD:
            kept = contrast_kept(ours, real, batch.masks[:, number : number + 1], batch.field)
            figures |= {f"kept_{name}": kept} if math.isfinite(kept) else {}
    return figures


def contrast_kept(cubes: Tensor, real: Tensor, mask: Tensor, field: Tensor) -> float:
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
    one, other = (_mean(c, mask) - _mean(c, ring.float()) for c in (cubes, real))
    power = other[seen].square().sum()
    return float((one[seen] * other[seen]).sum() / power) if power > 0 else math.nan


def _mean(cubes: Tensor, at: Tensor) -> Tensor:
    return (cubes * at).sum(dim=(2, 3)) / at.sum(dim=(2, 3)).clamp_min(1)
