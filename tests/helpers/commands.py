"""The command line as typed: in a process of its own, and what it leaves."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any


@dataclasses.dataclass
class Outcome:
    """What a command left: exit status and what it printed."""

    status: int
    out: str
    err: str


def hseval_process(*arguments: Any, **given: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    command = [sys.executable, "-m", "hseval", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **given)
