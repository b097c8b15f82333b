"""The moving average against its definition, and restoring the weights of a network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hseval.training.ema import Ema
from hseval.utils.errors import HsevalError


def make_network(seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False))
    for weight in network.parameters():
        weight.data = torch.randn(weight.shape, generator=generator)
    return network


def test_it_follows_its_definition() -> None:
    module = make_network()
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


def test_half_precision_weights_are_averaged_in_float32() -> None:
    module = make_network().bfloat16()
    ema = Ema(module, decay=0.9999)
    start = ema.get_state()["0.weight"].clone()
    for weight in module.parameters():
        weight.data += 0.0625
    change = module[0].weight.detach().float() - start
    for step in range(10**6, 10**6 + 10):  # each changes by 6e-6: below the resolution of bfloat16
        ema.update(module, step)
    assert ema.get_state()["0.weight"].dtype == torch.float32
    assert torch.allclose(ema.get_state()["0.weight"] - start, change * (1 - 0.9999**10), rtol=0.02, atol=1e-6)


def test_a_resumed_average_is_bit_identical() -> None:
    module = make_network()
    whole = Ema(module, decay=0.9)
    for step in range(4):
        for weight in module.parameters():
            weight.data += 0.1 * step
        if step == 2:
            resumed = Ema(make_network(7), decay=0.9)
            resumed.load_state({name: tensor.clone() for name, tensor in whole.get_state().items()})
        whole.update(module, step)
        if step >= 2:
            resumed.update(module, step)
    for name, tensor in whole.get_state().items():
        assert torch.equal(tensor, resumed.get_state()[name])


def test_the_weights_are_restored_even_after_an_error() -> None:
    module = make_network()
    ema = Ema(module)
    module[0].weight.data += 1
    own = {name: weight.detach().clone() for name, weight in module.named_parameters()}
    with pytest.raises(ZeroDivisionError), ema.apply_averages(module) as averaged:
        assert torch.equal(averaged[0].weight, ema.get_state()["0.weight"])
        _ = 1 / 0
    for name, weight in module.named_parameters():
        assert torch.equal(weight, own[name])


def test_averages_of_another_network_are_refused_without_a_change() -> None:
    ema = Ema(make_network())
    original = {name: tensor.clone() for name, tensor in ema.get_state().items()}
    for wrong in (Ema(nn.Sequential(nn.Linear(3, 5))).get_state(), {"0.weight": original["0.weight"]}, {}):
        with pytest.raises(HsevalError, match="belongs to another network"):
            ema.load_state(wrong)
    assert all(torch.equal(tensor, original[name]) for name, tensor in ema.get_state().items())
    with pytest.raises(ValueError, match="weights of the module differ"):
        ema.update(nn.Linear(3, 4), 0)
    with pytest.raises(HsevalError, match="decay is 1"):
        Ema(make_network(), decay=1.0)
