"""Failures of a run: its own errors, which are reported and skipped, and a full disk, which ends the sweep."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from hseval.utils.errors import HsevalError, format_error

DISK_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT}
DISK_FULL_MESSAGES = ("No space left on device", "os error 28", "errno = 28", "Disk quota exceeded")
MIN_FREE_BYTES = 64 << 10  # with fewer free bytes, any failure is attributed to the disk


class StepError(HsevalError):
    """A step of a run failed; ``step`` is its name."""

    def __init__(self, step: str, message: str) -> None:
        super().__init__(message)
        self.step = step


class DiskFullError(HsevalError):
    """The disk is full: every later run of the sweep would fail, too."""


@contextlib.contextmanager
def guard_step(name: str, folder: Path) -> Iterator[None]:
    """Turn any exception of a step into :class:`StepError` or :class:`DiskFullError`, except Ctrl-C."""
    try:
        yield
    except (StepError, DiskFullError):
        raise
    except (Exception, SystemExit) as error:  # a third party's generator may raise anything
        if is_disk_full(error, folder):
            raise DiskFullError(f"{folder}: the disk is full ({format_error(error)})") from error
        raise StepError(name, " ".join(format_error(error).split())) from error


def is_disk_full(error: BaseException, folder: Path) -> bool:
    """Return whether a full disk caused an error, by its errno or message, those of its causes, or the free space."""
    cause: BaseException | None = error
    while cause is not None:
        if (isinstance(cause, OSError) and cause.errno in DISK_FULL_ERRNOS) or any(
            message in str(cause) for message in DISK_FULL_MESSAGES
        ):
            return True
        cause = cause.__cause__ or cause.__context__
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free < MIN_FREE_BYTES
    return False
