"""Runs the command line in a separate process, piped or on a terminal, and checks its refusals."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import pty
import re
import resource
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any


@dataclasses.dataclass
class Outcome:
    """The exit status and the output of a command."""

    status: int
    out: str
    err: str


Command = Callable[..., Outcome]  # the fixture ``hseval``


def assert_refused(outcome: Outcome, *words: str) -> None:
    """Check for exit status 2 and one line on stderr that contains ``words``."""
    assert outcome.status == 2
    assert outcome.err.startswith("hseval: ")
    assert len(outcome.err.splitlines()) == 1
    for word in words:
        assert word in outcome.err


@contextlib.contextmanager
def limit_file_size(size: int) -> Iterator[None]:
    """Limit the size of files that this process writes, to simulate a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def run_hseval_process(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``hseval`` with these arguments in a separate process; ``options`` go to :func:`subprocess.run`."""
    command = [sys.executable, "-m", "hseval", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)


def run_on_terminal(command: Sequence[Any], *, columns: int = 80, env: Mapping[str, str] = os.environ) -> Outcome:
    """Run a command on a pseudo-terminal of 80 columns; what it prints, in color, is all in ``out``."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in env.items() if name != "COLUMNS"} | {"TERM": "xterm"}
    with subprocess.Popen(
        [*map(str, command)], stdin=follower, stdout=follower, stderr=follower, env=environment
    ) as process:
        os.close(follower)
        printed = b"".join(iter(lambda: _read_terminal(leader), b""))
    os.close(leader)
    return Outcome(process.returncode, printed.decode().replace("\r\n", "\n"), "")


def _read_terminal(leader: int) -> bytes:
    try:
        return os.read(leader, 65536)
    except OSError:  # raised by a pseudo-terminal when the other side is closed
        return b""


def strip_styles(text: str) -> str:
    """Return printed text without its colors and what the progress bar wrote."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.replace("\r", ""))
