"""The perceptual encoder: views as a function of cube and step, positions in the field, and training."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from hseval_ldm.models.perceptual import (
    POSITIONS_PER_CUBE,
    TEMPERATURE,
    PerceptualEncoder,
    augment_view,
    draw_positions,
)
from tests.helpers.random_weights import draw_normal, randomize_weights


def make_field(count: int = 3, side: int = 16) -> torch.Tensor:
    field = torch.ones(count, 1, side, side, dtype=torch.bool)
    field[1, :, :5] = False
    field[2] = False
    field[2, :, 3:9, 4:12] = True
    return field


def test_levels_halve_and_features_are_float32() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        levels = randomize_weights(PerceptualEncoder(3, 4))(draw_normal(2, 3, 16, 24))
    assert [tuple(level.shape) for level in levels] == [(2, 4, 16, 24), (2, 8, 8, 12), (2, 16, 4, 6)]
    assert {level.dtype for level in levels} == {torch.float32} and min(level.std() for level in levels) > 0.1


def test_views_depend_only_on_the_index_in_the_global_batch() -> None:
    cubes, field = draw_normal(3, 2, 16, 16), make_field()
    arguments = {"seed": 1, "view": 0, "step": 5}
    whole = augment_view(cubes, field, first_index=0, **arguments)
    parts = [
        augment_view(cubes[:2], field[:2], first_index=0, **arguments),
        augment_view(cubes[2:], field[2:], first_index=2, **arguments),
    ]
    assert torch.equal(whole, torch.cat(parts))
    assert not whole.masked_select(~field).any()
    for other in ({"seed": 2}, {"view": 1}, {"step": 6}):
        assert not torch.allclose(augment_view(cubes, field, first_index=0, **(arguments | other)), whole, atol=0.01)


def test_a_view_adds_gain_offset_and_noise_per_band() -> None:
    cubes, field = torch.zeros(1, 4, 64, 64), torch.ones(1, 1, 64, 64)
    arguments = {"seed": 0, "view": 0, "step": 0, "first_index": 0}
    dark, bright = (augment_view(cubes + level, field, **arguments) for level in (0.0, 10.0))
    gains = (bright - dark) / 10
    assert torch.allclose(gains, gains.mean(dim=(2, 3), keepdim=True).expand_as(gains), atol=1e-5)
    assert gains.mean(dim=(2, 3)).std() > 0.005 and 0.5 < float(gains.mean()) < 2
    noise = dark - dark.mean(dim=(2, 3), keepdim=True)
    stds = noise.std(dim=(2, 3))
    assert 0.01 < stds.mean() < 0.2 and dark.mean(dim=(2, 3)).std() > 0.01
    assert torch.allclose(stds, stds.mean(), rtol=0.05)
    correlation = (noise[..., 1:] * noise[..., :-1]).mean() / noise.var()
    assert abs(float(correlation)) < 0.05


def test_positions_lie_in_the_field_and_depend_on_the_index_of_the_cube() -> None:
    field = make_field()
    whole = draw_positions(field, seed=0, step=3, first_index=0)
    for level, positions in enumerate(whole):
        side = 16 >> level
        inside = (functional.avg_pool2d(field.float(), 2**level) == 1).flatten()
        assert inside[positions].all() and len(positions.unique()) == len(positions)
        expected = inside.view(3, -1).sum(dim=1).clamp_max(POSITIONS_PER_CUBE)
        assert torch.equal((positions // side**2).bincount(minlength=3), expected)
    second = draw_positions(field[1:], seed=0, step=3, first_index=1)
    for level, (all_positions, part) in enumerate(zip(whole, second, strict=True)):
        cells = 256 >> 2 * level
        assert torch.equal(all_positions[all_positions >= cells] - cells, part)
    assert not torch.equal(draw_positions(field, seed=0, step=4, first_index=0)[0], whole[0])


@torch.no_grad()
def test_the_contrastive_loss_is_info_nce_per_cube() -> None:
    network, views = (
        randomize_weights(PerceptualEncoder(3, 4)),
        (draw_normal(2, 3, 8, 8), draw_normal(2, 3, 8, 8, seed=1)),
    )
    positions = [torch.tensor([3, 60, 9, 64 + 5, 64 + 40]), torch.tensor([0, 15, 16 + 7]), torch.tensor([1, 2, 4 + 3])]
    terms = []
    for head, one, other, indices in zip(network.heads, network(views[0]), network(views[1]), positions, strict=True):
        cells = one[0, 0].numel()
        for cube in range(2):
            local = indices[indices // cells == cube] - cube * cells
            a, b = (functional.normalize(head(f)[cube].flatten(1).T[local], dim=1) for f in (one, other))
            probabilities = [(a @ b.T / TEMPERATURE).softmax(dim=axis).diagonal() for axis in (0, 1)]
            terms.append(-torch.stack(probabilities).log().mean())
    assert float(network.contrastive_loss(*views, positions)) == pytest.approx(
        float(torch.stack(terms).mean()), rel=1e-4
    )


@torch.no_grad()
def test_the_loss_of_indistinguishable_positions_is_the_logarithm_of_their_number() -> None:
    network, flat = randomize_weights(PerceptualEncoder(3, 4)), torch.zeros(2, 3, 16, 16)
    positions = [torch.tensor([7 * 16 + 7, 8 * 16 + 8, 7 * 16 + 9, 256 + 8 * 16 + 7])]
    positions += [torch.tensor([3 * 8 + 3, 4 * 8 + 4]), torch.tensor([5])]
    loss = float(network.contrastive_loss(flat, flat, positions))
    # Three positions, two and one; the second cube has one at the first level and none below.
    assert loss == pytest.approx((math.log(3) + math.log(2) + 0) / (3 * 2), rel=1e-2)


def test_training_makes_positions_distinguishable() -> None:
    network = randomize_weights(PerceptualEncoder(3, 4))
    cubes, field = draw_normal(2, 3, 16, 16), torch.ones(2, 1, 16, 16, dtype=torch.bool)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for step in range(25):
        views = [augment_view(cubes, field, seed=0, view=view, step=step, first_index=0) for view in (0, 1)]
        loss = network.contrastive_loss(*views, draw_positions(field, seed=0, step=step, first_index=0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(weight.grad is not None and weight.grad.any() for weight in network.parameters())
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
