"""A lock on a file that dies with the process that holds it, after kill -9 too."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from hseval.utils.errors import HsevalError

LOCKED_ERRNOS = {errno.EACCES, errno.EAGAIN}  # what a lock that another process holds is reported as


@contextlib.contextmanager
def hold_lock(path: Path, *, message: str) -> Iterator[None]:
    """Hold the lock file ``path``; its folder is made. Whoever holds it may remove file and folder.

    Raises:
        HsevalError: ``message``, where another process holds it.
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
        except FileNotFoundError:  # its last holder has just removed the folder
            continue
        if not _try_lock(handle):
            os.close(handle)
            raise HsevalError(message)
        if _is_same_file(handle, path):
            return handle
        os.close(handle)  # the lock of a file that its last holder has just removed keeps nobody out


def _try_lock(handle: int) -> bool:
    """Say whether the lock is ours; where a system or its file system has no locks, it is."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        # Not flock: a child that outlives its killed parent would go on holding that.
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in LOCKED_ERRNOS
    return True


def _is_same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
