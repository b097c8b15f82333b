"""What the keys of a sweep's results cover: contents of sets, and how files are recognized."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest

from hseval.data.content_hash import compute_key
from hseval.sweep.keys import CONTENT_CACHE_FILE, StepKey, hash_path_content
from hseval.sweep.store import read_record, write_record
from hseval.utils.errors import HsevalError


def compute_digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_file_is_its_bytes_and_a_folder_the_names_and_bytes_of_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "masks").mkdir(parents=True)
    (folder / "b.npy").write_bytes(b"two")
    (folder / "masks" / "a.png").write_bytes(b"one")
    assert hash_path_content(folder / "b.npy", tmp_path) == compute_digest(b"two")
    listed = [["b.npy", compute_digest(b"two")], ["masks/a.png", compute_digest(b"one")]]
    assert hash_path_content(folder, tmp_path) == compute_digest(json.dumps(listed).encode())
    with pytest.raises(HsevalError, match="missing: there is no such file or folder"):
        hash_path_content(folder / "missing", tmp_path)


def test_a_file_is_hashed_again_unless_it_has_not_changed_for_two_seconds(tmp_path: Path) -> None:
    path, cache = tmp_path / "train.h5", tmp_path / CONTENT_CACHE_FILE
    path.write_bytes(b"first")
    hash_path_content(path, tmp_path)
    assert json.loads(cache.read_text())["record"][str(path)] == {"stamp": None, "sha256": compute_digest(b"first")}
    time.sleep(2.1)
    hash_path_content(path, tmp_path)
    entry = json.loads(cache.read_text())["record"][str(path)]
    stat = path.stat()
    assert entry["stamp"] == [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    write_record(cache, {str(path): {**entry, "sha256": "as cached"}, "another": entry})
    assert hash_path_content(path, tmp_path) == "as cached"
    assert "another" in json.loads(cache.read_text())["record"]
    path.write_bytes(b"other")  # of the same size
    assert hash_path_content(path, tmp_path) == compute_digest(b"other")
    assert "another" in json.loads(cache.read_text())["record"]


def test_a_step_s_key_is_the_first_sixteen_digits_of_its_inputs_key() -> None:
    inputs = {"options": {"b": 1, "a": None}, "seed": 3}
    assert StepKey(inputs).digest == compute_key(inputs)[:16]
    assert StepKey({"seed": 3, "options": {"a": None, "b": 1}}).digest == StepKey(inputs).digest
    assert StepKey({**inputs, "seed": 4}).digest != StepKey(inputs).digest


@pytest.mark.parametrize("fault", [("as cached", "as forged"), ("record", "content"), ("{", "[{")])
def test_a_damaged_record_counts_as_missing(tmp_path: Path, fault: tuple[str, str]) -> None:
    path = tmp_path / "done.json"
    write_record(path, {"seconds": 2.5, "of": {"x": "as cached"}})
    assert read_record(path, dict[str, Any]) == {"seconds": 2.5, "of": {"x": "as cached"}}
    path.write_text(path.read_text().replace(*fault))
    assert read_record(path, dict[str, Any]) is None
