"""SHA-256 hashes of single files and of checkpoints."""

from __future__ import annotations

import hashlib
from pathlib import Path

from hseval.utils.errors import HsevalError

HASHED_SUFFIXES = {".safetensors", ".json"}  # the files that decide the cubes; logs may still grow


def compute_sha256(path: Path) -> str:
    """Return a file's sha256, in hex.

    Raises:
        OSError: it is missing or can't be read.
    """
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def compute_checkpoint_hashes(path: Path) -> dict[str, str]:
    """Return the sha256 of a checkpoint's weights and JSON files, by path relative to its folder.

    Raises:
        HsevalError: one of them can't be read.
    """
    try:
        if path.is_file():
            return {path.name: compute_sha256(path)}
        files = sorted(file for file in path.rglob("*") if file.suffix in HASHED_SUFFIXES and file.is_file())
        return {file.relative_to(path).as_posix(): compute_sha256(file) for file in files}
    except OSError as error:
        raise HsevalError(f"{error.filename}: can't be read: {error.strerror}") from error
