"""Files that a user names, and files beside them: only regular ones are opened, and text is UTF-8."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hseval.utils.errors import HsevalError, format_reason

_KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}  # fmt: skip


def check_regular_file(path: str | os.PathLike[str]) -> None:
    """Raise HsevalError if a path leads to something else than a file: reading a pipe or a device may never end.

    Links are followed. A missing file passes; opening it says what is wrong.
    """
    if Path(path).exists() and not Path(path).is_file():
        raise HsevalError(f"{path}: is {find_file_fault(path)}; a regular file expected")


def find_file_fault(path: str | os.PathLike[str]) -> str | None:
    """Return why a path can't be opened as a file, such as ``"a link that leads nowhere"``; None: it can."""
    try:
        kind = stat.S_IFMT(Path(path).stat().st_mode)
    except OSError as error:
        return "a link that leads nowhere" if Path(path).is_symlink() else format_reason(error)
    if kind != stat.S_IFREG:
        return _KINDS.get(kind, "a special file")
    return None if os.access(path, os.R_OK) else "permission denied"


def identify_file(path: str | os.PathLike[str] | int) -> tuple[int, ...] | None:
    """Return what changes when a file, or an open one, is replaced or written to; None: it is missing."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a path, or the number of an open file
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def check_unchanged(path: Path, before: tuple[int, ...] | None, after: tuple[int, ...] | None) -> None:
    """Raise HsevalError if a file was not the same before and after it was read."""
    if before != after:
        raise HsevalError(f"{path}: has changed since it was opened; run it again when nothing writes it")


def read_text(path: str | os.PathLike[str], *, max_bytes: int | None = None) -> str:
    """Return the text of a UTF-8 file, without a byte order mark.

    Raises:
        HsevalError: it is no regular file, or longer than ``max_bytes``.
        OSError: it can't be read.
        ValueError: it is not UTF-8 text.
    """
    check_regular_file(path)
    size = Path(path).stat().st_size
    if max_bytes is not None and size > max_bytes:
        raise HsevalError(f"{path}: has {size} bytes; at most {max_bytes} expected")
    data = Path(path).read_bytes()
    if b"\0" in data:
        raise ValueError("not UTF-8 text: it has null bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text: byte {data[error.start]:#x} at {error.start}") from None
