"""Precision: the resolution of auto, and the types of results."""

from __future__ import annotations

import pytest
import torch

from hseval.utils.errors import HsevalError
from hseval_ldm.utils import precision
from hseval_ldm.utils.precision import build_autocast, resolve_precision

CPU = torch.device("cpu")


def test_the_requested_precision_is_used() -> None:
    ones = torch.ones(2, 2)
    with build_autocast("bf16", CPU)():
        assert (ones @ ones).dtype == torch.bfloat16
    with build_autocast("float32", CPU)():
        assert (ones @ ones).dtype == torch.float32
    assert (ones @ ones).dtype == torch.float32


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({}, "float32"), ({"avx512_bf16": True}, "float32"), ({"amx_bf16": True}, "bf16"), ({"amx_tile": True}, "bf16")],
)
def test_auto_is_bf16_on_a_cpu_with_matrix_units(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert resolve_precision("auto", CPU) == expected
    assert resolve_precision("float32", CPU) == "float32" and resolve_precision("bf16", CPU) == "bf16"
    with build_autocast("auto", CPU)():
        assert torch.is_autocast_enabled("cpu") == (expected == "bf16")


def test_auto_is_float32_where_torch_reports_no_capabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert resolve_precision("auto", CPU) == "float32"
    assert resolve_precision("auto", torch.device("mps")) == "float32"


def test_bf16_on_a_gpu_without_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision.torch.cuda, "is_bf16_supported", lambda **_: False)
    monkeypatch.setattr(precision.torch.cuda, "get_device_name", lambda _: "Old GPU")
    device = torch.device("cuda:0")
    assert resolve_precision("auto", device) == "float32"
    with pytest.raises(HsevalError, match="precision=bf16: Old GPU does not support bf16; use float32"):
        resolve_precision("bf16", device)
