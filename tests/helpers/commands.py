"""Runs the command line in a separate process."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any


@dataclasses.dataclass
class Outcome:
    """The exit status and the output of a command."""

    status: int
    out: str
    err: str


def run_hseval_process(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``hseval`` with these arguments in a separate process; ``options`` go to :func:`subprocess.run`."""
    command = [sys.executable, "-m", "hseval", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)
