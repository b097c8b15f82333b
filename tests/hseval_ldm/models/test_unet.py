"""The U-Net: any height and width, attention at all levels but the first, weights from the seed alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from hseval_ldm.models.unet import Denoiser, build_denoiser
from hseval_ldm.options import LdmOptions


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    """Return a small U-Net whose last layer is not zero, as after some training."""
    network = build_denoiser(LdmOptions(base=16, unet_blocks=1), 3, seed=1).eval()
    generator = torch.Generator().manual_seed(0)
    last: Any = network.unet.conv_out
    last.weight.data = 0.1 * torch.randn(last.weight.shape, generator=generator)
    return network


def draw_latents(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [(1, 1), (7, 7), (14, 14), (28, 28), (42, 42), (84, 84), (6, 13)])
def test_the_same_weights_run_at_any_size(denoiser: Denoiser, size: tuple[int, int]) -> None:
    with torch.no_grad():
        predicted = denoiser(draw_latents(2, 3, *size), torch.tensor([3, 800]))
    assert predicted.shape == (2, 3, *size) and predicted.dtype == torch.float32 and predicted.std() > 0


def test_odd_sizes_are_padded_with_zeros_around_the_middle(denoiser: Denoiser) -> None:
    cropped, t = draw_latents(1, 3, 14, 7), torch.tensor([500])
    padded = torch.zeros(1, 3, 16, 8)
    padded[..., 1:15, :7] = cropped
    with torch.no_grad():
        assert torch.equal(denoiser(cropped, t), denoiser(padded, t)[..., 1:15, :7])


def test_weights_trained_at_28_load_at_84(denoiser: Denoiser) -> None:
    larger = build_denoiser(LdmOptions(base=16, unet_blocks=1), 3, seed=2).eval()
    larger.load_state_dict(denoiser.state_dict())
    t = torch.tensor([100])
    with torch.no_grad():
        assert torch.equal(larger(draw_latents(1, 3, 84, 84), t), denoiser(draw_latents(1, 3, 84, 84), t))


def test_each_cube_is_predicted_from_its_own_latents_and_time(denoiser: Denoiser) -> None:
    both, t = draw_latents(2, 3, 8, 8), torch.tensor([10, 900])
    with torch.no_grad():
        together = denoiser(both, t)
        for index in range(2):
            alone = denoiser(both[index : index + 1], t[index : index + 1])
            assert torch.allclose(together[index : index + 1], alone, atol=1e-5)
        assert torch.allclose(denoiser(both, t.float()), together, atol=1e-6)
        assert not torch.allclose(denoiser(both, t.flip(0)), together, atol=1e-2)


def test_the_first_prediction_is_zero_and_every_weight_has_a_gradient() -> None:
    network = build_denoiser(LdmOptions(base=16, unet_blocks=1), 2)
    noisy, t = draw_latents(2, 2, 6, 6), torch.tensor([1, 500])
    assert torch.equal(network(noisy, t), torch.zeros(2, 2, 6, 6))
    last: Any = network.unet.conv_out
    nn.init.ones_(last.weight)
    network(noisy, t).square().sum().backward()
    without_gradient = [
        name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()
    ]
    # A bias of the keys adds a constant to all logits of a query, which softmax ignores.
    assert [name for name in without_gradient if not name.endswith("to_k.bias")] == []


@pytest.mark.parametrize(("base", "size"), [(8, 7), (10, 14), (32, 56), (64, 42), (96, 28), (256, 14), (512, 168)])
def test_it_builds_without_memory_at_any_base_and_size(base: int, size: int) -> None:
    with torch.device("meta"):
        network = build_denoiser(LdmOptions(base=base), 32)
        predicted = network(torch.empty(2, 32, size, size), torch.zeros(2, dtype=torch.long))
    assert predicted.shape == (2, 32, size, size)
    assert {weight.device.type for weight in network.parameters()} == {"meta"}


def find_attention(network: Denoiser) -> list[str]:
    names = [name.split(".attentions")[0] for name, m in network.named_modules() if type(m).__name__ == "Attention"]
    return sorted({name.removeprefix("unet.") for name in names})


def test_attention_is_at_all_levels_but_the_first() -> None:
    with torch.device("meta"):
        three, two = (build_denoiser(LdmOptions(base=32, multipliers=widths), 4) for widths in ((1, 2, 4), (1, 2)))
    coarse = ["down_blocks.1", "down_blocks.2", "mid_block", "up_blocks.0", "up_blocks.1"]
    assert find_attention(three) == coarse
    assert find_attention(two) == ["down_blocks.1", "mid_block", "up_blocks.0"]


def test_weights_come_from_the_seed_alone() -> None:
    state = torch.get_rng_state()
    one, same, other = (
        build_denoiser(LdmOptions(base=8, unet_blocks=1), 2, seed=seed).state_dict() for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["unet.conv_in.weight"], other["unet.conv_in.weight"])
