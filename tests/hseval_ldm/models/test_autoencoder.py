"""Encoder and decoder: shapes for every combination of sizes, and the exact receptive field of a decoded pixel."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from hseval_ldm.data.normalization import Normalization
from hseval_ldm.models.autoencoder import Decoder, Encoder, compute_level_widths
from hseval_ldm.models.unet import build_denoiser
from hseval_ldm.models.vqgan import Autoencoder
from hseval_ldm.options import LdmOptions
from tests.helpers.random_weights import draw_normal, randomize_weights


def make_arguments(**changes: Any) -> dict[str, Any]:
    return {"channels": 5, "latent": 3, "width": 8, "blocks": 1, "compression": 8, "stem": 2} | changes


def test_widths_double_up_to_four_times() -> None:
    assert compute_level_widths(64, 4, 4) == [64]
    assert compute_level_widths(64, 8, 2) == [64, 128, 256]
    assert compute_level_widths(10, 16, 1) == [10, 20, 40, 40, 40]


@pytest.mark.parametrize(("compression", "stem"), list(itertools.product((4, 8, 16), (1, 2, 4))))
def test_shapes_at_any_compression_and_stem(compression: int, stem: int) -> None:
    arguments = make_arguments(compression=compression, stem=stem)
    encoder, decoder = randomize_weights(Encoder(**arguments)), randomize_weights(Decoder(**arguments))
    images = draw_normal(2, 5, 3 * compression, 2 * compression)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        latents = encoder(images)
        decoded = decoder(latents)
    assert latents.shape == (2, 3, 3, 2) and decoded.shape == images.shape
    assert latents.dtype == decoded.dtype == torch.float32
    assert latents.std() > 0.1 and decoded.std() > 0.1


@pytest.mark.parametrize("compression", [4, 8, 16])
@pytest.mark.parametrize(("stem", "blocks"), [(1, 1), (2, 1), (4, 1), (2, 2), (4, 3)])
def test_the_receptive_radius_is_that_of_the_gradients(compression: int, stem: int, blocks: int) -> None:
    """Gradients in float64 are nonzero exactly at the latents that a pixel depends on."""
    decoder = randomize_weights(
        Decoder(**make_arguments(width=4, compression=compression, stem=stem, blocks=blocks))
    ).double()
    radius = decoder.receptive_radius
    side = 2 * radius + 5
    middle = radius + 2
    latents = draw_normal(1, 3, side, side).double().requires_grad_()
    cell = slice(middle * compression, (middle + 1) * compression)
    decoded = decoder(latents)[..., cell, cell]
    (decoded * draw_normal(*decoded.shape, seed=1)).sum().backward()
    has_gradient = (latents.grad != 0).any(dim=1)[0]
    expected = torch.zeros(side, side, dtype=torch.bool)
    expected[2:-2, 2:-2] = True
    assert torch.equal(has_gradient, expected)


def test_every_weight_of_both_has_a_gradient() -> None:
    encoder, decoder = randomize_weights(Encoder(**make_arguments())), randomize_weights(Decoder(**make_arguments()))
    decoder(encoder(draw_normal(1, 5, 16, 16))).square().sum().backward()
    for network in (encoder, decoder):
        assert [name for name, weight in network.named_parameters() if not weight.grad.any()] == []


def make_normalization(structures: tuple[str, ...] = ("artery", "disc", "fov", "vein")) -> Normalization:
    ones = np.ones(16)
    return Normalization(0 * ones, ones, -ones, ones, None, None, structures, (224, 224))


@pytest.mark.parametrize("base", [128, 256, 512])
@pytest.mark.parametrize("channels", [8, 32, 256])
@pytest.mark.parametrize("compression", [4, 8, 16])
def test_all_combinations_build_with_the_expected_shapes(compression: int, channels: int, base: int) -> None:
    options = LdmOptions(compression=compression, latent_channels=channels, base=base)
    side = 224 // compression
    with torch.device("meta"):
        model = Autoencoder(options, make_normalization())
        latents = model.encoder(torch.empty(2, 20, 224, 224))
        indices = torch.zeros((2, *latents.shape[-2:]), dtype=torch.long)
        decoded = model.decoder(model.codebook.lookup(indices))
        unet = build_denoiser(options, channels)
        predicted = unet(latents, torch.zeros(2, dtype=torch.long))
    assert model.latent_shape == (channels, side, side)
    assert latents.shape == predicted.shape == (2, channels, side, side)
    assert decoded.shape == (2, 20, 224, 224) and model.bands == 16
    assert {weight.device.type for part in (model, unet) for weight in part.parameters()} == {"meta"}
