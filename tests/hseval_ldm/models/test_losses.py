"""Loss terms: closed forms, nothing outside the field, and batches that are the mean of their parts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hseval_ldm.models import losses
from hseval_ldm.models.discriminator import Discriminator, compute_patch_weight
from hseval_ldm.models.perceptual import PerceptualEncoder, draw_positions
from hseval_ldm.utils.distributed import Ranks
from tests.helpers.random_weights import normal, randomised
from tests.helpers.two_ranks import two_ranks

Parts = dict[str, Tensor]


def batch(count: int = 4, *, side: int = 16) -> Parts:
    """Cubes with fields of different sizes, weights of mean 1 in them, and a mask that is not known everywhere."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    radius = torch.linspace(0.3, 0.6, count).view(-1, 1, 1, 1) * side
    field = ((y - side / 2) ** 2 + (x - side / 2) ** 2)[None, None] < radius**2
    weight = normal(count, 1, side, side, seed=3).exp() * field
    weight /= weight.sum(dim=(2, 3), keepdim=True) / field.sum(dim=(2, 3), keepdim=True)
    known = torch.ones(count, 2, dtype=torch.bool)
    known[1::2, 1] = False
    return {
        "cubes": normal(count, 3, side, side, seed=1),
        "target": normal(count, 3, side, side, seed=2),
        "logits": normal(count, 2, side, side, seed=4),
        "masks": ((normal(count, 2, side, side, seed=5) > 0.5) & field).float() * known[:, :, None, None],
        "known": known,
        "weight": weight,
        "field": field,
    }


def features() -> PerceptualEncoder:
    return randomised(PerceptualEncoder(3, 4)).requires_grad_(False)


def discriminator() -> Discriminator:
    return randomised(Discriminator(3, 4)).requires_grad_(False)


def logits_of(b: Parts, name: str) -> Tensor:
    return discriminator()(b[name], b["field"])


def perceptual(b: Parts) -> Tensor:
    network, field = features(), b["field"]
    return losses.perceptual_loss(network(b["cubes"] * field), network(b["target"] * field), field)


def contrast(b: Parts) -> Tensor:
    field = b["field"]
    # The smallest field is the first cube's, so each half starts with a different count.
    places = [draw_positions(cube[None], seed=0, step=0, first_index=0) for cube in field]
    cells = [field[0].numel() >> 2 * level for level in range(3)]
    joined = [
        torch.cat([found[level] + cube * cells[level] for cube, found in enumerate(places)]) for level in range(3)
    ]
    return features().contrastive_loss(b["cubes"] * field, b["target"] * field, joined)


TERMS: dict[str, Callable[[Parts], Tensor]] = {
    "l1": lambda b: losses.pixel_losses(b["cubes"], b["target"], b["weight"], b["field"])[0],
    "fine": lambda b: losses.pixel_losses(b["cubes"], b["target"], b["weight"], b["field"])[1],
    "angle": lambda b: losses.compute_field_mean(losses.spectral_angle(b["cubes"], b["target"]), b["field"]),
    "masks": lambda b: losses.mask_loss(b["logits"], b["masks"], b["known"], b["weight"]),
    "perceptual": perceptual,
    "contrast": contrast,
    "adversarial": lambda b: losses.hinge_generator_loss(logits_of(b, "cubes"), compute_patch_weight(b["field"])),
    "discriminator": lambda b: losses.hinge_discriminator_loss(
        logits_of(b, "target"), logits_of(b, "cubes"), compute_patch_weight(b["field"])
    ),
}


@pytest.mark.parametrize("name", TERMS)
def test_a_batch_is_the_mean_of_its_parts(name: str) -> None:
    whole, term = batch(), TERMS[name]
    parts = [float(term({key: value[part] for key, value in whole.items()})) for part in (slice(0, 2), slice(2, 4))]
    assert float(term(whole)) == pytest.approx(sum(parts) / 2, rel=1e-5)
    assert parts[0] != pytest.approx(parts[1], rel=1e-3)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("changed", ["cubes", "target", "logits", "masks"])
def test_pixels_outside_the_field_count_for_nothing(name: str, changed: str) -> None:
    before, term = batch(), TERMS[name]
    other = 7 * normal(*before[changed].shape, seed=9)
    outside = before | {changed: torch.where(before["field"], before[changed], other)}
    assert not torch.equal(outside[changed], before[changed])
    assert float(term(outside)) == pytest.approx(float(term(before)), abs=1e-7)
    reads = ("logits", "masks") if name == "masks" else ("target", "cubes")
    if changed in reads and (name, changed) != ("adversarial", "target"):
        inside = before | {changed: torch.where(before["field"], other, before[changed])}
        assert float(term(inside)) != pytest.approx(float(term(before)), rel=1e-3)


@pytest.mark.parametrize("name", TERMS)
def test_a_cube_without_a_field_is_finite_and_adds_nothing(name: str) -> None:
    whole, term = batch(2), TERMS[name]
    whole["field"][1] = False
    whole["weight"] = whole["weight"] * whole["field"]
    whole["masks"] = whole["masks"] * whole["field"]
    alone = {key: value[:1] for key, value in whole.items()}
    assert float(term(whole)) == pytest.approx(float(term(alone)) / 2, rel=1e-5)


def test_field_mean_is_the_mean_of_weighted_means() -> None:
    b = batch()
    means = [np.average(b["cubes"][i].numpy(), weights=b["weight"][i].numpy().repeat(3, 0)) for i in range(4)]
    assert float(losses.compute_field_mean(b["cubes"], b["weight"])) == pytest.approx(np.mean(means), abs=1e-6)


@pytest.mark.parametrize("size", [3, 5])
def test_local_mean_is_the_mean_over_a_window_s_pixels_in_the_field(size: int) -> None:
    b = batch(2, side=10)
    found, images, field = (
        losses.compute_local_mean(b["cubes"], b["field"], size),
        b["cubes"].numpy(),
        b["field"].numpy(),
    )
    for n, c, y, x in np.ndindex(*images.shape):
        ys, xs = (slice(max(at - size // 2, 0), at + size // 2 + 1) for at in (y, x))
        inside = field[n, 0, ys, xs]
        expected = images[n, c, ys, xs][inside].mean() if field[n, 0, y, x] else 0
        assert float(found[n, c, y, x]) == pytest.approx(expected, abs=1e-6)


def test_the_fine_term_sees_lines_and_no_offset() -> None:
    b = batch()
    offset = losses.pixel_losses(b["target"] + 2, b["target"], b["weight"], b["field"])
    assert [float(term) for term in offset] == pytest.approx([2, 0], abs=1e-5)
    missed = b["target"].clone()
    missed[..., 8] += 1
    l1, fine = losses.pixel_losses(missed, b["target"], b["field"].float(), b["field"])
    assert float(fine) > 1.4 * float(l1)  # 4/5 on the line itself, 1/5 on two pixels either side


# Spectral angle.


def angle(one: Any, other: Any) -> Tensor:
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
def test_angles_in_closed_form(one: list[float], other: list[float], expected: float) -> None:
    assert float(angle(one, other)) == pytest.approx(expected, abs=1e-4)


def test_angles_agree_with_the_arc_cosine_in_float64() -> None:
    one, other = (normal(2, 16, 8, 8, seed=seed).abs() + 0.1 for seed in (1, 2))
    wide = [c.double() / c.double().norm(dim=1, keepdim=True) for c in (one, other)]
    expected = torch.arccos((wide[0] * wide[1]).sum(dim=1, keepdim=True))
    assert torch.allclose(losses.spectral_angle(one, other).double(), expected, atol=1e-5)
    close = one * (1 + 1e-3 * normal(*one.shape, seed=3))  # where float32's arc cosine has lost its digits
    wide[1] = close.double() / close.double().norm(dim=1, keepdim=True)
    expected = 2 * torch.asin((wide[0] - wide[1]).norm(dim=1, keepdim=True) / 2)
    assert torch.allclose(losses.spectral_angle(one, close).double(), expected, atol=2e-6)


@pytest.mark.parametrize("target", ["same", "zero", "other"])
@pytest.mark.parametrize("scale", [0.0, 1e-9, 1.0, 1e4])
def test_the_gradient_of_angles_is_finite(target: str, scale: float) -> None:
    cubes = (scale * normal(1, 4, 3, 3)).requires_grad_()
    others = {"same": cubes.detach().clone(), "zero": torch.zeros(1, 4, 3, 3), "other": normal(1, 4, 3, 3, seed=2)}
    losses.spectral_angle(cubes, others[target]).sum().backward()
    assert cubes.grad is not None and torch.isfinite(cubes.grad).all()
    if target == "zero" or scale == 0 or (target, scale) == ("other", 1e-9):  # no direction, nothing to turn to
        assert not cubes.grad.any()


# Masks.


def test_masks_in_closed_form() -> None:
    masks = torch.zeros(1, 1, 2, 2)
    masks[..., 0, 0] = 1
    weight, known = torch.ones(1, 1, 2, 2), torch.ones(1, 1, dtype=torch.bool)
    undecided = losses.mask_loss(torch.zeros(1, 1, 2, 2), masks, known, weight)
    # Chances of one half: log 2, and a Dice of (2 * 0.5 + 1) / (4 * 0.5 + 1 + 1).
    assert float(undecided) == pytest.approx(math.log(2) + 1 - 2 / 4)
    right = losses.mask_loss(60 * masks - 30, masks, known, weight)
    assert float(right) == pytest.approx(0, abs=1e-6)
    wrong = losses.mask_loss(30 - 60 * masks, masks, known, weight)
    assert float(wrong) == pytest.approx(30 + 1 - 1 / 5)
    weighted = losses.mask_loss(30 - 60 * masks[:, :, :1], masks[:, :, :1], known, torch.tensor([[[[2.0, 0]]]]))
    assert float(weighted) == pytest.approx(30 + 1 - 1 / 2)


def test_unknown_masks_count_for_nothing() -> None:
    b = batch()
    given = {"logits": b["logits"], "masks": b["masks"], "has_mask": b["known"], "weight": b["weight"]}
    before = losses.mask_loss(**given)
    unknown = ~b["known"][:, :, None, None]
    for name in ("logits", "masks"):
        changed = torch.where(unknown, 1 + 9 * normal(4, 2, 16, 16, seed=6).abs(), given[name])
        assert torch.equal(losses.mask_loss(**(given | {name: changed})), before)
    none = losses.mask_loss(**(given | {"known": torch.zeros_like(b["known"])}))
    assert float(none) == 0
    without = losses.mask_loss(b["logits"][:, :0], b["masks"][:, :0], b["known"][:, :0], b["weight"])
    assert without.shape == () and float(without) == 0


# Adversarial and perceptual terms.


def test_hinges_in_closed_form() -> None:
    weight = torch.tensor([[[[1.0, 1, 0]]]])
    real, generated = torch.tensor([[[[2.0, 0, -9]]]]), torch.tensor([[[[-3.0, 1, 9]]]])
    # relu(1 - real): 0 and 1; relu(1 + generated): 0 and 2.
    assert float(losses.hinge_discriminator_loss(real, generated, weight)) == pytest.approx(0.5 * (0.5 + 1))
    assert float(losses.hinge_generator_loss(generated, weight)) == pytest.approx(1)


def test_equal_features_are_at_no_distance_and_scale_does_not_count() -> None:
    found, field = [normal(2, 3, 8, 8), normal(2, 5, 4, 4)], torch.ones(2, 1, 8, 8, dtype=torch.bool)
    assert float(losses.perceptual_loss(found, found, field)) == 0
    assert float(losses.perceptual_loss(found, [9 * f for f in found], field)) == pytest.approx(0, abs=1e-5)
    opposite = losses.perceptual_loss(found, [-f for f in found], field)
    assert float(opposite) == pytest.approx(4, rel=1e-3)  # unit vectors two apart, squared


def test_a_cell_counts_if_all_of_it_is_inside() -> None:
    field = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    field[..., 0, 0] = field[..., 5, 6] = False
    inside = losses.find_inside_patches(field, (4, 4))
    expected = torch.ones(1, 1, 4, 4)
    expected[..., 0, 0] = expected[..., 2, 3] = 0
    assert torch.equal(inside, expected)
    assert torch.equal(losses.find_inside_patches(field, (8, 8)), field.float())


# The adaptive weight.


def adaptive(ranks: Ranks, part: slice | None = None) -> float:
    """Return the weight of this rank's part of a batch of four, whose gradients differ from cube to cube."""
    decoder = randomised(nn.Conv2d(3, 3, 3, padding=1))
    mine, b = part or ranks.get_local_slice(4), batch()
    made, field = decoder(b["cubes"][mine]), b["field"][mine]
    reconstruction = losses.compute_field_mean((made - b["target"][mine]).abs(), field)
    adversarial = losses.hinge_generator_loss(discriminator()(made, field), compute_patch_weight(field))
    weight = losses.compute_adaptive_weight(reconstruction, adversarial, decoder.weight, ranks)
    assert not weight.requires_grad
    (reconstruction + weight * adversarial).backward()  # the graph is still there
    return float(weight)


def test_the_adaptive_weight_is_that_of_one_rank() -> None:
    alone = adaptive(Ranks())
    assert two_ranks(adaptive) == pytest.approx([alone, alone], rel=1e-5)
    apart = [adaptive(Ranks(), part) for part in (slice(0, 2), slice(2, 4))]
    assert sum(apart) / 2 != pytest.approx(alone, rel=1e-2)  # what it would be without talking


@pytest.mark.parametrize(("slope", "expected"), [(2.0, 1.5), (1e-9, 3 / (1e-9 + 1e-6)), (0.0, 1e4), (-2.0, 1.5)])
def test_the_adaptive_weight_is_a_ratio_of_norms_with_a_bound(slope: float, expected: float) -> None:
    last = torch.ones(1, requires_grad=True)
    weight = losses.compute_adaptive_weight((3 * last).sum(), (slope * last).sum(), last, Ranks())
    assert float(weight) == pytest.approx(min(expected, losses.MAX_ADAPTIVE_WEIGHT), rel=1e-5)


def test_descending_the_terms_brings_cubes_to_the_real_ones() -> None:
    b = batch(1)
    cubes = b["cubes"].clone().requires_grad_()
    optimizer = torch.optim.Adam([cubes], lr=0.1)
    for _ in range(40):
        optimizer.zero_grad()
        torch.stack([TERMS[name](b | {"cubes": cubes}) for name in ("l1", "fine", "angle")]).sum().backward()
        optimizer.step()
    before, after = (functional.l1_loss(c * b["field"], b["target"] * b["field"]) for c in (b["cubes"], cubes.detach()))
    assert float(after) < 0.2 * float(before)
    assert torch.equal(torch.where(b["field"], 0.0, cubes), torch.where(b["field"], 0.0, b["cubes"]))
