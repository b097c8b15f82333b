"""Checks of the files that a command writes, before any work."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hseval.utils.atomic_files import check_writable
from hseval.utils.errors import HsevalError


def check_output(option: str, path: str | Path, inputs: Iterable[str | Path | None]) -> None:
    """Refuse an output file that can't be written or that is an input.

    Raises:
        HsevalError: the option, the file, and why.
    """
    check_writable(path)
    for source in inputs:
        if source is not None and Path(source).exists() and Path(path).resolve() == Path(source).resolve():
            raise HsevalError(f"{option} {path}: is an input of this command; name another file")


def check_new_file(out: Path, *, force: bool) -> None:
    """Refuse an output file that can't be written, or that exists unless it is to be overwritten.

    Raises:
        HsevalError: the file, and why.
    """
    check_parents(out)
    check_writable(out)
    if out.exists() and not force:
        raise HsevalError(f"{out}: exists already; name another file, or overwrite it with --force")


def check_parents(out: Path) -> None:
    """Raise HsevalError if a parent of ``out`` is a file."""
    for parent in out.parents:
        if parent.exists() and not parent.is_dir():
            raise HsevalError(f"--out {out}: {str(parent)!r} is a file, not a folder")
