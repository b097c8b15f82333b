"""SHA-256 hashes of single files and of checkpoints."""

from __future__ import annotations

import hashlib
from pathlib import Path

HASHED_SUFFIXES = {".safetensors", ".json"}  # the files that decide the cubes; logs may still grow


def compute_sha256(path: Path) -> str | None:
    """Return a file's sha256; None where it is missing or can't be read."""
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError:
        return None


def compute_checkpoint_hashes(path: Path) -> dict[str, str | None]:
    """Return the sha256 of a checkpoint's weights and JSON files, by path relative to its folder."""
    if path.is_file():
        return {path.name: compute_sha256(path)}
    files = sorted(file for file in path.rglob("*") if file.suffix in HASHED_SUFFIXES and file.is_file())
    return {file.relative_to(path).as_posix(): compute_sha256(file) for file in files}
