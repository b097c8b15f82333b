"""One attempt on a damaged input: a command run in this process, its output, and what is wrong with it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tests.helpers.commands import Outcome

ResultT = TypeVar("ResultT")

FAULTS = ("traceback", "wrong number", "hang", "crash", "memory", "untidy")  # what must not come of an input
RESULTS = ("refused", "read", *FAULTS)


@dataclasses.dataclass(frozen=True)
class Attempt:
    """What came of one damaged input.

    Attributes:
        command: that read it, or what was called.
        result: one of ``RESULTS``; untidy: more than one line of refusal, library warnings, files left behind.
        detail: what was wrong.
    """

    command: str
    result: str
    detail: str = ""


def run_in_process(*arguments: str, variables: Mapping[str, str] | None = None) -> Outcome:
    """Run a command by its entry point in this process; what libraries write to stdout and stderr is caught, too."""
    from hseval.cli.main import main

    os.environ.update(variables or {})
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        with _redirect("stdout", 1, out), _redirect("stderr", 2, err), warnings.catch_warnings():
            for category in (RuntimeWarning, UserWarning, ResourceWarning):
                warnings.simplefilter("always", category)
            status = _call_main(["hseval", *arguments], main)
        return Outcome(status, out.read_text(errors="replace"), err.read_text(errors="replace"))


def call_in_process(function: Callable[..., ResultT], *arguments: Any) -> ResultT:
    """Return what a function returns; what it and the libraries print is discarded."""
    with _redirect("stdout", 1, Path(os.devnull)), _redirect("stderr", 2, Path(os.devnull)):
        return function(*arguments)


def assess(
    command: str, outcomes: Sequence[Outcome], folder: Path, wrong: str = "", *, status_1: bool = False
) -> Attempt:
    """Return what came of an input by the commands' output, the files that are left, and what is wrong with numbers.

    A refusal is exit status 2 with one line on stderr, nothing on stdout, and no file in ``folder``.
    """
    last = outcomes[-1]
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    text = "".join(outcome.out + outcome.err for outcome in outcomes)
    is_refused = last.status == 2
    checks = (
        ("traceback", "Traceback (most recent call last)" in text),
        ("memory", "out of memory" in text),
        ("traceback", last.status not in ((0, 1, 2) if status_1 else (0, 2))),
        ("wrong number", bool(wrong)),
        ("untidy", is_refused and (len(last.err.splitlines()) != 1 or bool(last.out) or bool(left))),
        ("untidy", not is_refused and any(outcome.err for outcome in outcomes)),
        ("untidy", any(name.endswith((".part", ".probe")) for name in left)),
        ("untidy", any(character in text for character in "\x1b\x07\x00\x9b")),
    )
    for result, has_failed in checks:
        if has_failed:
            detail = f"{wrong} status {last.status}, stderr {last.err[-700:]!r}, stdout {last.out[:80]!r}, files {left}"
            return Attempt(command, result, detail.strip())
    return Attempt(command, "refused" if is_refused else "read")


def _call_main(arguments: list[str], main: object) -> int:
    assert callable(main)
    sys.argv = arguments
    status = 1
    try:
        main()
    except SystemExit as stop:
        status = int(stop.code or 0)
    except BaseException:  # noqa: BLE001 - any other exception is a fault, which the traceback shows
        traceback.print_exc()
    return status


@contextlib.contextmanager
def _redirect(name: str, descriptor: int, path: Path) -> Iterator[None]:
    """Let ``sys.stdout`` or ``sys.stderr``, and what C libraries write there, go to a file."""
    stream, saved = getattr(sys, name), os.dup(descriptor)
    target = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.dup2(target, descriptor)
    os.close(target)
    setattr(sys, name, os.fdopen(descriptor, "w", encoding="utf-8", closefd=False))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            getattr(sys, name).close()  # what is buffered is written
        setattr(sys, name, stream)
        os.dup2(saved, descriptor)
        os.close(saved)
