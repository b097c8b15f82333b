"""``hseval`` commands in processes that can be killed.

They are forked from a process that has done the slow imports and nothing else, so that a command takes only the time of
its work. A process can signal itself at a given step, so that no test depends on the speed of the machine.
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
        "torch._dynamo",  # imported by optimizers when they are created
        "diffusers.models.unets.unet_2d",
        "hseval.cli.main",
        "hseval.builtin",
        "hseval_ldm.generator",
        "hseval_ldm.training.run",
        "matplotlib.figure",
        "scipy.stats",
    ]
)


def run_hseval_forked(
    *arguments: Any,
    at: tuple[str, int] | None = None,
    signal_number: signal.Signals = signal.SIGKILL,
    until: Path | None = None,
) -> Outcome:
    """Run a command in a process of its own.

    Args:
        arguments: of the command line.
        at: stage and step; the process gets a signal once the line of that step is in the metrics log.
        signal_number: of that signal.
        until: the process is killed once this file exists.

    Returns:
        Its exit status (minus the signal's number, if a signal ended it) and its output.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        moment = None if at is None else (*at, signal_number)
        process_arguments = ([str(argument) for argument in arguments], out, err)
        process = _context.Process(target=_run_command, args=process_arguments, kwargs={"moment": moment})
        process.start()
        deadline = time.monotonic() + TIMEOUT_S
        while process.exitcode is None:
            process.join(TIMEOUT_S if until is None else 0.02)
            if until is not None and until.exists():
                process.kill()
            elif time.monotonic() > deadline:
                process.kill()
                raise TimeoutError(f"hseval {' '.join(map(str, arguments))}: {out.read_text()} {err.read_text()}")
        return Outcome(process.exitcode, out.read_text(), err.read_text())


def _run_command(arguments: list[str], out: Path, err: Path, *, moment: Moment | None) -> None:
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
    from hseval.training.metrics_log import MetricsLog

    write = MetricsLog.write

    def write_and_signal(self: MetricsLog, logged_step: int, metrics: Any) -> None:
        write(self, logged_step, metrics)
        if (self.stage, logged_step) == (stage, step):
            os.kill(os.getpid(), number)

    MetricsLog.write = write_and_signal  # type: ignore[method-assign]
