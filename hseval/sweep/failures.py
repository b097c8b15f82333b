"""What goes wrong in a run: a fault of its own, which is reported and skipped, or a full disk, which ends all."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from hseval.utils.errors import HsevalError, first_line

FULL = {errno.ENOSPC, errno.EDQUOT}
IN_WORDS = ("No space left on device", "os error 28", "errno = 28", "Disk quota exceeded")
LEAST_FREE = 64 << 10  # bytes below which whatever failed failed because of the disk


class StepFailed(HsevalError):  # noqa: N818 - what happened, not a fault of hseval
    """A step of a run failed; ``step`` says which one."""

    def __init__(self, step: str, message: str) -> None:
        super().__init__(message)
        self.step = step


class DiskFull(HsevalError):  # noqa: N818
    """There is no room for what a sweep leaves: no run after this one would fare better."""


@contextlib.contextmanager
def step(name: str, folder: Path) -> Iterator[None]:
    """Turn what goes wrong in a step into :class:`StepFailed`, or :class:`DiskFull`; Ctrl-C goes through."""
    try:
        yield
    except (StepFailed, DiskFull):
        raise
    except (Exception, SystemExit) as error:  # a third party's generator may raise anything
        if is_full(error, folder):
            raise DiskFull(f"{folder}: the disk is full ({first_line(error)})") from error
        raise StepFailed(name, " ".join(first_line(error).split())) from error


def is_full(error: BaseException, folder: Path) -> bool:
    """Say whether a full disk is behind an error: by its number or words, those of its causes, or the room left."""
    seen: BaseException | None = error
    while seen is not None:
        if (isinstance(seen, OSError) and seen.errno in FULL) or any(word in str(seen) for word in IN_WORDS):
            return True
        seen = seen.__cause__ or seen.__context__
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free < LEAST_FREE
    return False
