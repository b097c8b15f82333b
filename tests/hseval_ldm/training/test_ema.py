"""The moving average against its definition, and that a network gets its own weights back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hseval.utils.errors import HsevalError
from hseval_ldm.training.ema import Ema


def network(seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    made = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False))
    for weight in made.parameters():
        weight.data = torch.randn(weight.shape, generator=generator)
    return made


def test_follows_its_definition() -> None:
    module = network()
    ema, expected = Ema(module, decay=0.8), module[0].weight.detach().double().numpy()
    rng = np.random.default_rng(0)
    for step in range(60):
        new = rng.normal(size=(4, 3))
        module[0].weight.data = torch.from_numpy(new).float()
        ema.update(module, step)
        decay = min(0.8, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * new
    np.testing.assert_allclose(ema.get_state()["0.weight"].numpy(), expected, rtol=1e-5, atol=1e-6)
    assert torch.allclose(ema.get_state()["1.weight"], module[1].weight)


def test_averages_half_precision_weights_in_float32() -> None:
    module = network().bfloat16()
    ema = Ema(module, decay=0.9999)
    start = ema.get_state()["0.weight"].clone()
    for weight in module.parameters():
        weight.data += 0.0625
    moved = module[0].weight.detach().float() - start
    for step in range(10**6, 10**6 + 10):  # each moves by 6e-6: nothing in bfloat16
        ema.update(module, step)
    assert ema.get_state()["0.weight"].dtype == torch.float32
    assert torch.allclose(ema.get_state()["0.weight"] - start, moved * (1 - 0.9999**10), rtol=0.02, atol=1e-6)


def test_a_resumed_average_is_the_same_to_the_last_bit() -> None:
    module = network()
    whole = Ema(module, decay=0.9)
    for step in range(4):
        for weight in module.parameters():
            weight.data += 0.1 * step
        if step == 2:
            resumed = Ema(network(7), decay=0.9)
            resumed.load_state({name: tensor.clone() for name, tensor in whole.get_state().items()})
        whole.update(module, step)
        if step >= 2:
            resumed.update(module, step)
    for name, tensor in whole.get_state().items():
        assert torch.equal(tensor, resumed.get_state()[name])


def test_applied_gives_the_average_and_restores_even_after_an_error() -> None:
    module = network()
    ema = Ema(module)
    module[0].weight.data += 1
    own = {name: weight.detach().clone() for name, weight in module.named_parameters()}
    with pytest.raises(ZeroDivisionError), ema.apply_averages(module) as averaged:
        assert torch.equal(averaged[0].weight, ema.get_state()["0.weight"])
        _ = 1 / 0
    for name, weight in module.named_parameters():
        assert torch.equal(weight, own[name])


def test_refuses_another_networks_average_and_stays_as_it_is() -> None:
    ema = Ema(network())
    kept = {name: tensor.clone() for name, tensor in ema.get_state().items()}
    for wrong in (Ema(nn.Sequential(nn.Linear(3, 5))).get_state(), {"0.weight": kept["0.weight"]}, {}):
        with pytest.raises(HsevalError, match="belongs to another network"):
            ema.load_state(wrong)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in ema.get_state().items())
    with pytest.raises(ValueError, match="other parameters"):
        ema.update(nn.Linear(3, 4), 0)
    with pytest.raises(HsevalError, match="decay is 1"):
        Ema(network(), decay=1.0)
