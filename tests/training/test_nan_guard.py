"""The first loss that is not finite is reported, however late it is checked."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hseval.training.nan_guard import NanGuard
from hseval.utils.distributed import Ranks
from hseval.utils.errors import HsevalError
from tests.helpers.two_ranks import run_on_two_ranks

HINT = "the last good checkpoint is RUN/autoencoder/last.safetensors (step 400); lower ae_lr, then --resume"
NAN, INF = float("nan"), float("inf")


def make_terms(**values: float) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value) for name, value in values.items()}


def test_finite_losses_pass() -> None:
    guard = NanGuard("autoencoder")
    for step in range(5):
        guard.watch(step, {"l1": torch.tensor(1e38), "codes": torch.tensor(1000), "half": torch.ones(()).bfloat16()})
        guard.check(Ranks(), hint=HINT)
    guard.watch(6, {})
    guard.check(Ranks(), hint=HINT)


def test_the_first_step_is_reported_even_if_later_losses_are_finite() -> None:
    guard = NanGuard("autoencoder")
    guard.watch(411, make_terms(l1=0.1, adversarial=1.0))
    guard.watch(412, make_terms(l1=0.1, adversarial=NAN))
    guard.watch(413, make_terms(l1=INF, adversarial=INF))
    guard.watch(414, make_terms(l1=0.1, adversarial=1.0))
    with pytest.raises(HsevalError) as refusal:
        guard.check(Ranks(), hint=HINT)
    assert str(refusal.value) == f"autoencoder, step 412: loss 'adversarial' (nan) is not finite; {HINT}"


def test_all_terms_of_the_first_step_are_reported_and_terms_may_start_late() -> None:
    guard = NanGuard("autoencoder")
    guard.watch(1, make_terms(l1=0.1))
    guard.watch(2, make_terms(l1=-INF, angle=NAN))
    guard.watch(3, make_terms(l1=NAN))
    with pytest.raises(HsevalError, match=r"step 2: loss 'angle' \(nan\), 'l1' \(-inf\) are not finite"):
        guard.check(Ranks(), hint=HINT)


def test_watching_retains_no_graph() -> None:
    weight = torch.ones((), requires_grad=True)
    guard = NanGuard("autoencoder")
    guard.watch(1, {"l1": weight * 2})
    assert not any(tensor.requires_grad for pair in guard._first_nonfinite.values() for tensor in pair)


def test_a_state_that_overflowed_is_reported() -> None:
    guard = NanGuard("autoencoder")
    state = {"count": torch.tensor(3), "empty": torch.zeros(0), "w": torch.ones(3)}
    guard.check_state(400, state, hint=HINT)
    state |= {"w": torch.tensor([1.0, INF]), "v": torch.tensor([NAN])}
    with pytest.raises(HsevalError, match="autoencoder, step 400: 'w' and 1 more are not finite after a finite loss"):
        guard.check_state(400, state, hint=HINT)


def get_error_on_rank(ranks: Ranks) -> Any:
    guard = NanGuard("diffusion")
    guard.watch(7, make_terms(v=NAN if ranks.rank == 1 else 0.5))
    try:
        guard.check(ranks, hint=HINT)
    except HsevalError as error:
        return str(error)
    return None


def test_all_ranks_raise_if_one_does() -> None:
    assert run_on_two_ranks(get_error_on_rank) == [f"diffusion, step 7: loss 'v' (nan) is not finite; {HINT}"] * 2
