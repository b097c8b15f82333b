"""The complete autoencoder: cubes of any size, tiles, finished cubes, and weights from the seed alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from hseval_ldm.data.normalization import Batch, Normalization, pad_batch
from hseval_ldm.models.vqgan import Autoencoder, build_autoencoder, find_valid_tokens
from hseval_ldm.options import LdmOptions
from tests.helpers.random_weights import draw_normal, randomize_weights

BANDS = 5


def make_normalization(
    size: tuple[int, int] = (30, 37), structures: tuple[str, ...] = ("disc", "fov")
) -> Normalization:
    ramp = np.arange(1.0, BANDS + 1)
    return Normalization(ramp, 0.1 * ramp, 0 * ramp, 2 * ramp, None, None, structures, size)


def make_options(**changes: Any) -> LdmOptions:
    return LdmOptions(**({"width": 8, "blocks": 1, "codes": 16, "latent_channels": 3} | changes))


def make_autoencoder(measured: Normalization | None = None, **changes: Any) -> Autoencoder:
    model = randomize_weights(Autoencoder(make_options(**changes), measured or make_normalization())).requires_grad_(
        False
    )
    model.codebook.vectors.copy_(draw_normal(*model.codebook.vectors.shape))
    return model


def make_batch(size: tuple[int, int] = (30, 37), structures: int = 2) -> Batch:
    field = torch.zeros(2, 1, *size, dtype=torch.bool)
    field[0], field[1, :, 3:9, 17:22] = True, True
    masks = (draw_normal(2, structures, *size, seed=1) > 0).float() * field
    return Batch(draw_normal(2, BANDS, *size) * field, masks, torch.ones(2, structures, dtype=torch.bool), field)


@pytest.mark.parametrize("structures", [0, 2])
def test_padding_adds_pixels_outside_the_field(structures: int) -> None:
    before = make_batch(structures=structures)
    after = pad_batch(before, 8)
    assert after.cubes.shape == (2, BANDS, 32, 40) and after.masks.shape == (2, structures, 32, 40)
    assert after.field.dtype == torch.bool and after.has_mask is before.has_mask
    for one, other in zip(before, after, strict=True):
        assert torch.equal(other[..., :30, :37] if other.ndim == 4 else other, one)
        assert not other[..., 30:, :].any() and not other[..., 37:].any() if other.ndim == 4 else True
    assert pad_batch(after, 8) is after


def test_a_token_is_valid_if_it_covers_a_valid_pixel() -> None:
    tokens = find_valid_tokens(pad_batch(make_batch(), 8).field, 8)
    assert tokens.dtype == torch.bool and tokens.shape == (2, 1, 4, 5)
    expected = torch.zeros(4, 5, dtype=torch.bool)
    expected[:2, 2] = True
    assert tokens[0].all() and torch.equal(tokens[1, 0], expected)


def test_the_forward_pass_equals_its_parts() -> None:
    model, padded = make_autoencoder(), pad_batch(make_batch(), 8)
    output = model(padded.to_network_input())
    assert model.latent_shape == tuple(output.latents.shape[1:]) == (3, 4, 5)
    assert output.cubes.shape == padded.cubes.shape and output.masks.shape == padded.masks.shape
    codes = model.codebook.lookup(output.quantized.indices)
    assert torch.equal(output.quantized.values, codes)
    whole = model.decoder(codes)
    assert torch.equal(torch.cat([output.cubes, output.masks], dim=1), whole)


@pytest.mark.parametrize(("size", "compression"), [((30, 37), 8), ((32, 40), 8), ((17, 9), 4), ((5, 40), 16)])
def test_decoded_cubes_have_the_size_of_whole_cubes(size: tuple[int, int], compression: int) -> None:
    model = make_autoencoder(make_normalization(size), compression=compression)
    latents = draw_normal(2, *model.latent_shape)
    cubes, logits = model.decode(latents)
    assert cubes.shape == (2, BANDS, *size) and logits.shape == (2, 2, *size)
    codes = model.codebook.lookup(model.codebook.find_nearest(latents))
    whole = model.decoder(codes)
    assert whole.shape[-2:] == tuple(-(-side // compression) * compression for side in size)
    assert torch.equal(torch.cat([cubes, logits], dim=1), whole[..., : size[0], : size[1]])


@pytest.mark.parametrize("tile", [1, 4, 5])
def test_decoding_in_tiles_has_no_seam(tile: int) -> None:
    model = make_autoencoder(make_normalization((90, 77)))
    latents = draw_normal(1, *model.latent_shape)
    for whole, parts in zip(model.decode(latents), model.decode(latents, tile=tile), strict=True):
        assert whole.std() > 0.1 and torch.allclose(whole, parts, rtol=0, atol=1e-5)


# Finished cubes.


def make_logits(cubes: torch.Tensor) -> torch.Tensor:
    """Return logits of a disc on the upper half and a field on the left half."""
    logits = torch.full((len(cubes), 2, *cubes.shape[-2:]), -1.0)
    logits[:, 0, :15] = 1
    logits[:, 1, :, :20] = 1
    return logits


def test_finished_cubes_are_physical_clipped_and_black_outside_the_field() -> None:
    model, cubes = make_autoencoder(), draw_normal(2, BANDS, 30, 37)
    cubes[0, 0, 0, 0], cubes[0, 1, 0, 0] = 1e30, -1e30
    output = model.postprocess(cubes, make_logits(cubes))
    inside = torch.zeros(30, 37, dtype=torch.bool)
    inside[:, :20] = True
    assert torch.equal(output.field, inside.expand(2, 1, 30, 37)) and torch.equal(output.masks[:, 1:], output.field)
    disc = inside.clone()
    disc[15:] = False
    assert torch.equal(output.masks[:, 0], disc.expand(2, 30, 37))
    assert not output.cubes[..., 20:].any()
    expected = model.normalization.to_physical(cubes)[1, :, :, :20]
    assert torch.allclose(output.cubes[1, :, :, :20], expected)
    # Bands are measured from 0 to twice their number, and get a margin of 5 % above.
    assert float(output.cubes[0, 0, 0, 0]) == pytest.approx(2.1) and float(output.cubes[0, 1, 0, 0]) == 0


def test_finished_cubes_have_the_measured_noise() -> None:
    model, cubes = make_autoencoder(), torch.zeros(20, BANDS, 30, 37)
    clean = model.postprocess(cubes, make_logits(cubes))
    assert torch.equal(model.postprocess(cubes, make_logits(cubes), noise=draw_normal(*cubes.shape)).cubes, clean.cubes)
    model.noise_offset.fill_(4e-4)
    model.noise_slope.copy_(torch.arange(BANDS) * 1e-4)
    output = model.postprocess(cubes, make_logits(cubes), noise=draw_normal(*cubes.shape))
    noise = (output.cubes - clean.cubes)[..., :20]
    ramp = torch.arange(1.0, BANDS + 1)
    expected = (4e-4 + 1e-4 * (ramp - 1) * ramp).sqrt()
    assert torch.allclose(noise.std(dim=(0, 2, 3)), expected, rtol=0.03)
    assert not output.cubes[..., 20:].any()
    loud = model.postprocess(cubes, make_logits(cubes), noise=1e6 * draw_normal(*cubes.shape)).cubes
    assert torch.isfinite(loud).all() and loud.min() >= 0 and (loud <= 2.1 * ramp.view(1, -1, 1, 1) + 1e-5).all()


def test_thresholds_apply_to_masks_and_field() -> None:
    model, cubes = make_autoencoder(), torch.zeros(1, BANDS, 30, 37)
    logits = draw_normal(1, 2, 30, 37)
    model.thresholds.copy_(torch.tensor([0.5, -1.0]))
    output = model.postprocess(cubes, logits)
    assert torch.equal(output.field, logits[:, 1:] > -1)
    assert torch.equal(output.masks[:, 0], (logits[:, 0] > 0.5) & (logits[:, 1] > -1))


@pytest.mark.parametrize("structures", [(), ("artery", "disc")])
def test_without_a_field_mask_all_pixels_are_in_it(structures: tuple[str, ...]) -> None:
    model = make_autoencoder(make_normalization(structures=structures))
    cubes, logits = model.decode(draw_normal(1, *model.latent_shape))
    output = model.postprocess(cubes, logits)
    assert output.field.shape == (1, 1, 30, 37) and output.field.all()
    assert torch.equal(output.masks, logits > 0) and output.masks.shape[1] == len(structures)


def test_a_field_common_to_all_training_cubes_is_used_unchanged() -> None:
    model, cubes, logits = make_autoencoder(), torch.zeros(2, BANDS, 30, 37), draw_normal(2, 2, 30, 37)
    common = torch.zeros(30, 37, dtype=torch.bool)
    common[4:20, 6:30] = True
    model.common_field.copy_(common)
    output = model.postprocess(cubes, logits)
    assert torch.equal(output.field, common.expand(2, 1, 30, 37)) and torch.equal(output.masks[:, 1:], output.field)
    assert torch.equal(output.masks[:, 0], (logits[:, 0] > 0) & common)
    assert output.cubes[..., common].all() and not output.cubes[..., ~common].any()
    without = make_autoencoder(make_normalization(structures=("disc",)))
    without.common_field.copy_(common)
    assert torch.equal(without.postprocess(cubes, logits[:, :1]).field, output.field)


# Weights.


def test_weights_come_from_the_seed_alone() -> None:
    state = torch.get_rng_state()
    one, same, other = (
        build_autoencoder(make_options(), make_normalization(), seed=seed).state_dict() for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["encoder.layers.0.weight"], other["encoder.layers.0.weight"])
    torch.manual_seed(5)
    torch.rand(3)
    rebuilt = build_autoencoder(make_options(), make_normalization(), seed=1).state_dict()
    assert all(torch.equal(one[name], rebuilt[name]) for name in one)


def test_other_generators_are_not_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.manual_seed would also seed the generators of all GPUs, which are not restored."""
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    build_autoencoder(make_options(), make_normalization())
    assert seeded == []


def test_measured_values_are_in_the_state() -> None:
    model = make_autoencoder()
    model.thresholds.fill_(0.7)
    model.noise_slope.copy_(torch.rand(BANDS, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    restored = Autoencoder(make_options(), make_normalization())
    restored.load_state_dict(model.state_dict())
    assert torch.equal(restored.thresholds, model.thresholds) and torch.equal(restored.noise_slope, model.noise_slope)
    assert restored.noise_slope.dtype == torch.float64
    assert dataclasses.asdict(restored.normalization)["structures"] == ("disc", "fov")
