"""The Indian Pines example gives the verdicts that its docstring states."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_indian_pines_degraded_is_worse_and_held_out_is_like_real(tmp_path: Path) -> None:
    pytest.importorskip("tensorly")
    example = runpy.run_path(str(EXAMPLES / "indian_pines.py"))
    reports = example["main"](tmp_path)
    for metric in ("fid", "spectral-kl"):
        assert reports["held-out"][metric].verdict == "like real"
        assert reports["degraded"][metric].verdict == "worse than real"
    halves = [{tuple(corner) for corner in half} for half in example["checkerboard"](145)]
    assert not halves[0] & halves[1]
