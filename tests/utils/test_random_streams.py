"""A fork of torch's random state is seeded, and leaves the generators as they were."""

from __future__ import annotations

import pytest
import torch

from hseval.utils.random_streams import fork_torch_rng


def test_a_fork_draws_from_its_seed_and_leaves_the_generator_unchanged() -> None:
    state = torch.get_rng_state()
    with fork_torch_rng(7):
        drawn = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(drawn, torch.rand(3, generator=torch.Generator().manual_seed(7)))


def test_a_fork_without_a_seed_continues_the_stream() -> None:
    with fork_torch_rng():
        drawn = torch.rand(3)
    assert torch.equal(drawn, torch.rand(3))


def test_no_generator_of_a_gpu_is_seeded_for_work_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed", seeded.append)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    with fork_torch_rng(7, torch.device("cpu")):
        pass
    assert not seeded
