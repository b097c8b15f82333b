"""What is measured on reconstructions of training cubes: where masks lie, and the sensor's noise."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from hseval_ldm.model import Autoencoder, Reconstruction
from hseval_ldm.noise import Noise
from hseval_ldm.normalise import Batch

Pairs = Iterable[tuple[Batch, Reconstruction]]


def calibrate(model: Autoencoder, pairs: Pairs) -> None:
    """Measure both on the same reconstructions and leave them in the model's buffers."""
    kept = list(pairs)
    measured_noise(model, kept)
    model.thresholds.copy_(area_thresholds(kept, len(model.thresholds)).to(model.thresholds))


def measured_noise(model: Autoencoder, pairs: Pairs) -> None:
    """Measure the noise (:class:`~hseval_ldm.noise.Noise`) and leave it in the model's buffers."""
    physical = model.normalisation.to_physical
    parts = [(physical(made.cubes), physical(batch.cubes), batch.field) for batch, made in pairs]
    cubes, target, field = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
    noise = Noise.measure(cubes, target, field)
    model.noise_offset.copy_(torch.from_numpy(noise.offset))
    model.noise_slope.copy_(torch.from_numpy(noise.slope))


def area_thresholds(pairs: Pairs, structures: int) -> Tensor:
    """Return the logits ``(structure,)`` above which masks have the area of the real ones.

    0, which is a chance of one half, where no cube knows the structure, or none or all of its pixels are in it.
    """
    logits: list[list[Tensor]] = [[] for _ in range(structures)]
    areas = [0.0] * structures
    for batch, made in pairs:
        for number in range(structures):
            known = batch.known[:, number]
            # Outside the field there are no structures to find; the field's own mask is judged on the whole picture.
            fills = torch.equal(batch.masks[known, number] > 0, batch.field[known, 0])
            counted = torch.ones_like(batch.field[known, 0]) if fills else batch.field[known, 0]
            logits[number].append(made.masks[known, number][counted].float().cpu())
            areas[number] += float(batch.masks[known, number].sum())
    found = torch.zeros(structures)
    for number, parts in enumerate(logits):
        values = torch.cat(parts) if parts else torch.zeros(0)
        area = round(areas[number])
        if 0 < area < len(values):
            found[number] = values.kthvalue(len(values) - area).values
    return found
