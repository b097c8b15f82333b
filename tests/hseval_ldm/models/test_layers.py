"""Blocks: a norm of one pixel's channels, residual blocks that start as their skip, resampling that drops nothing."""

from __future__ import annotations

import pytest
import torch

from hseval_ldm.models.autoencoder import ChannelNorm, Downsample, ResidualBlock, Upsample, disable_autocast
from tests.helpers.random_weights import normal, randomised


def test_norm_is_the_closed_form_at_each_pixel() -> None:
    norm = randomised(ChannelNorm(6))
    features = 5 + 3 * normal(2, 6, 4, 3)
    wide = features.double()
    spread = (wide.var(dim=1, correction=0, keepdim=True) + 1e-6).sqrt()
    expected = (wide - wide.mean(dim=1, keepdim=True)) / spread
    expected = expected * norm.gain.double()[:, None, None] + norm.shift.double()[:, None, None]
    assert torch.allclose(norm(features).double(), expected, atol=1e-5)


def test_norm_keeps_half_precision_and_sums_in_float32() -> None:
    norm = randomised(ChannelNorm(256))
    features = (200 + normal(1, 256, 2, 2)).bfloat16()  # summed in bf16, the variance would be wrong by far
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = norm(features)
    assert narrow.dtype == torch.bfloat16
    assert torch.allclose(narrow.float(), norm(features.float()), atol=0.05)


@pytest.mark.parametrize("block", [ChannelNorm(4), Downsample(4, 3), Upsample(4, 3)])
def test_one_pixel_changes_its_own_cell_alone(block: torch.nn.Module) -> None:
    randomised(block)
    features = normal(1, 4, 8, 8)
    other = features.clone()
    other[..., 5, 2] += normal(1, 4)
    changed = (block(features) != block(other)).any(dim=1)[0]
    where = torch.zeros(8, 8, dtype=torch.bool)
    where[5, 2] = True
    side = changed.shape[-1]
    expected = torch.nn.functional.interpolate(where[None, None].float(), side)[0, 0].bool() if side > 8 else where
    if side < 8:
        expected = torch.nn.functional.max_pool2d(where[None].float(), 2)[0].bool()
    assert torch.equal(changed, expected)


def test_residual_blocks_start_as_their_skip() -> None:
    features = normal(1, 4, 5, 5)
    assert torch.equal(ResidualBlock(4, 4)(features), features)
    widening = ResidualBlock(4, 6)
    assert torch.equal(widening(features), widening.skip(features))
    assert not torch.allclose(randomised(widening)(features), widening.skip(features), atol=0.1)


def test_autocast_is_off_inside_and_the_meta_device_has_none() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
        with disable_autocast(torch.device("cpu")):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    with disable_autocast(torch.device("meta")):
        assert torch.empty(3, device="meta").shape == (3,)
