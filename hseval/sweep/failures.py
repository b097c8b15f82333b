"""What goes wrong in a run: a fault of its own, which is reported and skipped, or a full disk, which ends all."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from hseval.utils.errors import HsevalError, format_error

DISK_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT}
DISK_FULL_MESSAGES = ("No space left on device", "os error 28", "errno = 28", "Disk quota exceeded")
MIN_FREE_BYTES = 64 << 10  # bytes below which whatever failed failed because of the disk


class StepError(HsevalError):
    """A step of a run failed; ``guard_step`` says which one."""

    def __init__(self, step: str, message: str) -> None:
        super().__init__(message)
        self.step = step


class DiskFullError(HsevalError):
    """There is no room for what a sweep leaves: no run after this one would fare better."""


@contextlib.contextmanager
def guard_step(name: str, folder: Path) -> Iterator[None]:
    """Turn what goes wrong in a step into :class:`StepError`, or :class:`DiskFullError`; Ctrl-C goes through."""
    try:
        yield
    except (StepError, DiskFullError):
        raise
    except (Exception, SystemExit) as error:  # a third party's generator may raise anything
        if is_disk_full(error, folder):
            raise DiskFullError(f"{folder}: the disk is full ({format_error(error)})") from error
        raise StepError(name, " ".join(format_error(error).split())) from error


def is_disk_full(error: BaseException, folder: Path) -> bool:
    """Say whether a full disk is behind an error: by its number or words, those of its causes, or the room left."""
    seen: BaseException | None = error
    while seen is not None:
        if (isinstance(seen, OSError) and seen.errno in DISK_FULL_ERRNOS) or any(
            word in str(seen) for word in DISK_FULL_MESSAGES
        ):
            return True
        seen = seen.__cause__ or seen.__context__
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free < MIN_FREE_BYTES
    return False
