"""Loss terms: closed forms, independence of pixels outside the field, and batches as means of their parts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hseval.utils.distributed import Ranks
from hseval_ldm.models import losses
from hseval_ldm.models.discriminator import Discriminator, compute_patch_weight
from hseval_ldm.models.perceptual import PerceptualEncoder, draw_positions
from tests.helpers.random_weights import draw_normal, randomize_weights
from tests.helpers.two_ranks import run_on_two_ranks

LossInputs = dict[str, Tensor]


def make_batch(count: int = 4, *, side: int = 16) -> LossInputs:
    """Return cubes with fields of different sizes, weights of mean 1 in them, and a mask that some cubes lack."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    radius = torch.linspace(0.3, 0.6, count).view(-1, 1, 1, 1) * side
    field = ((y - side / 2) ** 2 + (x - side / 2) ** 2)[None, None] < radius**2
    weight = draw_normal(count, 1, side, side, seed=3).exp() * field
    weight /= weight.sum(dim=(2, 3), keepdim=True) / field.sum(dim=(2, 3), keepdim=True)
    known = torch.ones(count, 2, dtype=torch.bool)
    known[1::2, 1] = False
    return {
        "cubes": draw_normal(count, 3, side, side, seed=1),
        "target": draw_normal(count, 3, side, side, seed=2),
        "logits": draw_normal(count, 2, side, side, seed=4),
        "masks": ((draw_normal(count, 2, side, side, seed=5) > 0.5) & field).float() * known[:, :, None, None],
        "known": known,
        "weight": weight,
        "field": field,
    }


def make_encoder() -> PerceptualEncoder:
    return randomize_weights(PerceptualEncoder(3, 4)).requires_grad_(False)


def make_discriminator() -> Discriminator:
    return randomize_weights(Discriminator(3, 4)).requires_grad_(False)


def compute_logits(b: LossInputs, name: str) -> Tensor:
    return make_discriminator()(b[name], b["field"])


def compute_perceptual(b: LossInputs) -> Tensor:
    network, field = make_encoder(), b["field"]
    return losses.perceptual_loss(network(b["cubes"] * field), network(b["target"] * field), field)


def compute_contrast(b: LossInputs) -> Tensor:
    field = b["field"]
    # The first cube has the smallest field, so each half starts with a different count.
    positions = [draw_positions(cube[None], seed=0, step=0, first_index=0) for cube in field]
    cells = [field[0].numel() >> 2 * level for level in range(3)]
    joined = [
        torch.cat([levels[level] + cube * cells[level] for cube, levels in enumerate(positions)]) for level in range(3)
    ]
    return make_encoder().contrastive_loss(b["cubes"] * field, b["target"] * field, joined)


TERMS: dict[str, Callable[[LossInputs], Tensor]] = {
    "l1": lambda b: losses.pixel_losses(b["cubes"], b["target"], b["weight"], b["field"])[0],
    "fine": lambda b: losses.pixel_losses(b["cubes"], b["target"], b["weight"], b["field"])[1],
    "angle": lambda b: losses.compute_field_mean(losses.spectral_angle(b["cubes"], b["target"]), b["field"]),
    "masks": lambda b: losses.mask_loss(b["logits"], b["masks"], b["known"], b["weight"]),
    "perceptual": compute_perceptual,
    "contrast": compute_contrast,
    "adversarial": lambda b: losses.hinge_generator_loss(compute_logits(b, "cubes"), compute_patch_weight(b["field"])),
    "discriminator": lambda b: losses.hinge_discriminator_loss(
        compute_logits(b, "target"), compute_logits(b, "cubes"), compute_patch_weight(b["field"])
    ),
}


@pytest.mark.parametrize("name", TERMS)
def test_the_loss_of_a_batch_is_the_mean_over_its_parts(name: str) -> None:
    whole, term = make_batch(), TERMS[name]
    parts = [float(term({key: value[part] for key, value in whole.items()})) for part in (slice(0, 2), slice(2, 4))]
    assert float(term(whole)) == pytest.approx(sum(parts) / 2, rel=1e-5)
    assert parts[0] != pytest.approx(parts[1], rel=1e-3)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("changed", ["cubes", "target", "logits", "masks"])
def test_pixels_outside_the_field_are_ignored(name: str, changed: str) -> None:
    before, term = make_batch(), TERMS[name]
    other = 7 * draw_normal(*before[changed].shape, seed=9)
    outside = before | {changed: torch.where(before["field"], before[changed], other)}
    assert not torch.equal(outside[changed], before[changed])
    assert float(term(outside)) == pytest.approx(float(term(before)), abs=1e-7)
    inputs = ("logits", "masks") if name == "masks" else ("target", "cubes")
    if changed in inputs and (name, changed) != ("adversarial", "target"):
        inside = before | {changed: torch.where(before["field"], other, before[changed])}
        assert float(term(inside)) != pytest.approx(float(term(before)), rel=1e-3)


@pytest.mark.parametrize("name", TERMS)
def test_a_cube_without_a_field_has_zero_loss(name: str) -> None:
    whole, term = make_batch(2), TERMS[name]
    whole["field"][1] = False
    whole["weight"] = whole["weight"] * whole["field"]
    whole["masks"] = whole["masks"] * whole["field"]
    alone = {key: value[:1] for key, value in whole.items()}
    assert float(term(whole)) == pytest.approx(float(term(alone)) / 2, rel=1e-5)


def test_the_field_mean_is_the_mean_of_weighted_means() -> None:
    b = make_batch()
    means = [np.average(b["cubes"][i].numpy(), weights=b["weight"][i].numpy().repeat(3, 0)) for i in range(4)]
    assert float(losses.compute_field_mean(b["cubes"], b["weight"])) == pytest.approx(np.mean(means), abs=1e-6)


@pytest.mark.parametrize("size", [3, 5])
def test_the_local_mean_is_over_the_pixels_of_a_window_in_the_field(size: int) -> None:
    b = make_batch(2, side=10)
    local_mean, images, field = (
        losses.compute_local_mean(b["cubes"], b["field"], size),
        b["cubes"].numpy(),
        b["field"].numpy(),
    )
    for n, c, y, x in np.ndindex(*images.shape):
        ys, xs = (slice(max(center - size // 2, 0), center + size // 2 + 1) for center in (y, x))
        inside = field[n, 0, ys, xs]
        expected = images[n, c, ys, xs][inside].mean() if field[n, 0, y, x] else 0
        assert float(local_mean[n, c, y, x]) == pytest.approx(expected, abs=1e-6)


def test_the_fine_term_detects_lines_and_ignores_offsets() -> None:
    b = make_batch()
    offset = losses.pixel_losses(b["target"] + 2, b["target"], b["weight"], b["field"])
    assert [float(term) for term in offset] == pytest.approx([2, 0], abs=1e-5)
    missed = b["target"].clone()
    missed[..., 8] += 1
    l1, fine = losses.pixel_losses(missed, b["target"], b["field"].float(), b["field"])
    assert float(fine) > 1.4 * float(l1)  # 4/5 on the line itself, 1/5 on two pixels on either side


# Spectral angle.


def compute_angle(one: Any, other: Any) -> Tensor:
    return losses.spectral_angle(*(torch.as_tensor(v, dtype=torch.float32).view(1, -1, 1, 1) for v in (one, other)))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([1, 0, 0], [0, 2, 0], math.pi / 2),
        ([1, 1, 0], [3, 0, 0], math.pi / 4),
        ([1, 2, 3], [5, 10, 15], 0),
        ([1, 2, 3], [1, 2, 3], 0),
        ([1, 2, 3], [-1, -2, -3], math.pi),
        ([1e-7, 0], [1e-7, 1e-7], math.pi / 4),
        ([3e4, 0], [3e4, 3e4], math.pi / 4),
        ([0, 0], [1, 2], 0),
        ([1, 2], [0, 0], 0),
        ([0, 0], [0, 0], 0),
    ],
)
def test_angles_have_the_closed_form(one: list[float], other: list[float], expected: float) -> None:
    assert float(compute_angle(one, other)) == pytest.approx(expected, abs=1e-4)


def test_angles_agree_with_the_arc_cosine_in_float64() -> None:
    one, other = (draw_normal(2, 16, 8, 8, seed=seed).abs() + 0.1 for seed in (1, 2))
    wide = [c.double() / c.double().norm(dim=1, keepdim=True) for c in (one, other)]
    expected = torch.arccos((wide[0] * wide[1]).sum(dim=1, keepdim=True))
    assert torch.allclose(losses.spectral_angle(one, other).double(), expected, atol=1e-5)
    close = one * (1 + 1e-3 * draw_normal(*one.shape, seed=3))  # where the float32 arc cosine loses precision
    wide[1] = close.double() / close.double().norm(dim=1, keepdim=True)
    expected = 2 * torch.asin((wide[0] - wide[1]).norm(dim=1, keepdim=True) / 2)
    assert torch.allclose(losses.spectral_angle(one, close).double(), expected, atol=2e-6)


@pytest.mark.parametrize("target", ["same", "zero", "other"])
@pytest.mark.parametrize("scale", [0.0, 1e-9, 1.0, 1e4])
def test_the_gradient_of_angles_is_finite(target: str, scale: float) -> None:
    cubes = (scale * draw_normal(1, 4, 3, 3)).requires_grad_()
    others = {"same": cubes.detach().clone(), "zero": torch.zeros(1, 4, 3, 3), "other": draw_normal(1, 4, 3, 3, seed=2)}
    losses.spectral_angle(cubes, others[target]).sum().backward()
    assert cubes.grad is not None and torch.isfinite(cubes.grad).all()
    if target == "zero" or scale == 0 or (target, scale) == ("other", 1e-9):  # no direction, so no gradient
        assert not cubes.grad.any()


# Masks.


def test_the_mask_loss_has_the_closed_form() -> None:
    masks = torch.zeros(1, 1, 2, 2)
    masks[..., 0, 0] = 1
    weight, known = torch.ones(1, 1, 2, 2), torch.ones(1, 1, dtype=torch.bool)
    undecided = losses.mask_loss(torch.zeros(1, 1, 2, 2), masks, known, weight)
    # Probabilities of one half: log 2, and a Dice of (2 * 0.5 + 1) / (4 * 0.5 + 1 + 1).
    assert float(undecided) == pytest.approx(math.log(2) + 1 - 2 / 4)
    right = losses.mask_loss(60 * masks - 30, masks, known, weight)
    assert float(right) == pytest.approx(0, abs=1e-6)
    wrong = losses.mask_loss(30 - 60 * masks, masks, known, weight)
    assert float(wrong) == pytest.approx(30 + 1 - 1 / 5)
    weighted = losses.mask_loss(30 - 60 * masks[:, :, :1], masks[:, :, :1], known, torch.tensor([[[[2.0, 0]]]]))
    assert float(weighted) == pytest.approx(30 + 1 - 1 / 2)


def test_missing_masks_are_ignored() -> None:
    b = make_batch()
    arguments = {"logits": b["logits"], "masks": b["masks"], "has_mask": b["known"], "weight": b["weight"]}
    before = losses.mask_loss(**arguments)
    unknown = ~b["known"][:, :, None, None]
    for name in ("logits", "masks"):
        changed = torch.where(unknown, 1 + 9 * draw_normal(4, 2, 16, 16, seed=6).abs(), arguments[name])
        assert torch.equal(losses.mask_loss(**(arguments | {name: changed})), before)
    none = losses.mask_loss(**(arguments | {"has_mask": torch.zeros_like(b["known"])}))
    assert float(none) == 0
    without = losses.mask_loss(b["logits"][:, :0], b["masks"][:, :0], b["known"][:, :0], b["weight"])
    assert without.shape == () and float(without) == 0


# Adversarial and perceptual terms.


def test_hinge_losses_have_the_closed_form() -> None:
    weight = torch.tensor([[[[1.0, 1, 0]]]])
    real, generated = torch.tensor([[[[2.0, 0, -9]]]]), torch.tensor([[[[-3.0, 1, 9]]]])
    # relu(1 - real): 0 and 1; relu(1 + generated): 0 and 2.
    assert float(losses.hinge_discriminator_loss(real, generated, weight)) == pytest.approx(0.5 * (0.5 + 1))
    assert float(losses.hinge_generator_loss(generated, weight)) == pytest.approx(1)


def test_the_perceptual_loss_of_equal_features_is_zero_at_any_scale() -> None:
    features, field = [draw_normal(2, 3, 8, 8), draw_normal(2, 5, 4, 4)], torch.ones(2, 1, 8, 8, dtype=torch.bool)
    assert float(losses.perceptual_loss(features, features, field)) == 0
    assert float(losses.perceptual_loss(features, [9 * f for f in features], field)) == pytest.approx(0, abs=1e-5)
    opposite = losses.perceptual_loss(features, [-f for f in features], field)
    assert float(opposite) == pytest.approx(4, rel=1e-3)  # unit vectors two apart, squared


def test_a_cell_is_valid_if_it_lies_entirely_inside_the_field() -> None:
    field = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    field[..., 0, 0] = field[..., 5, 6] = False
    inside = losses.find_inside_patches(field, (4, 4))
    expected = torch.ones(1, 1, 4, 4)
    expected[..., 0, 0] = expected[..., 2, 3] = 0
    assert torch.equal(inside, expected)
    assert torch.equal(losses.find_inside_patches(field, (8, 8)), field.float())


# The adaptive weight.


def compute_adaptive_weight(ranks: Ranks, part: slice | None = None) -> float:
    """Return the weight of this rank's part of a batch of four, whose gradients differ from cube to cube."""
    decoder = randomize_weights(nn.Conv2d(3, 3, 3, padding=1))
    local, b = part or ranks.get_local_slice(4), make_batch()
    decoded, field = decoder(b["cubes"][local]), b["field"][local]
    reconstruction = losses.compute_field_mean((decoded - b["target"][local]).abs(), field)
    adversarial = losses.hinge_generator_loss(make_discriminator()(decoded, field), compute_patch_weight(field))
    weight = losses.compute_adaptive_weight(reconstruction, adversarial, decoder.weight, ranks)
    assert not weight.requires_grad
    (reconstruction + weight * adversarial).backward()  # the graph is retained
    return float(weight)


def test_the_adaptive_weight_on_two_ranks_is_that_of_one() -> None:
    alone = compute_adaptive_weight(Ranks())
    assert run_on_two_ranks(compute_adaptive_weight) == pytest.approx([alone, alone], rel=1e-5)
    separate = [compute_adaptive_weight(Ranks(), part) for part in (slice(0, 2), slice(2, 4))]
    assert sum(separate) / 2 != pytest.approx(alone, rel=1e-2)  # the result without communication


@pytest.mark.parametrize(("slope", "expected"), [(2.0, 1.5), (1e-9, 3 / (1e-9 + 1e-6)), (0.0, 1e4), (-2.0, 1.5)])
def test_the_adaptive_weight_is_a_bounded_ratio_of_norms(slope: float, expected: float) -> None:
    last = torch.ones(1, requires_grad=True)
    weight = losses.compute_adaptive_weight((3 * last).sum(), (slope * last).sum(), last, Ranks())
    assert float(weight) == pytest.approx(min(expected, losses.MAX_ADAPTIVE_WEIGHT), rel=1e-5)


def test_minimizing_the_terms_moves_cubes_to_the_real_ones() -> None:
    b = make_batch(1)
    cubes = b["cubes"].clone().requires_grad_()
    optimizer = torch.optim.Adam([cubes], lr=0.1)
    for _ in range(40):
        optimizer.zero_grad()
        torch.stack([TERMS[name](b | {"cubes": cubes}) for name in ("l1", "fine", "angle")]).sum().backward()
        optimizer.step()
    before, after = (functional.l1_loss(c * b["field"], b["target"] * b["field"]) for c in (b["cubes"], cubes.detach()))
    assert float(after) < 0.2 * float(before)
    assert torch.equal(torch.where(b["field"], 0.0, cubes), torch.where(b["field"], 0.0, b["cubes"]))
