"""Dropout in the training of the U-Net: a function of step and seed, so that resuming is exact."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hseval.utils.distributed import Ranks
from hseval_ldm.options import LdmOptions
from hseval_ldm.training.stage_diffusion import DiffusionStage


def apply_dropout(step: int, *, seed: int = 0, rank: int = 0, share: float = 0.5) -> Tensor:
    """Return 256 ones after the dropout of a step, while torch's own generator is in another state."""
    torch.rand(step + seed + 1)
    stage = object.__new__(DiffusionStage)  # the other attributes of a stage are not needed
    stage.model, stage.seed, stage.ranks = nn.Dropout(share), seed, Ranks(rank, 2)  # type: ignore[assignment]
    stage.options = LdmOptions(dropout=share)
    with stage._seed_dropout(step):
        return stage.model(torch.ones(256))  # type: ignore[arg-type, call-arg]


def test_the_same_step_and_seed_drop_the_same_features() -> None:
    first = apply_dropout(7)
    assert 64 < int((first == 0).sum()) < 192 and torch.equal(apply_dropout(7), first)


def test_another_step_seed_or_rank_drops_other_features() -> None:
    for other in (apply_dropout(8), apply_dropout(7, seed=1), apply_dropout(7, rank=1)):
        assert not torch.equal(other, apply_dropout(7))


def test_torchs_own_generator_is_unchanged() -> None:
    before = torch.get_rng_state()
    torch.rand(8)  # as many as apply_dropout draws itself
    expected = torch.get_rng_state()
    torch.set_rng_state(before)
    apply_dropout(7)
    assert torch.equal(torch.get_rng_state(), expected)


def test_without_dropout_no_feature_is_dropped() -> None:
    assert torch.equal(apply_dropout(7, share=0.0), torch.ones(256))
