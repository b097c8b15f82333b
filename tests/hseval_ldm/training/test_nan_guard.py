"""The first non-finite loss is named, whenever it is asked for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hseval.utils.errors import HsevalError
from hseval_ldm.training.nan_guard import NanGuard
from hseval_ldm.utils.distributed import Ranks
from tests.helpers.two_ranks import run_on_two_ranks

WAY = "the last good checkpoint is RUN/autoencoder/last.safetensors (step 400); lower ae_lr, then --resume"
NAN, INF = float("nan"), float("inf")


def terms(**values: float) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value) for name, value in values.items()}


def test_finite_losses_pass() -> None:
    finite = NanGuard("autoencoder")
    for step in range(5):
        finite.watch(step, {"l1": torch.tensor(1e38), "codes": torch.tensor(1000), "half": torch.ones(()).bfloat16()})
        finite.check(Ranks(), hint=WAY)
    finite.watch(6, {})
    finite.check(Ranks(), hint=WAY)


def test_the_first_step_is_named_though_asked_later_and_finite_again() -> None:
    finite = NanGuard("autoencoder")
    finite.watch(411, terms(l1=0.1, adversarial=1.0))
    finite.watch(412, terms(l1=0.1, adversarial=NAN))
    finite.watch(413, terms(l1=INF, adversarial=INF))
    finite.watch(414, terms(l1=0.1, adversarial=1.0))
    with pytest.raises(HsevalError) as refusal:
        finite.check(Ranks(), hint=WAY)
    assert str(refusal.value) == f"autoencoder, step 412: loss 'adversarial' (nan) is not finite; {WAY}"


def test_all_terms_of_that_step_are_named_and_terms_may_come_late() -> None:
    finite = NanGuard("autoencoder")
    finite.watch(1, terms(l1=0.1))
    finite.watch(2, terms(l1=-INF, angle=NAN))
    finite.watch(3, terms(l1=NAN))
    with pytest.raises(HsevalError, match=r"step 2: loss 'angle' \(nan\), 'l1' \(-inf\) are not finite"):
        finite.check(Ranks(), hint=WAY)


def test_watching_keeps_no_graph_alive() -> None:
    weight = torch.ones((), requires_grad=True)
    finite = NanGuard("autoencoder")
    finite.watch(1, {"l1": weight * 2})
    assert not any(tensor.requires_grad for pair in finite._first_nonfinite.values() for tensor in pair)


def test_a_state_that_overflowed_is_named() -> None:
    finite = NanGuard("autoencoder")
    state = {"count": torch.tensor(3), "empty": torch.zeros(0), "w": torch.ones(3)}
    finite.check_state(400, state, hint=WAY)
    state |= {"w": torch.tensor([1.0, INF]), "v": torch.tensor([NAN])}
    with pytest.raises(HsevalError, match="autoencoder, step 400: 'w' and 1 more are not finite after a finite loss"):
        finite.check_state(400, state, hint=WAY)


def told_by(ranks: Ranks) -> Any:
    finite = NanGuard("diffusion")
    finite.watch(7, terms(v=NAN if ranks.rank == 1 else 0.5))
    try:
        finite.check(ranks, hint=WAY)
    except HsevalError as error:
        return str(error)
    return None


def test_all_ranks_stop_where_one_has_to() -> None:
    assert run_on_two_ranks(told_by) == [f"diffusion, step 7: loss 'v' (nan) is not finite; {WAY}"] * 2
