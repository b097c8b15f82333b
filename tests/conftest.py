"""Fixtures of all tests: an isolated feature cache, and the command line."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.commands import Outcome

os.environ.setdefault("OMP_NUM_THREADS", "1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job; the tests' processes inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def isolated_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test an empty feature cache of its own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("HSEVAL_CACHE", str(folder))
    return folder


@pytest.fixture
def hseval(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Return a function that runs a command in this process, by the real entry point (parsing, errors, exit status)."""
    from hseval.cli.main import main

    def run(*arguments: Any) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["hseval", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return Outcome(int(stop.value.code or 0), printed.out, printed.err)

    return run
