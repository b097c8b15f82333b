"""The patch discriminator: its receptive field, and independence of pixels outside the field of view."""

from __future__ import annotations

import torch

from hseval_ldm.models.discriminator import Discriminator, compute_patch_weight
from tests.helpers.random_weights import draw_normal, randomize_weights


def make_discriminator(bands: int = 3) -> Discriminator:
    return randomize_weights(Discriminator(bands, 8))


def test_a_logit_has_a_receptive_field_of_18_x_18_pixels() -> None:
    cubes = draw_normal(1, 3, 48, 48).double().requires_grad_()
    # The network computes in float32; the gradient still shows which pixels were used.
    logits = make_discriminator()(cubes, torch.ones(1, 1, 48, 48))
    assert logits.shape == (1, 1, 12, 12)
    logits[0, 0, 5, 6].backward()
    rows, columns = torch.nonzero((cubes.grad != 0).any(dim=1)[0], as_tuple=True)
    assert (int(rows.min()), int(rows.max())) == (5 * 4 - 7, 5 * 4 + 10)
    assert (int(columns.min()), int(columns.max())) == (6 * 4 - 7, 6 * 4 + 10)


def test_logits_do_not_depend_on_pixels_outside_the_field() -> None:
    network, cubes = make_discriminator(), draw_normal(2, 3, 24, 24)
    field = torch.zeros(2, 1, 24, 24, dtype=torch.bool)
    field[..., 5:17, 3:22] = True
    other = torch.where(field, cubes, 100 * draw_normal(2, 3, 24, 24, seed=1))
    assert torch.equal(network(cubes, field), network(other, field))
    assert not torch.equal(network(cubes, field), network(torch.where(field, cubes + 0.1, cubes), field))


def test_each_cube_is_classified_independently() -> None:
    network, cubes = make_discriminator(), draw_normal(3, 3, 16, 16)
    field = torch.ones(3, 1, 16, 16)
    separate = torch.cat([network(cubes[i : i + 1], field[i : i + 1]) for i in range(3)])
    assert torch.allclose(network(cubes, field), separate, atol=1e-5)


def test_it_runs_in_float32_under_autocast() -> None:
    network, cubes, field = make_discriminator(), draw_normal(1, 3, 16, 16), torch.ones(1, 1, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(cubes, field)
    assert logits.dtype == torch.float32 and torch.equal(logits, network(cubes, field))


def test_the_weight_of_a_patch_is_its_share_inside_the_field() -> None:
    field = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    field[..., :4, :4] = True
    field[..., 4:, :2] = True
    field[..., 7, 7] = True
    assert torch.equal(compute_patch_weight(field), torch.tensor([[[[1, 0], [0.5, 1 / 16]]]]))
