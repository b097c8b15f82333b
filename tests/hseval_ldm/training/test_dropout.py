"""Dropout while the U-Net is trained: drawn by step and seed, so that a resumed run drops what it would have."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hseval_ldm.options import LdmOptions
from hseval_ldm.training.stage_diffusion import DiffusionStage
from hseval_ldm.utils.distributed import Ranks


def kept(step: int, *, seed: int = 0, rank: int = 0, share: float = 0.5) -> Tensor:
    """Return what a step lets through of 256 ones, after other draws have moved torch's own generator."""
    torch.rand(step + seed + 1)
    stage = object.__new__(DiffusionStage)  # a stage's own data, networks and judge play no part here
    stage.model, stage.seed, stage.ranks = nn.Dropout(share), seed, Ranks(rank, 2)  # type: ignore[assignment]
    stage.options = LdmOptions(dropout=share)
    with stage._seed_dropout(step):
        return stage.model(torch.ones(256))  # type: ignore[arg-type, call-arg]


def test_the_same_step_and_seed_drop_the_same() -> None:
    first = kept(7)
    assert 64 < int((first == 0).sum()) < 192 and torch.equal(kept(7), first)


def test_another_step_seed_or_rank_drops_others() -> None:
    for other in (kept(8), kept(7, seed=1), kept(7, rank=1)):
        assert not torch.equal(other, kept(7))


def test_the_generator_of_everybody_else_is_left_as_it_was() -> None:
    before = torch.get_rng_state()
    torch.rand(8)  # as many as kept draws itself
    expected = torch.get_rng_state()
    torch.set_rng_state(before)
    kept(7)
    assert torch.equal(torch.get_rng_state(), expected)


def test_without_dropout_everything_is_kept() -> None:
    assert torch.equal(kept(7, share=0.0), torch.ones(256))
