"""Hashes of files are hashlib's; a file that can't be read is an error."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from hseval.utils.hashing import compute_checkpoint_hashes, compute_sha256


def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(bytes(range(256)) * 5000)
    assert compute_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(FileNotFoundError):
        compute_sha256(tmp_path / "missing")


def test_a_checkpoint_is_hashed_by_the_files_that_decide_the_cubes(tmp_path: Path) -> None:
    for name in ("run.safetensors", "config.json", "log.txt"):
        (tmp_path / name).write_text(name)
    expected = {name: compute_sha256(tmp_path / name) for name in ("config.json", "run.safetensors")}
    assert compute_checkpoint_hashes(tmp_path) == expected
    assert compute_checkpoint_hashes(tmp_path / "log.txt") == {"log.txt": compute_sha256(tmp_path / "log.txt")}
    assert compute_checkpoint_hashes(tmp_path / "missing") == {}
