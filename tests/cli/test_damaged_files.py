"""Damaged reports and TOML files: every command that reads one refuses it in one line, or shows what is left."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.reliability.inputs import make_valid_inputs, run_kind
from benchmarks.reliability.text_inputs import leave_out_charts
from tests.helpers.commands import Outcome
from tests.helpers.damaged_files import COMMANDS

SEED, REPEATS = 12, 55  # times six kinds of files: 330 damaged ones


@pytest.fixture(scope="module")
def valid_files() -> Iterator[dict[str, Path]]:
    with make_valid_inputs(sorted(COMMANDS)) as valid:
        yield valid["report"]


@pytest.mark.parametrize("kind", sorted(COMMANDS))
def test_a_damaged_file_gives_no_traceback(kind: str, valid_files: dict[str, Path]) -> None:
    result = run_kind(kind, valid_files, seed=SEED, numbers=range(REPEATS))
    assert result.to_record()["faults"] == []


@pytest.mark.parametrize("kind", sorted(COMMANDS))
def test_the_files_are_valid_before_they_are_damaged(
    kind: str, valid_files: dict[str, Path], tmp_path: Path, hseval: Callable[..., Outcome], monkeypatch: Any
) -> None:
    leave_out_charts(monkeypatch.setattr)
    for number, command in enumerate(COMMANDS[kind]):
        copy = shutil.copy(valid_files[kind], valid_files[kind].with_stem("copy"))
        paths = {**valid_files, "bad": copy, "out": tmp_path / str(number)}
        outcome = hseval(*(word.format(**paths) for word in command.split()))
        assert outcome.status == 0 or re.search("nowhere.h5: no such file|at least 16", outcome.err), outcome.err
