"""Damaged reports and TOML files: every command that reads one refuses it in one line, or shows what is left."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hseval.renderers.html import charts
from tests.helpers.commands import Outcome
from tests.helpers.damaged_files import COMMANDS, find_problem, write_valid_files

SEED, REPEATS = 12, 55  # times six kinds of files: 330 damaged ones


@pytest.fixture(scope="module")
def valid_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_valid_files(tmp_path_factory.mktemp("valid"))


@pytest.fixture(autouse=True)
def without_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what is slow: the charts of a page."""
    monkeypatch.setattr(charts, "_finish_chart", lambda *_: charts.Chart({}, "<svg></svg>"))


@pytest.mark.parametrize("kind", sorted(COMMANDS))
def test_a_damaged_file_gives_no_traceback(
    kind: str, valid_files: dict[str, Path], tmp_path: Path, hseval: Callable[..., Outcome]
) -> None:
    for repeat in range(REPEATS):
        folder = tmp_path / str(repeat)
        folder.mkdir()
        rng = np.random.default_rng([SEED, repeat])
        command, problem = find_problem(kind, valid_files, folder, rng, hseval)
        assert not problem, f"repeat {repeat}, hseval {command}: {problem}"


@pytest.mark.parametrize("kind", sorted(COMMANDS))
def test_the_files_are_valid_before_they_are_damaged(
    kind: str, valid_files: dict[str, Path], tmp_path: Path, hseval: Callable[..., Outcome]
) -> None:
    for number, command in enumerate(COMMANDS[kind]):
        copy = shutil.copy(valid_files[kind], valid_files[kind].with_stem("copy"))
        paths = {**valid_files, "bad": copy, "out": tmp_path / str(number)}
        outcome = hseval(*(word.format(**paths) for word in command.split()))
        assert outcome.status == 0 or re.search("nowhere.h5: no such file|at least 16", outcome.err), outcome.err
