"""Calibration: masks of the real area, and the camera's noise, from reconstructions of training cubes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from hseval_ldm.data.normalization import Batch, Normalization
from hseval_ldm.models.codebook import Quantized
from hseval_ldm.models.sensor_noise import NoisePixels, SensorNoise
from hseval_ldm.models.vqgan import Autoencoder, Reconstruction, pad_batch
from hseval_ldm.options import LdmOptions
from hseval_ldm.sampling import calibration as module
from hseval_ldm.sampling.calibration import calibrate, compute_area_thresholds, measure_noise
from tests.helpers.random_weights import normal

SIDE, BANDS = 24, 3
NOTHING = torch.zeros(0)
Pair = tuple[Batch, Reconstruction]


def pair(seed: int, *, count: int = 3, structures: int = 3) -> Pair:
    """Structures "disc", "fov", "vein" in a field on the left; logits that know them well, with a bias of each."""
    field = torch.zeros(count, 1, SIDE, SIDE, dtype=torch.bool)
    field[..., :17] = True
    soft = normal(count, structures, SIDE, SIDE, seed=seed)
    masks = ((soft > torch.tensor([1.0, 9.0, 1.8])[:structures, None, None]) & field).float()
    masks[:, 1:2] = field.float()
    logits = 2 * soft + normal(count, structures, SIDE, SIDE, seed=100 + seed) + 0.7
    logits[:, 1] = torch.where(field[:, 0], 3.0, -3.0) + normal(count, SIDE, SIDE, seed=200 + seed)
    cubes = normal(count, BANDS, SIDE, SIDE, seed=300 + seed) * field
    known = torch.ones(count, structures, dtype=torch.bool)
    return Batch(cubes, masks, known, field), made_of(cubes, logits)


def made_of(cubes: torch.Tensor, logits: torch.Tensor) -> Reconstruction:
    return Reconstruction(NOTHING, Quantized(NOTHING, NOTHING, NOTHING), cubes, logits)


def model_of(structures: tuple[str, ...] = ("disc", "fov", "vein")) -> Autoencoder:
    one = np.ones(BANDS)
    deviation = np.array([0.1, 0.2, 0.05])
    measured = Normalization(0.5 * one, deviation, 0 * one, one, None, None, structures, (SIDE, SIDE))
    return Autoencoder(LdmOptions(width=4, blocks=1, codes=4, latent_channels=2), measured)


def test_masks_above_their_threshold_have_the_real_area() -> None:
    pairs = [pair(seed) for seed in range(4)]
    found = compute_area_thresholds(pairs, 3)
    for number in range(3):
        real = sum(int(batch.masks[:, number].sum()) for batch, _ in pairs)
        within = [torch.ones_like(b.field[:, 0]) if number == 1 else b.field[:, 0] for b, _ in pairs]
        area = sum(
            int(((m.masks[:, number] > found[number]) & w).sum()) for (_, m), w in zip(pairs, within, strict=True)
        )
        assert area == real > 0
    assert (found[[0, 2]].abs() > 0.3).all()


def test_cubes_that_do_not_know_a_structure_say_nothing_of_its_area() -> None:
    (one, made_one), (other, made_other) = pair(0), pair(1)
    known = one.has_mask.clone()
    known[:, 2] = False
    blind = one._replace(has_mask=known, masks=one.masks * torch.tensor([1.0, 1, 0])[:, None, None])
    both = compute_area_thresholds([(blind, made_one), (other, made_other)], 3)
    assert both[2] == compute_area_thresholds([(other, made_other)], 3)[2]
    assert both[0] == compute_area_thresholds([(one, made_one), (other, made_other)], 3)[0]


def test_nothing_known_none_and_all_of_the_pixels_are_a_chance_of_one_half() -> None:
    batch, made = pair(0)
    masks, known = batch.masks.clone(), batch.has_mask.clone()
    masks[:, 0], known[:, 2] = 0, False  # an empty structure, and one that nobody knows
    everywhere = torch.ones_like(batch.field)
    masks[:, 1] = 1  # and one that is the whole picture
    given = [(Batch(batch.cubes, masks, known, everywhere), made)]
    assert torch.equal(compute_area_thresholds(given, 3), torch.zeros(3))
    assert torch.equal(compute_area_thresholds([], 2), torch.zeros(2))
    assert compute_area_thresholds([(batch._replace(masks=masks[:, :0], has_mask=known[:, :0]), made)], 0).shape == (0,)


def test_a_structure_that_fills_the_field_of_some_cubes_is_no_field() -> None:
    """In the one batch it is judged on the whole picture, in the other inside the field; both have the real area."""
    batch, made = pair(0)
    full = batch._replace(masks=batch.masks.index_copy(1, torch.tensor([0]), batch.field.float()))
    pairs = [(full, made), pair(1)]
    found = float(compute_area_thresholds(pairs, 3)[0])
    areas = [
        (m.masks[:, 0] > found) & (torch.ones_like(b.field[:, 0]) if b is full else b.field[:, 0]) for b, m in pairs
    ]
    assert sum(int(area.sum()) for area in areas) == sum(int(b.masks[:, 0].sum()) for b, _ in pairs)


DEVIATIONS = torch.tensor([0.02, 0.05, 0.01])  # physical, of each band


def noisy_pairs(batches: int = 4, *, padding: int = 1) -> Iterator[Pair]:
    """Reconstructions without the noise that the real cubes have."""
    scale = torch.tensor([0.1, 0.2, 0.05])
    for seed in range(batches):
        batch, made = pair(seed, count=8)
        smooth = torch.sin(torch.arange(SIDE) / 5 + seed).expand(8, BANDS, SIDE, SIDE) * batch.field
        noise = normal(8, BANDS, SIDE, SIDE, seed=seed) * (DEVIATIONS / scale)[:, None, None]
        batch = pad_batch(batch._replace(cubes=(smooth + noise) * batch.field), padding)
        smooth, logits = (
            torch.nn.functional.pad(part, (0, batch.field.shape[-1] - SIDE) * 2) for part in (smooth, made.masks)
        )
        yield batch, made_of(smooth, logits)


@pytest.mark.parametrize("padding", [1, 16])
def test_the_noise_is_that_of_the_physical_cubes(padding: int) -> None:
    model = model_of()
    found = measure_noise(model, noisy_pairs(padding=padding))
    assert torch.allclose(found.compute_std(torch.full((1, BANDS, 1, 1), 0.5))[0, :, 0, 0], DEVIATIONS, rtol=0.06)
    assert not model.thresholds.any() and not model.noise_offset.any()


def test_both_are_measured_in_one_pass() -> None:
    model, alone = model_of(), model_of()
    calibrate(model, noisy_pairs())
    found = measure_noise(alone, noisy_pairs())
    assert np.array_equal(model.noise_offset, found.offset) and np.array_equal(model.noise_slope, found.slope)
    assert torch.allclose(
        model.compute_noise_std(torch.ones(1, BANDS, 1, 1)), found.compute_std(torch.ones(1, BANDS, 1, 1))
    )
    assert torch.equal(model.thresholds, compute_area_thresholds(noisy_pairs(), 3)) and model.thresholds.any()
    again = model_of()
    calibrate(again, noisy_pairs(1))
    calibrate(again, noisy_pairs())  # what was measured before is forgotten
    assert torch.equal(again.thresholds, model.thresholds) and torch.equal(again.noise_slope, model.noise_slope)


def test_autocast_does_not_reach_what_is_measured() -> None:
    """The pairs are made under autocast, by a generator: whoever asks for the next pair is under it as well."""
    plain, inside = model_of(), model_of()
    calibrate(plain, noisy_pairs())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        calibrate(inside, noisy_pairs())
    assert torch.equal(plain.noise_offset, inside.noise_offset) and torch.equal(plain.noise_slope, inside.noise_slope)


def test_a_part_of_the_pixels_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    fitted = SensorNoise.fit

    def counted(parts: list[NoisePixels]) -> SensorNoise:
        kept.extend(bright.shape[1] for bright, _ in parts)
        return fitted(parts)

    monkeypatch.setattr(SensorNoise, "fit", counted)
    monkeypatch.setattr(module, "NOISE_PIXELS_PER_CUBE", 100)
    model = model_of()
    found = measure_noise(model, noisy_pairs())
    assert kept == [800] * 4
    assert torch.allclose(found.compute_std(torch.full((1, BANDS, 1, 1), 0.5))[0, :, 0, 0], DEVIATIONS, rtol=0.1)


def test_without_structures_the_noise_alone_is_measured() -> None:
    model = model_of(())
    calibrate(model, ((b._replace(masks=b.masks[:, :0], has_mask=b.has_mask[:, :0]), m) for b, m in noisy_pairs()))
    assert model.thresholds.shape == (0,) and model.noise_offset.any()
