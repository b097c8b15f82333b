"""A file lock that is released when its process ends, even by kill -9."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from hseval.utils.errors import HsevalError

LOCKED_ERRNOS = {errno.EACCES, errno.EAGAIN}  # raised where another process holds the lock


@contextlib.contextmanager
def hold_lock(path: Path, *, message: str) -> Iterator[None]:
    """Hold the lock file ``path``, creating its folder. The holder may remove the file and the folder.

    Raises:
        HsevalError: another process holds the lock; the error text is ``message``.
    """
    handle = _acquire(path, message)
    try:
        yield
    finally:
        os.close(handle)


def _acquire(path: Path, message: str) -> int:
    while True:
        path.parent.mkdir(exist_ok=True)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # the previous holder has just removed the folder
            continue
        if not _try_lock(handle):
            os.close(handle)
            raise HsevalError(message)
        if _is_same_file(handle, path):
            return handle
        os.close(handle)  # the previous holder has just removed this file, so its lock excludes nobody


def _try_lock(handle: int) -> bool:
    """Return whether this process got the lock; True where the system has no file locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        # Not flock: a child that outlives its killed parent would still hold that.
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in LOCKED_ERRNOS
    return True


def _is_same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
