"""Disk space, claimed before it is needed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

MARGIN = 1 << 20  # for what HDF5 writes of its own at the beginning and end of a file
OVERHEAD = 1 << 14  # and beside each addition (indices of chunks)


class DiskReserve:
    """Keeps a file longer than what its library has written so far, so that no write of it meets a full disk.

    HDF5 does not survive one: errors in its caches are swallowed until the file is closed, and may end the
    process there. A claim that fails is an ordinary OSError before anything is written.

    Args:
        path: the file, which the library has just created.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.size = path, 0
        self._allocate(MARGIN)

    def reserve(self, size: int) -> None:
        """Claim ``size`` more bytes.

        Raises:
            OSError: the disk, a quota or a limit does not allow it.
        """
        self._allocate(size + OVERHEAD)

    def release(self, used: int) -> None:
        """Cut the file to what the library used, once it has closed the file."""
        if self.path.stat().st_size > used:
            os.truncate(self.path, used)

    def _allocate(self, size: int) -> None:
        if not hasattr(os, "posix_fallocate"):  # macOS, Windows: the library's own error has to do
            return
        with self.path.open("r+b") as handle:
            try:
                os.posix_fallocate(handle.fileno(), self.size, size)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                    raise
        self.size += size
