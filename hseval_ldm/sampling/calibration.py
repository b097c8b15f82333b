"""Calibration on reconstructions of training cubes: mask thresholds, field of view and sensor noise."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from hseval_ldm.data.normalization import Batch
from hseval_ldm.models.sensor_noise import NoisePixels, SensorNoise, extract_noise_pixels
from hseval_ldm.models.vqgan import Autoencoder, Reconstruction

ReconstructionPairs = Iterable[tuple[Batch, Reconstruction]]
NOISE_PIXELS_PER_CUBE = 4096  # pixels from which the noise is measured: all pixels of a set would not fit in memory


def calibrate(model: Autoencoder, pairs: ReconstructionPairs) -> None:
    """Measure all three on the same reconstructions and store them in the model's buffers."""
    pixels: list[NoisePixels] = []
    areas = StructureAreas(len(model.thresholds))
    height, width = model.normalization.size
    everywhere, anywhere = torch.ones_like(model.common_field), torch.zeros_like(model.common_field)
    for batch, reconstruction in pairs:
        pixels.append(_collect_noise_pixels(model, batch, reconstruction))
        areas.add(batch, reconstruction)
        field = batch.field[:, 0, :height, :width]
        everywhere, anywhere = everywhere & field.all(dim=0), anywhere | field.any(dim=0)
    noise = SensorNoise.fit(pixels)
    model.noise_offset.copy_(torch.from_numpy(noise.offset))
    model.noise_slope.copy_(torch.from_numpy(noise.slope))
    model.thresholds.copy_(areas.compute_thresholds())
    is_common = torch.equal(everywhere, anywhere)
    model.common_field.copy_(everywhere if is_common else torch.zeros_like(everywhere))


def measure_noise(model: Autoencoder, pairs: ReconstructionPairs) -> SensorNoise:
    """Return the sensor noise; the model's buffers are unchanged."""
    return SensorNoise.fit([_collect_noise_pixels(model, batch, reconstruction) for batch, reconstruction in pairs])


class StructureAreas:
    """The area of each structure, and the logits at the pixels that may belong to it, over batches."""

    def __init__(self, n_structures: int) -> None:
        self.logits: list[list[Tensor]] = [[] for _ in range(n_structures)]
        self.areas = [0] * n_structures

    def add(self, batch: Batch, reconstruction: Reconstruction) -> None:
        """Add a batch."""
        for number, logits in enumerate(self.logits):
            known = batch.has_mask[:, number]
            real, field = batch.masks[known, number] > 0, batch.field[known, 0]
            # Structures lie inside the field; only the mask of the field itself is measured on the whole image.
            is_candidate = torch.ones_like(field) if torch.equal(real, field) else field
            logits.append(reconstruction.masks[known, number][is_candidate].float().cpu())
            self.areas[number] += int(real.sum())

    def compute_thresholds(self) -> Tensor:
        """Return the logits ``(structure,)`` above which masks have the area of the real ones.

        0, a probability of one half, where no cube has the mask, or the structure covers none or all of the pixels.
        """
        thresholds = torch.zeros(len(self.logits))
        for number, (logits, area) in enumerate(zip(self.logits, self.areas, strict=True)):
            values = torch.cat(logits) if logits else torch.zeros(0)
            if 0 < area < len(values):
                thresholds[number] = values.kthvalue(len(values) - area).values
        return thresholds


def _collect_noise_pixels(model: Autoencoder, batch: Batch, reconstruction: Reconstruction) -> NoisePixels:
    cubes, target = (model.normalization.to_physical(c) for c in (reconstruction.cubes, batch.cubes))
    bright, fine = extract_noise_pixels(cubes, target, batch.field, max_per_cube=NOISE_PIXELS_PER_CUBE)
    return bright.cpu(), fine.cpu()
