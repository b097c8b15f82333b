"""Disk space: checked before long work starts, and reserved before it is needed."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from hseval.utils.errors import HsevalError

MARGIN = 1 << 20  # for the metadata that HDF5 writes at the beginning and end of a file
OVERHEAD = 1 << 14  # for the metadata of each addition (chunk indices)


class DiskReserve:
    """Keeps a file longer than what its library has written so far, so that no write hits a full disk.

    HDF5 does not survive a full disk: errors in its caches surface only when the file is closed, and may end the
    process there. A failed reservation is an ordinary OSError before anything is written.

    Args:
        path: the file that the library has just created.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.size = path, 0
        self._allocate(MARGIN)

    def reserve(self, size: int) -> None:
        """Reserve ``size`` more bytes.

        Raises:
            OSError: the disk, a quota or a limit does not allow it.
        """
        self._allocate(size + OVERHEAD)

    def release(self, used: int) -> None:
        """Truncate the file to the bytes that the library used; call it after the library has closed the file."""
        if self.path.stat().st_size > used:
            os.truncate(self.path, used)

    def _allocate(self, size: int) -> None:
        if not hasattr(os, "posix_fallocate"):  # macOS, Windows: rely on the library's own error
            return
        with self.path.open("r+b") as handle:
            try:
                os.posix_fallocate(handle.fileno(), self.size, size)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                    raise
        self.size += size


def check_free_space(path: Path, size: int) -> None:
    """Raise HsevalError unless ``size`` more bytes fit beside ``path``; called before long work starts."""
    folder = path.resolve().parent
    free = shutil.disk_usage(folder).free
    if size > free:
        message = f"{path}: needs {size / 1e9:,.1f} GB, but {folder} has {free / 1e9:,.1f} GB free"
        raise HsevalError(message) from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # by which callers know it
