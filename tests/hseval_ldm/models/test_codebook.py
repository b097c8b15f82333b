"""The codebook against loops that follow the paper, and over a training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hseval.utils.distributed import Ranks
from hseval_ldm.models.codebook import Codebook, compute_usage
from hseval_ldm.models.kmeans import KMeansResult
from tests.helpers.two_ranks import run_on_two_ranks

CODES, D = 12, 4


def draw_batch(step: int = 0, n: int = 4, side: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    latents = torch.randn(n, D, side, side, generator=generator)
    return latents, torch.rand(n, 1, side, side, generator=generator) < 0.6


def make_codebook(**options: Any) -> Codebook:
    generator = torch.Generator().manual_seed(99)
    centers = torch.randn(CODES, D, generator=generator)
    codebook = Codebook(CODES, D, **options)
    codebook.set_clusters(KMeansResult(centers, torch.arange(1, CODES + 1), 1.0), tokens=60)
    return codebook


def train(codebook: Codebook, first: int, last: int, ranks: Ranks | None = None) -> list[float]:
    """Run some steps of a training with a constant encoder; return the commitment losses."""
    ranks = ranks or Ranks()
    losses = []
    for step in range(first, last):
        latents, field = (part[ranks.get_local_slice(len(part))] for part in draw_batch(step))
        quantized = codebook(latents, field=field)
        codebook.update(latents, quantized.indices, field, ranks=ranks, step=step, seed=5)
        ranks.mean_(quantized.commitment)
        losses.append(float(quantized.commitment))
    return losses


def test_quantization_equals_loops() -> None:
    codebook, (latents, field) = make_codebook(), draw_batch()
    quantized = codebook(latents, field=field)
    means = []
    for cube in range(len(latents)):
        errors = []
        for y in range(5):
            for x in range(5):
                z = latents[cube, :, y, x]
                distances = [float((z - vector).square().sum()) for vector in codebook.vectors]
                nearest = distances.index(min(distances))
                assert int(quantized.indices[cube, y, x]) == nearest
                assert torch.equal(quantized.values[cube, :, y, x], codebook.vectors[nearest])
                if field[cube, 0, y, x]:
                    errors.append(min(distances))
        means.append(sum(errors) / len(errors))
    assert float(quantized.commitment) == pytest.approx(sum(means) / len(means), rel=1e-5)
    assert torch.equal(codebook.lookup(quantized.indices), quantized.values)
    assert torch.equal(codebook.find_nearest(latents), quantized.indices)


def test_an_empty_codebook_is_filled_with_tokens_that_share_their_number() -> None:
    codebook, tokens = Codebook(CODES, D), torch.randn(3 * CODES, D, generator=torch.Generator().manual_seed(1))
    codebook._fill(tokens, Ranks(), step=0, seed=5)
    assert all(bool((tokens == vector).all(dim=1).any()) for vector in codebook.vectors)
    assert codebook.counts.tolist() == [3.0] * CODES
    assert torch.allclose(codebook.sums, 3 * codebook.vectors)


def test_moving_averages_equal_loops() -> None:
    codebook = make_codebook(decay=0.9)
    counts, sums = codebook.counts.tolist(), codebook.sums.double().clone()
    for step in range(1, 4):
        latents, field = draw_batch(step)
        indices = codebook.find_nearest(latents)
        codebook.update(latents, indices, field, ranks=Ranks(), step=step, seed=0)
        for code in range(CODES):
            is_assigned = (indices == code) & field[:, 0]
            counts[code] = 0.9 * counts[code] + 0.1 * int(is_assigned.sum())
            sums[code] = 0.9 * sums[code] + 0.1 * latents.permute(0, 2, 3, 1)[is_assigned].double().sum(dim=0)
    assert codebook.counts.tolist() == pytest.approx(counts, rel=1e-5)
    smoothed = [(count + 1e-5) / (sum(counts) + CODES * 1e-5) * sum(counts) for count in counts]
    assert torch.allclose(codebook.vectors.double(), sums / torch.tensor(smoothed)[:, None], rtol=1e-4, atol=1e-6)


def test_gradients_pass_straight_through_and_commitment_moves_only_latents() -> None:
    codebook, (latents, field) = make_codebook(), draw_batch()
    assert not list(codebook.parameters())
    latents.requires_grad_()
    quantized = codebook(latents, field=field)
    # The vectors move before the backward pass, as they do in training.
    codebook.update(latents, quantized.indices, field, ranks=Ranks(), step=1, seed=0)
    weight = torch.randn(quantized.values.shape, generator=torch.Generator().manual_seed(1))
    (straight,) = torch.autograd.grad((quantized.values * weight).sum(), latents, retain_graph=True)
    assert torch.equal(straight, weight)
    (gradient,) = torch.autograd.grad(quantized.commitment, latents)
    n_tokens = field.sum(dim=(1, 2, 3))[:, None, None, None]
    expected = 2 * (latents - quantized.values).detach() * field / n_tokens / len(latents)
    assert torch.allclose(gradient, expected, atol=1e-7)


def test_tokens_outside_the_field_are_ignored() -> None:
    results = []
    for outside in (0.0, 1e4, torch.inf):
        codebook, (latents, field) = make_codebook(revive_every=1, threshold=0.5), draw_batch()
        latents = torch.where(field, latents, outside).requires_grad_()
        quantized = codebook(latents, field=field)
        quantized.commitment.backward()
        codebook.update(latents, quantized.indices, field, ranks=Ranks(), step=1, seed=0)
        gradient = latents.grad
        assert gradient is not None
        results.append(
            (quantized.commitment.item(), codebook.count_codes(quantized.indices, field), codebook.vectors, gradient)
        )
    for result in results[1:]:
        assert result[0] == results[0][0]
        assert all(torch.equal(a, b) for a, b in zip(result[1:], results[0][1:], strict=True))
    assert int(results[0][1].sum()) == int(draw_batch()[1].sum())


def test_a_cube_without_field_contributes_nothing() -> None:
    codebook, (latents, field) = make_codebook(), draw_batch()
    field[1] = False
    others = [0, 2, 3]
    quantized, without = codebook(latents, field=field), codebook(latents[others], field=field[others])
    assert float(quantized.commitment) == pytest.approx(float(without.commitment) * 3 / 4, rel=1e-6)
    before = codebook.vectors.clone()
    codebook.update(latents, quantized.indices, torch.zeros_like(field), ranks=Ranks(), step=100, seed=0)
    assert torch.allclose(codebook.vectors, before, atol=1e-5)


def test_dead_codes_are_replaced_by_tokens_of_the_batch_and_only_when_due() -> None:
    codebook = make_codebook(revive_every=4)
    codebook.counts[[2, 7]] = 0.01
    codebook.sums[[2, 7]] = 0.01 * 50
    codebook.vectors[[2, 7]] = 50
    for step in range(1, 4):
        train(codebook, step, step + 1)
        assert (codebook.vectors[[2, 7]] > 40).all()
    latents, field = draw_batch(4)
    codebook.update(latents, codebook.find_nearest(latents), field, ranks=Ranks(), step=4, seed=0)
    inside = latents.permute(0, 2, 3, 1)[field[:, 0]]
    for code in (2, 7):
        assert (inside == codebook.vectors[code]).all(dim=1).any()
        assert torch.allclose(codebook.sums[code], codebook.vectors[code] * codebook.counts[code])
    assert not torch.equal(codebook.vectors[2], codebook.vectors[7])
    assert (codebook.counts[[2, 7]] > 0.5 * codebook.counts.mean()).all()
    train(codebook, 5, 8)
    assert (codebook.counts >= 0.1 * codebook.counts.mean()).all()


def test_with_more_dead_codes_than_tokens_the_rarest_are_replaced() -> None:
    codebook = make_codebook(revive_every=1)
    codebook.counts[:8] = torch.linspace(0.01, 0.02, 8)
    codebook.counts[8:] = 30
    latents, field = draw_batch(n=1)
    field.zero_()[0, 0, 0, :3] = True
    previous = codebook.vectors.clone()
    codebook.update(latents, codebook.find_nearest(latents), field, ranks=Ranks(), step=1, seed=0)
    replaced = (codebook.counts[:8] > 1).nonzero().flatten().tolist()
    assert len(replaced) == 3 and codebook.vectors.isfinite().all()
    tokens = {tuple(token) for token in latents[0, :, 0, :3].T.tolist()}
    assert {tuple(codebook.vectors[code].tolist()) for code in replaced} == tokens
    assert not torch.equal(codebook.vectors, previous)


def test_with_threshold_0_no_code_is_revived_and_all_stay_finite() -> None:
    codebook = make_codebook(decay=0.5, threshold=0, revive_every=1)
    codebook.vectors[3] = 1e3
    codebook.sums[3] = 1e3 * codebook.counts[3]
    train(codebook, 1, 8)
    assert float(codebook.counts[3]) < 0.05 and (codebook.vectors[3] - 1e3).abs().max() < 1
    train(codebook, 8, 300)
    assert codebook.vectors.isfinite().all()


def test_an_uninitialized_codebook_is_filled_with_tokens_of_the_batch() -> None:
    latents, field = draw_batch()
    codebooks = [Codebook(CODES, D) for _ in range(2)]
    codebooks[0].initialize(latents, field, ranks=Ranks(), step=0, seed=1)
    codebooks[1].update(latents, codebooks[1].find_nearest(latents), field, ranks=Ranks(), step=0, seed=1)
    inside = latents.permute(0, 2, 3, 1)[field[:, 0]]
    for codebook in codebooks:
        assert bool(codebook.initialised) and len(codebook.vectors.unique(dim=0)) == CODES
        assert all((inside == vector).all(dim=1).any() for vector in codebook.vectors)
        assert float(codebook.counts.sum()) == pytest.approx(len(inside))
    vectors = codebooks[0].vectors.clone()
    codebooks[0].initialize(latents + 1, field, ranks=Ranks(), step=1, seed=1)
    assert torch.equal(codebooks[0].vectors, vectors)


def test_an_uninitialized_codebook_accepts_fewer_tokens_than_codes() -> None:
    latents, field = draw_batch(n=1, side=2)
    codebook = Codebook(CODES, D)
    codebook.initialize(latents, torch.zeros_like(field), ranks=Ranks(), step=0, seed=1)
    assert not bool(codebook.initialised)
    codebook.initialize(latents, None, ranks=Ranks(), step=0, seed=1)
    assert bool(codebook.initialised) and len(codebook.vectors.unique(dim=0)) == 4


def test_setting_clusters_resets_the_averages() -> None:
    codebook = make_codebook()
    train(codebook, 1, 5)
    centers = torch.randn(CODES, D, generator=torch.Generator().manual_seed(3))
    counts = torch.full((CODES,), 100)
    counts[4] = 0
    codebook.set_clusters(KMeansResult(centers, counts, 1.0), tokens=66)
    expected = torch.full((CODES,), 6.0)
    expected[4] = 0.01 * 66 / CODES
    assert torch.equal(codebook.vectors, centers) and torch.allclose(codebook.counts, expected)
    assert torch.allclose(codebook.sums, centers * expected[:, None])
    # A batch that lies on the centers, in the proportions of k-means, moves none of them.
    indices = torch.arange(CODES).repeat(6)[torch.arange(CODES).repeat(6) != 4].view(1, 11, 6)
    codebook.update(codebook.lookup(indices), indices, None, ranks=Ranks(), step=1, seed=0)
    assert torch.allclose(codebook.vectors, centers, rtol=1e-3)
    assert torch.allclose(codebook.counts[counts > 0], expected[counts > 0])


def test_training_resumes_exactly_from_a_file(tmp_path: Path) -> None:
    whole, interrupted = make_codebook(revive_every=3), make_codebook(revive_every=3)
    losses = train(whole, 0, 10)
    first_losses = train(interrupted, 0, 5)
    save_file(interrupted.state_dict(), tmp_path / "book.safetensors")
    resumed = Codebook(CODES, D, revive_every=3)
    resumed.load_state_dict(load_file(tmp_path / "book.safetensors"))
    assert first_losses + train(resumed, 5, 10) == losses
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def train_from_start(ranks: Ranks, kmeans_first: bool) -> tuple[list[float], dict[str, Tensor]]:
    options = {"revive_every": 3, "threshold": 0.7}
    codebook = make_codebook(**options) if kmeans_first else Codebook(CODES, D, **options)
    return train(codebook, 0, 8, ranks), codebook.state_dict()


@pytest.mark.parametrize("kmeans_first", [True, False])
def test_two_ranks_train_the_same_codebook_as_one(kmeans_first: bool) -> None:
    losses, state = train_from_start(Ranks(), kmeans_first)
    for rank_losses, rank_state in run_on_two_ranks(train_from_start, kmeans_first):
        assert rank_losses == pytest.approx(losses, rel=1e-5)
        for name, value in state.items():
            assert torch.allclose(rank_state[name], value, atol=1e-6), name


def test_distances_of_bf16_latents_are_float32_under_autocast() -> None:
    codebook, (latents, _) = make_codebook(), draw_batch()
    codebook.vectors += 8  # where bf16 has steps of 1/32
    half = (latents + 8).bfloat16()
    expected = (half.double().permute(0, 2, 3, 1)[..., None, :] - codebook.vectors.double()).square().sum(-1).argmin(-1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        quantized = codebook(half)
    assert torch.equal(quantized.indices, expected)
    assert quantized.values.dtype == quantized.commitment.dtype == torch.float32
    assert torch.equal(quantized.values, codebook.lookup(expected))


def test_usage_has_the_closed_form() -> None:
    assert compute_usage(torch.full((8,), 5)) == (pytest.approx(8), 8)
    assert compute_usage(torch.tensor([0, 7, 0])) == (pytest.approx(1), 1)
    assert compute_usage(torch.tensor([3, 1, 0])) == (
        pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))),
        2,
    )
    assert compute_usage(torch.zeros(4)) == (0.0, 0)
