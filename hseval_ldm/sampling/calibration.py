"""What is measured on reconstructions of training cubes: where masks lie, the field of view, and the sensor's noise."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from hseval_ldm.data.normalization import Batch
from hseval_ldm.models.sensor_noise import Noise, Pixels, fine_pixels
from hseval_ldm.models.vqgan import Autoencoder, Reconstruction

Pairs = Iterable[tuple[Batch, Reconstruction]]
NOISE_PIXELS = 4096  # of each cube, from which the noise is measured: whole sets of cubes would not fit in memory


def calibrate(model: Autoencoder, pairs: Pairs) -> None:
    """Measure all three on the same reconstructions and leave them in the model's buffers."""
    pixels: list[Pixels] = []
    areas = _Areas(len(model.thresholds))
    height, width = model.normalisation.size
    everywhere, anywhere = torch.ones_like(model.common_field), torch.zeros_like(model.common_field)
    for batch, made in pairs:
        pixels.append(_noise_pixels(model, batch, made))
        areas.add(batch, made)
        field = batch.field[:, 0, :height, :width]
        everywhere, anywhere = everywhere & field.all(dim=0), anywhere | field.any(dim=0)
    noise = Noise.fitted(pixels)
    model.noise_offset.copy_(torch.from_numpy(noise.offset))
    model.noise_slope.copy_(torch.from_numpy(noise.slope))
    model.thresholds.copy_(areas.thresholds())
    same = torch.equal(everywhere, anywhere)
    model.common_field.copy_(everywhere if same else torch.zeros_like(everywhere))


def measured_noise(model: Autoencoder, pairs: Pairs) -> Noise:
    """Return the noise that is left of the cubes; the model's buffers stay as they are."""
    return Noise.fitted([_noise_pixels(model, batch, made) for batch, made in pairs])


def area_thresholds(pairs: Pairs, structures: int) -> Tensor:
    """Return the logits ``(structure,)`` above which masks have the area of the real ones.

    0, which is a chance of one half, where no cube knows the structure, or none or all of its pixels are in it.
    """
    areas = _Areas(structures)
    for batch, made in pairs:
        areas.add(batch, made)
    return areas.thresholds()


class _Areas:
    """The area of each structure and the logits at the pixels that may be in it, of the batches seen so far."""

    def __init__(self, structures: int) -> None:
        self.logits: list[list[Tensor]] = [[] for _ in range(structures)]
        self.area = [0] * structures

    def add(self, batch: Batch, made: Reconstruction) -> None:
        for number, parts in enumerate(self.logits):
            known = batch.known[:, number]
            real, field = batch.masks[known, number] > 0, batch.field[known, 0]
            # Outside the field there are no structures to find; the field's own mask is judged on the whole picture.
            counted = torch.ones_like(field) if torch.equal(real, field) else field
            parts.append(made.masks[known, number][counted].float().cpu())
            self.area[number] += int(real.sum())

    def thresholds(self) -> Tensor:
        found = torch.zeros(len(self.logits))
        for number, (parts, area) in enumerate(zip(self.logits, self.area, strict=True)):
            values = torch.cat(parts) if parts else torch.zeros(0)
            if 0 < area < len(values):
                found[number] = values.kthvalue(len(values) - area).values
        return found


def _noise_pixels(model: Autoencoder, batch: Batch, made: Reconstruction) -> Pixels:
    cubes, target = (model.normalisation.to_physical(part) for part in (made.cubes, batch.cubes))
    bright, fine = fine_pixels(cubes, target, batch.field, most=NOISE_PIXELS)
    return bright.cpu(), fine.cpu()
