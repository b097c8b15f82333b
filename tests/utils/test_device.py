"""Devices: what is resolved, and the one line of an error."""

from __future__ import annotations

import pytest
import torch

from hseval.utils.device import resolve_device
from hseval.utils.errors import HsevalError

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")


def test_without_a_name_a_gpu_is_preferred() -> None:
    assert resolve_device(None) == (f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu") == "cpu"


@needs_no_gpu
@pytest.mark.parametrize(
    ("device", "reason"),
    [
        ("nope", "not the name of a device"),
        ("", "not the name of a device"),
        ("cuda", "torch finds 0 GPUs here"),
        ("cuda:3", "torch finds 0 GPUs here"),
        ("meta", "torch can't compute on it here"),
        ("xla", "torch can't compute on it here"),
    ],
)
def test_the_error_names_the_device_the_reason_and_the_choices(device: str, reason: str) -> None:
    with pytest.raises(HsevalError) as error:
        resolve_device(device)
    assert str(error.value) == f"--device {device}: {reason}; use cpu"


def pretend_two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)


def test_every_rank_gets_the_gpu_of_its_own_number(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_two_gpus(monkeypatch)
    monkeypatch.setattr(torch, "ones", lambda *_, device: torch.zeros(1))
    assert resolve_device("cuda") == resolve_device(None) == "cuda:1"  # the current one
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert resolve_device("cuda") == resolve_device(None) == "cuda:0"
    monkeypatch.setenv("LOCAL_RANK", "one")
    with pytest.raises(HsevalError, match=r"^LOCAL_RANK='one': expected an integer, as torchrun sets it$"):
        resolve_device("cuda")


@needs_no_gpu
def test_gpus_are_listed_where_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_two_gpus(monkeypatch)
    with pytest.raises(HsevalError, match=r"^--device cuda:2: torch finds 2 GPUs here; use cpu or cuda:0 or cuda:1$"):
        resolve_device("cuda:2")
