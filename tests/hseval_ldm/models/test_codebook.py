"""The codebook against loops that follow the paper, and through what training does to it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hseval_ldm.models.codebook import Codebook, compute_usage
from hseval_ldm.models.kmeans import KMeansResult
from hseval_ldm.utils.distributed import Ranks
from tests.helpers.two_ranks import two_ranks

CODES, D = 12, 4


def batch(step: int = 0, n: int = 4, side: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    latents = torch.randn(n, D, side, side, generator=generator)
    return latents, torch.rand(n, 1, side, side, generator=generator) < 0.6


def started(**given: Any) -> Codebook:
    generator = torch.Generator().manual_seed(99)
    centres = torch.randn(CODES, D, generator=generator)
    book = Codebook(CODES, D, **given)
    book.set_clusters(KMeansResult(centres, torch.arange(1, CODES + 1), 1.0), tokens=60)
    return book


def train(book: Codebook, first: int, last: int, ranks: Ranks | None = None) -> list[float]:
    """Some steps of a training whose encoder never learns; returns the commitment losses."""
    ranks = ranks or Ranks()
    losses = []
    for step in range(first, last):
        latents, field = (part[ranks.get_local_slice(len(part))] for part in batch(step))
        done = book(latents, field=field)
        book.update(latents, done.indices, field, ranks=ranks, step=step, seed=5)
        ranks.mean_(done.commitment)
        losses.append(float(done.commitment))
    return losses


def test_quantising_against_loops() -> None:
    book, (latents, field) = started(), batch()
    done = book(latents, field=field)
    means = []
    for cube in range(len(latents)):
        errors = []
        for y in range(5):
            for x in range(5):
                z = latents[cube, :, y, x]
                distances = [float((z - vector).square().sum()) for vector in book.vectors]
                nearest = distances.index(min(distances))
                assert int(done.indices[cube, y, x]) == nearest
                assert torch.equal(done.values[cube, :, y, x], book.vectors[nearest])
                if field[cube, 0, y, x]:
                    errors.append(min(distances))
        means.append(sum(errors) / len(errors))
    assert float(done.commitment) == pytest.approx(sum(means) / len(means), rel=1e-5)
    assert torch.equal(book.lookup(done.indices), done.values)
    assert torch.equal(book.find_nearest(latents), done.indices)


def test_moving_averages_against_loops() -> None:
    book = started(decay=0.9)
    counts, sums = book.counts.tolist(), book.sums.double().clone()
    for step in range(1, 4):
        latents, field = batch(step)
        indices = book.find_nearest(latents)
        book.update(latents, indices, field, ranks=Ranks(), step=step, seed=0)
        for code in range(CODES):
            mine = (indices == code) & field[:, 0]
            counts[code] = 0.9 * counts[code] + 0.1 * int(mine.sum())
            sums[code] = 0.9 * sums[code] + 0.1 * latents.permute(0, 2, 3, 1)[mine].double().sum(dim=0)
    assert book.counts.tolist() == pytest.approx(counts, rel=1e-5)
    smoothed = [(count + 1e-5) / (sum(counts) + CODES * 1e-5) * sum(counts) for count in counts]
    assert torch.allclose(book.vectors.double(), sums / torch.tensor(smoothed)[:, None], rtol=1e-4, atol=1e-6)


def test_gradients_go_straight_through_and_commitment_pulls_latents_only() -> None:
    book, (latents, field) = started(), batch()
    assert not list(book.parameters())
    latents.requires_grad_()
    done = book(latents, field=field)
    # The vectors move before the backward pass, as they do in training.
    book.update(latents, done.indices, field, ranks=Ranks(), step=1, seed=0)
    weight = torch.randn(done.values.shape, generator=torch.Generator().manual_seed(1))
    (straight,) = torch.autograd.grad((done.values * weight).sum(), latents, retain_graph=True)
    assert torch.equal(straight, weight)
    (pulled,) = torch.autograd.grad(done.commitment, latents)
    counted = field.sum(dim=(1, 2, 3))[:, None, None, None]
    expected = 2 * (latents - done.values).detach() * field / counted / len(latents)
    assert torch.allclose(pulled, expected, atol=1e-7)


def test_tokens_outside_the_field_count_for_nothing() -> None:
    results = []
    for outside in (0.0, 1e4, torch.inf):
        book, (latents, field) = started(revive_every=1, threshold=0.5), batch()
        latents = torch.where(field, latents, outside).requires_grad_()
        done = book(latents, field=field)
        done.commitment.backward()
        book.update(latents, done.indices, field, ranks=Ranks(), step=1, seed=0)
        gradient = latents.grad
        assert gradient is not None
        results.append((done.commitment.item(), book.count_codes(done.indices, field), book.vectors, gradient))
    for result in results[1:]:
        assert result[0] == results[0][0]
        assert all(torch.equal(a, b) for a, b in zip(result[1:], results[0][1:], strict=True))
    assert int(results[0][1].sum()) == int(batch()[1].sum())


def test_a_cube_without_field_adds_nothing() -> None:
    book, (latents, field) = started(), batch()
    field[1] = False
    rest = [0, 2, 3]
    done, without = book(latents, field=field), book(latents[rest], field=field[rest])
    assert float(done.commitment) == pytest.approx(float(without.commitment) * 3 / 4, rel=1e-6)
    before = book.vectors.clone()
    book.update(latents, done.indices, torch.zeros_like(field), ranks=Ranks(), step=100, seed=0)
    assert torch.allclose(book.vectors, before, atol=1e-5)


def test_dead_codes_are_replaced_by_tokens_of_the_batch_and_only_when_due() -> None:
    book = started(revive_every=4)
    book.counts[[2, 7]] = 0.01
    book.sums[[2, 7]] = 0.01 * 50
    book.vectors[[2, 7]] = 50
    for step in range(1, 4):
        train(book, step, step + 1)
        assert (book.vectors[[2, 7]] > 40).all()
    latents, field = batch(4)
    book.update(latents, book.find_nearest(latents), field, ranks=Ranks(), step=4, seed=0)
    inside = latents.permute(0, 2, 3, 1)[field[:, 0]]
    for code in (2, 7):
        assert (inside == book.vectors[code]).all(dim=1).any()
        assert torch.allclose(book.sums[code], book.vectors[code] * book.counts[code])
    assert not torch.equal(book.vectors[2], book.vectors[7])
    assert (book.counts[[2, 7]] > 0.5 * book.counts.mean()).all()
    train(book, 5, 8)
    assert (book.counts >= 0.1 * book.counts.mean()).all()


def test_more_dead_codes_than_tokens() -> None:
    book = started(revive_every=1)
    book.counts[:8] = torch.linspace(0.01, 0.02, 8)
    book.counts[8:] = 30
    latents, field = batch(n=1)
    field.zero_()[0, 0, 0, :3] = True
    old = book.vectors.clone()
    book.update(latents, book.find_nearest(latents), field, ranks=Ranks(), step=1, seed=0)
    replaced = (book.counts[:8] > 1).nonzero().flatten().tolist()
    assert len(replaced) == 3 and book.vectors.isfinite().all()
    tokens = {tuple(token) for token in latents[0, :, 0, :3].T.tolist()}
    assert {tuple(book.vectors[code].tolist()) for code in replaced} == tokens
    assert not torch.equal(book.vectors, old)


def test_threshold_zero_revives_none_and_stays_finite() -> None:
    book = started(decay=0.5, threshold=0, revive_every=1)
    book.vectors[3] = 1e3
    book.sums[3] = 1e3 * book.counts[3]
    train(book, 1, 8)
    assert float(book.counts[3]) < 0.05 and (book.vectors[3] - 1e3).abs().max() < 1
    train(book, 8, 300)
    assert book.vectors.isfinite().all()


def test_an_empty_codebook_begins_with_tokens_of_the_batch() -> None:
    latents, field = batch()
    books = [Codebook(CODES, D) for _ in range(2)]
    books[0].initialize(latents, field, ranks=Ranks(), step=0, seed=1)
    books[1].update(latents, books[1].find_nearest(latents), field, ranks=Ranks(), step=0, seed=1)
    inside = latents.permute(0, 2, 3, 1)[field[:, 0]]
    for book in books:
        assert bool(book.initialised) and len(book.vectors.unique(dim=0)) == CODES
        assert all((inside == vector).all(dim=1).any() for vector in book.vectors)
        assert float(book.counts.sum()) == pytest.approx(len(inside))
    kept = books[0].vectors.clone()
    books[0].initialize(latents + 1, field, ranks=Ranks(), step=1, seed=1)
    assert torch.equal(books[0].vectors, kept)


def test_an_empty_codebook_and_fewer_tokens_than_codes() -> None:
    latents, field = batch(n=1, side=2)
    book = Codebook(CODES, D)
    book.initialize(latents, torch.zeros_like(field), ranks=Ranks(), step=0, seed=1)
    assert not bool(book.initialised)
    book.initialize(latents, None, ranks=Ranks(), step=0, seed=1)
    assert bool(book.initialised) and len(book.vectors.unique(dim=0)) == 4


def test_setting_resets_everything() -> None:
    book = started()
    train(book, 1, 5)
    centres = torch.randn(CODES, D, generator=torch.Generator().manual_seed(3))
    counts = torch.full((CODES,), 100)
    counts[4] = 0
    book.set_clusters(KMeansResult(centres, counts, 1.0), tokens=66)
    expected = torch.full((CODES,), 6.0)
    expected[4] = 0.01 * 66 / CODES
    assert torch.equal(book.vectors, centres) and torch.allclose(book.counts, expected)
    assert torch.allclose(book.sums, centres * expected[:, None])
    # A batch that lies on the centres, in k-means' proportions, moves none of them.
    indices = torch.arange(CODES).repeat(6)[torch.arange(CODES).repeat(6) != 4].view(1, 11, 6)
    book.update(book.lookup(indices), indices, None, ranks=Ranks(), step=1, seed=0)
    assert torch.allclose(book.vectors, centres, rtol=1e-3)
    assert torch.allclose(book.counts[counts > 0], expected[counts > 0])


def test_resume_through_a_file_changes_nothing(tmp_path: Path) -> None:
    whole, half = started(revive_every=3), started(revive_every=3)
    losses = train(whole, 0, 10)
    early = train(half, 0, 5)
    save_file(half.state_dict(), tmp_path / "book.safetensors")
    resumed = Codebook(CODES, D, revive_every=3)
    resumed.load_state_dict(load_file(tmp_path / "book.safetensors"))
    assert early + train(resumed, 5, 10) == losses
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def both(ranks: Ranks, kmeans_first: bool) -> tuple[list[float], dict[str, Tensor]]:
    given = {"revive_every": 3, "threshold": 0.7}
    book = started(**given) if kmeans_first else Codebook(CODES, D, **given)
    return train(book, 0, 8, ranks), book.state_dict()


@pytest.mark.parametrize("kmeans_first", [True, False])
def test_two_ranks_do_what_one_does(kmeans_first: bool) -> None:
    losses, state = both(Ranks(), kmeans_first)
    for told, theirs in two_ranks(both, kmeans_first):
        assert told == pytest.approx(losses, rel=1e-5)
        for name, value in state.items():
            assert torch.allclose(theirs[name], value, atol=1e-6), name


def test_bf16_under_autocast_is_measured_in_float32() -> None:
    book, (latents, _) = started(), batch()
    book.vectors += 8  # where bf16 has steps of 1/32
    low = (latents + 8).bfloat16()
    expected = (low.double().permute(0, 2, 3, 1)[..., None, :] - book.vectors.double()).square().sum(-1).argmin(-1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        done = book(low)
    assert torch.equal(done.indices, expected)
    assert done.values.dtype == done.commitment.dtype == torch.float32
    assert torch.equal(done.values, book.lookup(expected))


def test_usage_closed_forms() -> None:
    assert compute_usage(torch.full((8,), 5)) == (pytest.approx(8), 8)
    assert compute_usage(torch.tensor([0, 7, 0])) == (pytest.approx(1), 1)
    assert compute_usage(torch.tensor([3, 1, 0])) == (
        pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))),
        2,
    )
    assert compute_usage(torch.zeros(4)) == (0.0, 0)
