"""Hashes of files: a part's own, and those by which a checkpoint is known again."""

from __future__ import annotations

import hashlib
from pathlib import Path

HASHED = {".safetensors", ".json"}  # what decides the cubes; a log may go on growing


def sha256_of(path: Path) -> str | None:
    """Return a file's sha256; None where it is gone or can't be read."""
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError:
        return None


def checkpoint_hashes(path: Path) -> dict[str, str | None]:
    """Return the sha256 of a checkpoint's weights and records, by their path in its folder."""
    if path.is_file():
        return {path.name: sha256_of(path)}
    files = sorted(file for file in path.rglob("*") if file.suffix in HASHED and file.is_file())
    return {file.relative_to(path).as_posix(): sha256_of(file) for file in files}
