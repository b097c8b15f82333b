"""Calibration on reconstructions of training cubes: masks of the real area, and the sensor noise."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from hseval_ldm.data.normalization import Batch, Normalization, pad_batch
from hseval_ldm.models.codebook import Quantized
from hseval_ldm.models.sensor_noise import NoisePixels, SensorNoise
from hseval_ldm.models.vqgan import Autoencoder, Reconstruction
from hseval_ldm.options import LdmOptions
from hseval_ldm.sampling import calibration as module
from hseval_ldm.sampling.calibration import StructureAreas, calibrate, measure_noise
from tests.helpers.random_weights import draw_normal

SIDE, BANDS = 24, 3
EMPTY = torch.zeros(0)
Pair = tuple[Batch, Reconstruction]


def make_pair(seed: int, *, count: int = 3, structures: int = 3) -> Pair:
    """Return structures "disc", "fov", "vein" in a field on the left, and accurate but biased logits of them."""
    field = torch.zeros(count, 1, SIDE, SIDE, dtype=torch.bool)
    field[..., :17] = True
    soft = draw_normal(count, structures, SIDE, SIDE, seed=seed)
    masks = ((soft > torch.tensor([1.0, 9.0, 1.8])[:structures, None, None]) & field).float()
    masks[:, 1:2] = field.float()
    logits = 2 * soft + draw_normal(count, structures, SIDE, SIDE, seed=100 + seed) + 0.7
    logits[:, 1] = torch.where(field[:, 0], 3.0, -3.0) + draw_normal(count, SIDE, SIDE, seed=200 + seed)
    cubes = draw_normal(count, BANDS, SIDE, SIDE, seed=300 + seed) * field
    known = torch.ones(count, structures, dtype=torch.bool)
    return Batch(cubes, masks, known, field), make_reconstruction(cubes, logits)


def make_reconstruction(cubes: torch.Tensor, logits: torch.Tensor) -> Reconstruction:
    return Reconstruction(EMPTY, Quantized(EMPTY, EMPTY, EMPTY), cubes, logits)


def make_model(structures: tuple[str, ...] = ("disc", "fov", "vein")) -> Autoencoder:
    ones = np.ones(BANDS)
    std = np.array([0.1, 0.2, 0.05])
    measured = Normalization(0.5 * ones, std, 0 * ones, ones, None, None, structures, (SIDE, SIDE))
    return Autoencoder(LdmOptions(width=4, blocks=1, codes=4, latent_channels=2), measured)


def measure_thresholds(pairs: list[tuple[Batch, Reconstruction]], n_structures: int) -> torch.Tensor:
    areas = StructureAreas(n_structures)
    for batch, reconstruction in pairs:
        areas.add(batch, reconstruction)
    return areas.compute_thresholds()


def test_masks_above_their_threshold_have_the_real_area() -> None:
    pairs = [make_pair(seed) for seed in range(4)]
    thresholds = measure_thresholds(pairs, 3)
    for number in range(3):
        real = sum(int(batch.masks[:, number].sum()) for batch, _ in pairs)
        within = [torch.ones_like(b.field[:, 0]) if number == 1 else b.field[:, 0] for b, _ in pairs]
        area = sum(
            int(((m.masks[:, number] > thresholds[number]) & w).sum()) for (_, m), w in zip(pairs, within, strict=True)
        )
        assert area == real > 0
    assert (thresholds[[0, 2]].abs() > 0.3).all()


def test_cubes_without_a_mask_do_not_affect_its_threshold() -> None:
    (one, reconstruction_one), (other, reconstruction_other) = make_pair(0), make_pair(1)
    known = one.has_mask.clone()
    known[:, 2] = False
    unmasked = one._replace(has_mask=known, masks=one.masks * torch.tensor([1.0, 1, 0])[:, None, None])
    both = measure_thresholds([(unmasked, reconstruction_one), (other, reconstruction_other)], 3)
    assert both[2] == measure_thresholds([(other, reconstruction_other)], 3)[2]
    assert both[0] == measure_thresholds([(one, reconstruction_one), (other, reconstruction_other)], 3)[0]


def test_thresholds_of_missing_empty_and_full_masks_are_0() -> None:
    batch, reconstruction = make_pair(0)
    masks, known = batch.masks.clone(), batch.has_mask.clone()
    masks[:, 0], known[:, 2] = 0, False  # an empty structure, and one without masks
    everywhere = torch.ones_like(batch.field)
    masks[:, 1] = 1  # and one that covers the whole image
    pairs = [(Batch(batch.cubes, masks, known, everywhere), reconstruction)]
    assert torch.equal(measure_thresholds(pairs, 3), torch.zeros(3))
    assert torch.equal(measure_thresholds([], 2), torch.zeros(2))
    assert measure_thresholds(
        [(batch._replace(masks=masks[:, :0], has_mask=known[:, :0]), reconstruction)], 0
    ).shape == (0,)


def test_a_structure_that_fills_the_field_of_some_cubes_is_not_the_field() -> None:
    """In one batch it is measured on the whole image, in the other inside the field; both have the real area."""
    batch, reconstruction = make_pair(0)
    full = batch._replace(masks=batch.masks.index_copy(1, torch.tensor([0]), batch.field.float()))
    pairs = [(full, reconstruction), make_pair(1)]
    threshold = float(measure_thresholds(pairs, 3)[0])
    areas = [
        (m.masks[:, 0] > threshold) & (torch.ones_like(b.field[:, 0]) if b is full else b.field[:, 0]) for b, m in pairs
    ]
    assert sum(int(area.sum()) for area in areas) == sum(int(b.masks[:, 0].sum()) for b, _ in pairs)


NOISE_STDS = torch.tensor([0.02, 0.05, 0.01])  # physical, of each band


def make_noisy_pairs(batches: int = 4, *, padding: int = 1) -> Iterator[Pair]:
    """Yield reconstructions without the noise of the real cubes."""
    scale = torch.tensor([0.1, 0.2, 0.05])
    for seed in range(batches):
        batch, reconstruction = make_pair(seed, count=8)
        smooth = torch.sin(torch.arange(SIDE) / 5 + seed).expand(8, BANDS, SIDE, SIDE) * batch.field
        noise = draw_normal(8, BANDS, SIDE, SIDE, seed=seed) * (NOISE_STDS / scale)[:, None, None]
        batch = pad_batch(batch._replace(cubes=(smooth + noise) * batch.field), padding)
        smooth, logits = (
            torch.nn.functional.pad(part, (0, batch.field.shape[-1] - SIDE) * 2)
            for part in (smooth, reconstruction.masks)
        )
        yield batch, make_reconstruction(smooth, logits)


@pytest.mark.parametrize("padding", [1, 16])
def test_the_noise_is_that_of_the_physical_cubes(padding: int) -> None:
    model = make_model()
    noise = measure_noise(model, make_noisy_pairs(padding=padding))
    assert torch.allclose(noise.compute_std(torch.full((1, BANDS, 1, 1), 0.5))[0, :, 0, 0], NOISE_STDS, rtol=0.06)
    assert not model.thresholds.any() and not model.noise_offset.any()


def test_thresholds_and_noise_are_measured_in_one_pass() -> None:
    model, other = make_model(), make_model()
    calibrate(model, make_noisy_pairs())
    noise = measure_noise(other, make_noisy_pairs())
    assert np.array_equal(model.noise_offset, noise.offset) and np.array_equal(model.noise_slope, noise.slope)
    assert torch.allclose(
        model.compute_noise_std(torch.ones(1, BANDS, 1, 1)), noise.compute_std(torch.ones(1, BANDS, 1, 1))
    )
    assert torch.equal(model.thresholds, measure_thresholds(make_noisy_pairs(), 3)) and model.thresholds.any()
    again = make_model()
    calibrate(again, make_noisy_pairs(1))
    calibrate(again, make_noisy_pairs())  # overwrites the earlier measurement
    assert torch.equal(again.thresholds, model.thresholds) and torch.equal(again.noise_slope, model.noise_slope)


def test_measurements_ignore_autocast() -> None:
    """The generator of the pairs runs under autocast, and so does the code that iterates over it."""
    plain, inside = make_model(), make_model()
    calibrate(plain, make_noisy_pairs())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        calibrate(inside, make_noisy_pairs())
    assert torch.equal(plain.noise_offset, inside.noise_offset) and torch.equal(plain.noise_slope, inside.noise_slope)


def test_a_subset_of_the_pixels_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    fit = SensorNoise.fit

    def fit_and_count(batches: list[NoisePixels]) -> SensorNoise:
        counts.extend(bright.shape[1] for bright, _ in batches)
        return fit(batches)

    monkeypatch.setattr(SensorNoise, "fit", fit_and_count)
    monkeypatch.setattr(module, "NOISE_PIXELS_PER_CUBE", 100)
    model = make_model()
    noise = measure_noise(model, make_noisy_pairs())
    assert counts == [800] * 4
    assert torch.allclose(noise.compute_std(torch.full((1, BANDS, 1, 1), 0.5))[0, :, 0, 0], NOISE_STDS, rtol=0.1)


def test_without_structures_only_the_noise_is_measured() -> None:
    model = make_model(())
    calibrate(model, ((b._replace(masks=b.masks[:, :0], has_mask=b.has_mask[:, :0]), m) for b, m in make_noisy_pairs()))
    assert model.thresholds.shape == (0,) and model.noise_offset.any()
