"""The perceptual encoder: views as a function of cube and step, places in the field, and a contrast that learns."""

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
from tests.helpers.random_weights import normal, randomised


def field_of(count: int = 3, side: int = 16) -> torch.Tensor:
    field = torch.ones(count, 1, side, side, dtype=torch.bool)
    field[1, :, :5] = False
    field[2] = False
    field[2, :, 3:9, 4:12] = True
    return field


def test_levels_halve_and_a_feature_is_float32() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        levels = randomised(PerceptualEncoder(3, 4))(normal(2, 3, 16, 24))
    assert [tuple(level.shape) for level in levels] == [(2, 4, 16, 24), (2, 8, 8, 12), (2, 16, 4, 6)]
    assert {level.dtype for level in levels} == {torch.float32} and min(level.std() for level in levels) > 0.1


def test_views_depend_on_the_cube_s_number_in_the_global_batch_alone() -> None:
    cubes, field = normal(3, 2, 16, 16), field_of()
    given = {"seed": 1, "view": 0, "step": 5}
    whole = augment_view(cubes, field, first_index=0, **given)
    parts = [
        augment_view(cubes[:2], field[:2], first_index=0, **given),
        augment_view(cubes[2:], field[2:], first_index=2, **given),
    ]
    assert torch.equal(whole, torch.cat(parts))
    assert not whole.masked_select(~field).any()
    for other in ({"seed": 2}, {"view": 1}, {"step": 6}):
        assert not torch.allclose(augment_view(cubes, field, first_index=0, **(given | other)), whole, atol=0.01)


def test_a_view_is_gain_offset_and_noise_of_each_band() -> None:
    cubes, field = torch.zeros(1, 4, 64, 64), torch.ones(1, 1, 64, 64)
    given = {"seed": 0, "view": 0, "step": 0, "first_index": 0}
    dark, bright = (augment_view(cubes + level, field, **given) for level in (0.0, 10.0))
    gains = (bright - dark) / 10
    assert torch.allclose(gains, gains.mean(dim=(2, 3), keepdim=True).expand_as(gains), atol=1e-5)
    assert gains.mean(dim=(2, 3)).std() > 0.005 and 0.5 < float(gains.mean()) < 2
    noise = dark - dark.mean(dim=(2, 3), keepdim=True)
    deviations = noise.std(dim=(2, 3))
    assert 0.01 < deviations.mean() < 0.2 and dark.mean(dim=(2, 3)).std() > 0.01
    assert torch.allclose(deviations, deviations.mean(), rtol=0.05)
    neighbours = (noise[..., 1:] * noise[..., :-1]).mean() / noise.var()
    assert abs(float(neighbours)) < 0.05


def test_places_lie_in_the_field_and_depend_on_the_cube_s_number() -> None:
    field = field_of()
    whole = draw_positions(field, seed=0, step=3, first_index=0)
    for level, found in enumerate(whole):
        side = 16 >> level
        inside = (functional.avg_pool2d(field.float(), 2**level) == 1).flatten()
        assert inside[found].all() and len(found.unique()) == len(found)
        expected = inside.view(3, -1).sum(dim=1).clamp_max(POSITIONS_PER_CUBE)
        assert torch.equal((found // side**2).bincount(minlength=3), expected)
    second = draw_positions(field[1:], seed=0, step=3, first_index=1)
    for level, (all_of, part) in enumerate(zip(whole, second, strict=True)):
        cells = 256 >> 2 * level
        assert torch.equal(all_of[all_of >= cells] - cells, part)
    assert not torch.equal(draw_positions(field, seed=0, step=4, first_index=0)[0], whole[0])


@torch.no_grad()
def test_contrast_is_info_nce_of_each_cube() -> None:
    network, views = randomised(PerceptualEncoder(3, 4)), (normal(2, 3, 8, 8), normal(2, 3, 8, 8, seed=1))
    places = [torch.tensor([3, 60, 9, 64 + 5, 64 + 40]), torch.tensor([0, 15, 16 + 7]), torch.tensor([1, 2, 4 + 3])]
    terms = []
    for head, one, other, at in zip(network.heads, network(views[0]), network(views[1]), places, strict=True):
        cells = one[0, 0].numel()
        for cube in range(2):
            mine = at[at // cells == cube] - cube * cells
            a, b = (functional.normalize(head(f)[cube].flatten(1).T[mine], dim=1) for f in (one, other))
            chances = [(a @ b.T / TEMPERATURE).softmax(dim=axis).diagonal() for axis in (0, 1)]
            terms.append(-torch.stack(chances).log().mean())
    assert float(network.contrastive_loss(*views, places)) == pytest.approx(float(torch.stack(terms).mean()), rel=1e-4)


@torch.no_grad()
def test_places_that_can_not_be_told_apart_cost_the_logarithm_of_their_number() -> None:
    network, flat = randomised(PerceptualEncoder(3, 4)), torch.zeros(2, 3, 16, 16)
    inner = [torch.tensor([7 * 16 + 7, 8 * 16 + 8, 7 * 16 + 9, 256 + 8 * 16 + 7])]
    inner += [torch.tensor([3 * 8 + 3, 4 * 8 + 4]), torch.tensor([5])]
    cost = float(network.contrastive_loss(flat, flat, inner))
    # Three places, two and a lone one; the second cube has a lone one at the first level and none below.
    assert cost == pytest.approx((math.log(3) + math.log(2) + 0) / (3 * 2), rel=1e-2)


def test_learns_to_tell_places_apart() -> None:
    network = randomised(PerceptualEncoder(3, 4))
    cubes, field = normal(2, 3, 16, 16), torch.ones(2, 1, 16, 16, dtype=torch.bool)
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
