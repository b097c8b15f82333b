"""Optimizer steps: the learning rate schedule, clipped gradients, and ranks that agree."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hseval.training.stage import MAX_GRADIENT_NORM, update_parameters
from hseval.utils.distributed import Ranks
from hseval_ldm.models.losses import compute_field_mean
from hseval_ldm.training.optimizer import (
    MIN_RATE_RATIO,
    build_adamw,
    compute_learning_rate,
    wrap_network,
)
from tests.helpers.random_weights import draw_normal, randomize_weights
from tests.helpers.two_ranks import run_on_two_ranks


@pytest.mark.parametrize("steps", [1, 2, 12, 1000])
def test_the_rate_rises_to_its_peak_and_falls_to_a_fiftieth(steps: int) -> None:
    rates = [compute_learning_rate(step, steps, 3.0) for step in range(steps)]
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1]) and rates[peak:] == sorted(rates[peak:], reverse=True)
    assert max(rates) == pytest.approx(3.0) and min(rates) > 0
    assert peak == max(1, round(0.02 * steps)) - 1
    if steps > 1:
        assert compute_learning_rate(steps, steps, 3.0) == pytest.approx(3.0 * MIN_RATE_RATIO)


def test_the_fall_is_half_a_cosine() -> None:
    middle = compute_learning_rate(20 + 490, 1000, 1.0)
    assert middle == pytest.approx(MIN_RATE_RATIO + (1 - MIN_RATE_RATIO) / 2)
    assert compute_learning_rate(4, 1000, 1.0) == pytest.approx(5 / 20)


def test_gradients_are_clipped_before_the_step() -> None:
    weight = nn.Parameter(torch.tensor([3.0, -4.0]))
    model = nn.ParameterList([weight])
    optimizer = torch.optim.SGD([weight], lr=123.0)
    update_parameters(optimizer, (weight**2).sum() * 1e3, model, learning_rate=0.5)
    assert weight.grad is not None
    assert weight.grad.norm() == pytest.approx(MAX_GRADIENT_NORM, rel=1e-4)
    assert torch.allclose(weight.detach(), torch.tensor([3.0 - 0.5 * 0.6, -4.0 + 0.5 * 0.8]), atol=1e-4)
    loss = (weight * torch.tensor([0.1, 0.2])).sum()
    update_parameters(optimizer, loss, model, learning_rate=0.5)  # the old gradient is cleared
    assert torch.allclose(weight.grad, torch.tensor([0.1, 0.2]))


def build_network() -> nn.Sequential:
    return randomize_weights(nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.SiLU(), nn.Conv2d(4, 2, 1)))


def train_on_rank(ranks: Ranks) -> list[Tensor]:
    """Return the weights after three steps on this rank's part of a batch of four."""
    model = build_network()
    optimizer, wrapped = build_adamw(model.parameters(), ranks.device), wrap_network(model, ranks)
    field = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(5)) > torch.arange(4).view(-1, 1, 1, 1) / 5
    local = ranks.get_local_slice(4)
    for step in range(3):
        cubes = draw_normal(4, 2, 8, 8, seed=step)
        loss = compute_field_mean((wrapped(cubes[local]) - cubes[local].flip(-1)).abs(), field[local])
        update_parameters(optimizer, loss, model, learning_rate=0.01)
    return [weight.detach() for weight in model.parameters()]


def test_two_ranks_train_like_one() -> None:
    alone, initial = train_on_rank(Ranks()), [weight.detach() for weight in build_network().parameters()]
    for rank in run_on_two_ranks(train_on_rank):
        for one, other, before in zip(alone, rank, initial, strict=True):
            assert torch.allclose(one, other, rtol=0, atol=1e-6)
            assert not torch.allclose(one, before, rtol=0, atol=1e-3)


def test_a_single_rank_is_not_wrapped() -> None:
    model = nn.Linear(2, 2)
    assert wrap_network(model, Ranks()) is model
