"""What is measured on reconstructions of training cubes: where masks lie, the field of view, and the sensor's noise."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from hseval_ldm.data.normalization import Batch
from hseval_ldm.models.sensor_noise import NoisePixels, SensorNoise, extract_noise_pixels
from hseval_ldm.models.vqgan import Autoencoder, Reconstruction

ReconstructionPairs = Iterable[tuple[Batch, Reconstruction]]
NOISE_PIXELS_PER_CUBE = (
    4096  # of each cube, from which the noise is measured: whole sets of cubes would not fit in memory
)


def calibrate(model: Autoencoder, pairs: ReconstructionPairs) -> None:
    """Measure all three on the same reconstructions and leave them in the model's buffers."""
    pixels: list[NoisePixels] = []
    areas = _StructureAreas(len(model.thresholds))
    height, width = model.normalization.size
    everywhere, anywhere = torch.ones_like(model.common_field), torch.zeros_like(model.common_field)
    for batch, made in pairs:
        pixels.append(_collect_noise_pixels(model, batch, made))
        areas.add(batch, made)
        field = batch.field[:, 0, :height, :width]
        everywhere, anywhere = everywhere & field.all(dim=0), anywhere | field.any(dim=0)
    noise = SensorNoise.fit(pixels)
    model.noise_offset.copy_(torch.from_numpy(noise.offset))
    model.noise_slope.copy_(torch.from_numpy(noise.slope))
    model.thresholds.copy_(areas.compute_thresholds())
    same = torch.equal(everywhere, anywhere)
    model.common_field.copy_(everywhere if same else torch.zeros_like(everywhere))


def measure_noise(model: Autoencoder, pairs: ReconstructionPairs) -> SensorNoise:
    """Return the noise that is left of the cubes; the model's buffers stay as they are."""
    return SensorNoise.fit([_collect_noise_pixels(model, batch, made) for batch, made in pairs])


def compute_area_thresholds(pairs: ReconstructionPairs, n_structures: int) -> Tensor:
    """Return the logits ``(structure,)`` above which masks have the area of the real ones.

    0, which is a chance of one half, where no cube knows the structure, or none or all of its pixels are in it.
    """
    areas = _StructureAreas(n_structures)
    for batch, made in pairs:
        areas.add(batch, made)
    return areas.compute_thresholds()


class _StructureAreas:
    """The area of each structure and the logits at the pixels that may be in it, of the batches seen so far."""

    def __init__(self, n_structures: int) -> None:
        self.logits: list[list[Tensor]] = [[] for _ in range(n_structures)]
        self.areas = [0] * n_structures

    def add(self, batch: Batch, reconstruction: Reconstruction) -> None:
        for number, parts in enumerate(self.logits):
            known = batch.has_mask[:, number]
            real, field = batch.masks[known, number] > 0, batch.field[known, 0]
            # Outside the field there are no structures to find; the field's own mask is judged on the whole picture.
            counted = torch.ones_like(field) if torch.equal(real, field) else field
            parts.append(reconstruction.masks[known, number][counted].float().cpu())
            self.areas[number] += int(real.sum())

    def compute_thresholds(self) -> Tensor:
        found = torch.zeros(len(self.logits))
        for number, (parts, area) in enumerate(zip(self.logits, self.areas, strict=True)):
            values = torch.cat(parts) if parts else torch.zeros(0)
            if 0 < area < len(values):
                found[number] = values.kthvalue(len(values) - area).values
        return found


def _collect_noise_pixels(model: Autoencoder, batch: Batch, reconstruction: Reconstruction) -> NoisePixels:
    cubes, target = (model.normalization.to_physical(part) for part in (reconstruction.cubes, batch.cubes))
    bright, fine = extract_noise_pixels(cubes, target, batch.field, max_per_cube=NOISE_PIXELS_PER_CUBE)
    return bright.cpu(), fine.cpu()
