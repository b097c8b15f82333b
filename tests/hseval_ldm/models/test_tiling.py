"""Tiles: no seam at any size, and no more memory than a tile with its margins needs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hseval_ldm.models.autoencoder import Decoder, Encoder, apply_tiled
from tests.helpers.random_weights import draw_normal, randomize_weights


def make_decoder(compression: int = 8, stem: int = 2, blocks: int = 1) -> Decoder:
    decoder = Decoder(channels=3, latent=4, width=8, blocks=blocks, compression=compression, stem=stem)
    return randomize_weights(decoder).requires_grad_(False)


SHAPES = [(4, 1, 1), (4, 4, 2), (8, 2, 1), (8, 2, 2), (8, 4, 1), (16, 2, 1), (16, 4, 3)]


@pytest.mark.parametrize(("compression", "stem", "blocks"), SHAPES)
@pytest.mark.parametrize("tile", [3, 5, 7])
def test_tiles_have_no_seam(compression: int, stem: int, blocks: int, tile: int) -> None:
    network, latents = make_decoder(compression, stem, blocks), draw_normal(2, 4, 10, 14)
    whole = network(latents)
    parts = apply_tiled(network, latents, tile=tile, margin=network.receptive_radius, scale=compression)
    assert whole.std() > 0.1
    assert torch.allclose(parts, whole, rtol=0, atol=1e-5)


def test_a_margin_that_is_too_small_leaves_a_seam() -> None:
    network, latents = make_decoder(), draw_normal(1, 4, 10, 14)
    whole = network(latents)
    seams = [
        float((apply_tiled(network, latents, tile=5, margin=margin, scale=8) - whole).abs().max())
        for margin in (0, 1, network.receptive_radius)
    ]
    assert seams[0] > 0.1 and seams[1] > 1e-3 and seams[2] < 1e-5


def test_tiles_at_the_edge_of_the_image_have_its_zero_padding() -> None:
    """The network was trained with zero padding at the border: a tile of one cell at the corner has it as well."""
    network, latents = make_decoder(), draw_normal(1, 4, 6, 6)
    whole = network(latents)
    parts = apply_tiled(network, latents, tile=1, margin=network.receptive_radius, scale=8)
    for edge in (slice(0, 8), slice(-8, None)):
        assert torch.allclose(parts[..., edge, edge], whole[..., edge, edge], rtol=0, atol=1e-5)


def test_crops_decode_like_the_whole_image_away_from_their_edge() -> None:
    network, latents = make_decoder(), draw_normal(1, 4, 20, 20)
    whole, radius = network(latents), network.receptive_radius
    part = network(latents[..., 2:18, 3:19])
    inner = slice(8 * radius, -8 * radius)
    assert torch.allclose(part[..., inner, inner], whole[..., 16:-16, 24:-8][..., inner, inner], rtol=0, atol=1e-5)
    assert not torch.allclose(part, whole[..., 16:-16, 24:-8], rtol=0, atol=1e-3)


def test_crops_encode_like_the_whole_image_away_from_their_edge() -> None:
    network = Encoder(channels=3, latent=4, width=8, blocks=1, compression=4, stem=2)
    randomize_weights(network).requires_grad_(False)
    images = draw_normal(1, 3, 80, 80)
    whole, part = network(images), network(images[..., 8:72, 4:68])
    inner = slice(5, -5)
    assert torch.allclose(part[..., inner, inner], whole[..., 2:18, 1:17][..., inner, inner], rtol=0, atol=1e-5)


def test_nothing_larger_than_a_tile_with_its_margins_is_decoded() -> None:
    sizes: list[tuple[int, ...]] = []

    def apply(latents: Tensor) -> Tensor:
        sizes.append(tuple(latents.shape[-2:]))
        return latents.repeat_interleave(2, -1).repeat_interleave(2, -2)

    latents = draw_normal(1, 1, 11, 8)
    assert torch.equal(apply_tiled(apply, latents, tile=4, margin=2, scale=2), apply(latents))
    assert len(sizes[:-1]) == 3 * 2 and max(max(size) for size in sizes[:-1]) == 4 + 2 * 2
    sizes.clear()
    for tile in (0, 11, 100):
        apply_tiled(apply, latents, tile=tile, margin=2, scale=2)
    assert sizes == [(11, 8)] * 3
