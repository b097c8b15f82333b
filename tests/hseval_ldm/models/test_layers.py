"""Layers: a norm over the channels of a pixel, residual blocks initialized as identity, lossless resampling."""

from __future__ import annotations

import pytest
import torch

from hseval_ldm.models.autoencoder import ChannelNorm, Downsample, ResidualBlock, Upsample, disable_autocast
from tests.helpers.random_weights import draw_normal, randomize_weights


def test_the_norm_has_the_closed_form_at_each_pixel() -> None:
    norm = randomize_weights(ChannelNorm(6))
    features = 5 + 3 * draw_normal(2, 6, 4, 3)
    exact = features.double()
    std = (exact.var(dim=1, correction=0, keepdim=True) + 1e-6).sqrt()
    expected = (exact - exact.mean(dim=1, keepdim=True)) / std
    expected = expected * norm.gain.double()[:, None, None] + norm.shift.double()[:, None, None]
    assert torch.allclose(norm(features).double(), expected, atol=1e-5)


def test_the_norm_preserves_half_precision_and_sums_in_float32() -> None:
    norm = randomize_weights(ChannelNorm(256))
    features = (200 + draw_normal(1, 256, 2, 2)).bfloat16()  # summed in bf16, the variance would be very inaccurate
    with torch.autocast("cpu", dtype=torch.bfloat16):
        normalized = norm(features)
    assert normalized.dtype == torch.bfloat16
    assert torch.allclose(normalized.float(), norm(features.float()), atol=0.05)


@pytest.mark.parametrize("block", [ChannelNorm(4), Downsample(4, 3), Upsample(4, 3)])
def test_a_pixel_affects_only_its_own_cell(block: torch.nn.Module) -> None:
    randomize_weights(block)
    features = draw_normal(1, 4, 8, 8)
    other = features.clone()
    other[..., 5, 2] += draw_normal(1, 4)
    changed = (block(features) != block(other)).any(dim=1)[0]
    pixel = torch.zeros(8, 8, dtype=torch.bool)
    pixel[5, 2] = True
    side = changed.shape[-1]
    expected = torch.nn.functional.interpolate(pixel[None, None].float(), side)[0, 0].bool() if side > 8 else pixel
    if side < 8:
        expected = torch.nn.functional.max_pool2d(pixel[None].float(), 2)[0].bool()
    assert torch.equal(changed, expected)


def test_residual_blocks_are_initialized_as_their_skip_connection() -> None:
    features = draw_normal(1, 4, 5, 5)
    assert torch.equal(ResidualBlock(4, 4)(features), features)
    widening = ResidualBlock(4, 6)
    assert torch.equal(widening(features), widening.skip(features))
    assert not torch.allclose(randomize_weights(widening)(features), widening.skip(features), atol=0.1)


def test_autocast_is_off_inside_and_the_meta_device_has_none() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
        with disable_autocast(torch.device("cpu")):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    with disable_autocast(torch.device("meta")):
        assert torch.empty(3, device="meta").shape == (3,)
