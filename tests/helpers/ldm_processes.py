"""``hseval`` as typed, in processes that can be killed.

They are forked from one that has imported what takes seconds to import and has computed nothing, so that a command
costs what its work costs. A process can be told the moment of its own death: then no test depends on how fast the
machine is.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.helpers.commands import Outcome

Moment = tuple[str, int, signal.Signals]
TIMEOUT_S = 300
_context = get_context("forkserver")
_context.set_forkserver_preload(
    [
        "torch._dynamo",  # what an optimiser imports when it is made
        "diffusers.models.unets.unet_2d",
        "hseval.cli.main",
        "hseval.builtin",
        "hseval_ldm.generator",
        "hseval_ldm.training.run",
        "matplotlib.figure",
        "scipy.stats",
    ]
)


def hseval_forked(
    *arguments: Any,
    at: tuple[str, int] | None = None,
    signalled: signal.Signals = signal.SIGKILL,
    until: Path | None = None,
) -> Outcome:
    """Run a command in a process of its own.

    Args:
        arguments: as typed.
        at: stage and step; when the line of that step is in the journal, the process gets a signal.
        signalled: which one.
        until: file that, once it is there, has the process killed.

    Returns:
        Its exit status (minus the signal's number, if that ended it) and what it printed.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        moment = None if at is None else (*at, signalled)
        given = ([str(argument) for argument in arguments], out, err)
        process = _context.Process(target=_command, args=given, kwargs={"moment": moment})
        process.start()
        give_up = time.monotonic() + TIMEOUT_S
        while process.exitcode is None:
            process.join(TIMEOUT_S if until is None else 0.02)
            if until is not None and until.exists():
                process.kill()
            elif time.monotonic() > give_up:
                process.kill()
                raise TimeoutError(f"hseval {' '.join(map(str, arguments))}: {out.read_text()} {err.read_text()}")
        return Outcome(process.exitcode, out.read_text(), err.read_text())


def _command(arguments: list[str], out: Path, err: Path, *, moment: Moment | None) -> None:
    import hseval.sampling.chunks
    from hseval.cli.main import main

    hseval.sampling.chunks.CHUNK_SECONDS = 0.1
    for path, stream in ((out, sys.stdout), (err, sys.stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream.fileno())
    sys.argv = ["hseval", *arguments]
    if moment is not None:
        _signal_at(*moment)
    main()


def _signal_at(stage: str, step: int, number: signal.Signals) -> None:
    from hseval_ldm.training.metrics_log import MetricsLog

    write = MetricsLog.write

    def write_and_signal(self: MetricsLog, done: int, figures: Any) -> None:
        write(self, done, figures)
        if (self.stage, done) == (stage, step):
            os.kill(os.getpid(), number)

    MetricsLog.write = write_and_signal  # type: ignore[method-assign]
