"""Atomic file writes: to a temporary name in the same folder, then renamed."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import platform
import secrets
from collections.abc import Iterator
from pathlib import Path

from hseval.utils.errors import HsevalError

WRITE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


@contextlib.contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to ``path`` on success, remove it on any failure.

    Raises:
        HsevalError: the folder can't be written, or the disk is full.
    """
    target = Path(path).resolve()  # follow links
    check_writable(target)
    _remove_stale_parts(target)
    temporary = target.with_name(f".{target.name}.{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.chmod(0o666 & ~get_umask())  # some libraries make files readable by the owner only
        temporary.replace(target)
    except OSError as error:
        if error.errno not in WRITE_ERRNOS:  # an error of reading, raised inside the block: the caller reports it
            raise
        raise HsevalError(f"{target}: could not be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file atomically."""
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise HsevalError unless a file can be written at ``path``; called before long work starts."""
    target = Path(path)
    if target.is_dir():
        raise HsevalError(f"{target}: is a folder; give the name of a file")
    if target.exists() and not target.is_file():
        raise HsevalError(f"{target}: is a device or pipe; give the name of a regular file")
    folder = target.parent
    if not folder.is_dir():
        raise HsevalError(f"{target}: its folder {str(folder)!r} does not exist")
    if not os.access(folder, os.W_OK) or (target.exists() and not os.access(target, os.W_OK)):
        raise HsevalError(f"{target}: no permission to write there")
    _check_by_writing(folder, target)


def create_folder(path: Path) -> bool:
    """Create a folder unless another process has done so; return whether it is new.

    Raises:
        HsevalError: its parent is missing or not writable.
    """
    try:
        path.mkdir()
    except FileExistsError:
        return False
    except OSError:
        check_writable(path)  # says why not
        raise
    return True


def _remove_stale_parts(target: Path) -> None:
    """Remove temporary files for ``target`` of processes on this machine that no longer run."""
    for partial in target.parent.glob(f".{glob.escape(target.name)}.{glob.escape(platform.node())}-*.part"):
        process = partial.name.rsplit("-", 2)[-2]
        if process.isdigit() and not _is_alive(int(process)):
            with contextlib.suppress(OSError):
                partial.unlink()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def get_umask() -> int:
    """Return the permissions that new files do not get."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _check_by_writing(folder: Path, target: Path) -> None:
    # os.access misses read-only mounts and, for root, most missing permissions: only a real write shows them.
    probe = folder / f".{secrets.token_hex(6)}.probe"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise HsevalError(f"{target}: can't be written there: {error.strerror}") from error
