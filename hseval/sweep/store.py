"""Files of a sweep: one folder for each stage, fit and run, named by its key, with a record of what is done.

``OUT/stages/KEY``, ``OUT/fits/KEY``: ``files/`` has the generator's files, ``done.json`` marks them as complete.
``OUT/runs/KEY``: ``samples.h5``, ``timing.json``, ``report.json``, ``done.json`` (written last).
A record is written atomically after the files that it describes: what a kill interrupts is repeated or resumed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict, TypeVar

from hseval.core.report import to_jsonable
from hseval.utils.atomic_files import write_text
from hseval.utils.errors import HsevalError
from hseval.utils.file_lock import hold_lock
from hseval.utils.structured_files import convert_record, load_json

RecordT = TypeVar("RecordT")

DONE_FILE, FAILED_FILE, LOCK_FILE, FILES_FOLDER = "done.json", "failed.json", "lock", "files"
POLL_SECONDS = 0.2


class FailureRecord(TypedDict):
    """A step that failed."""

    step: str
    error: str


class FitRecord(TypedDict):
    """A fit that is done, and how long it took."""

    seconds: float


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record atomically, with its checksum."""
    content = to_jsonable(record)
    write_text(path, json.dumps({"sha256": _compute_checksum(content), "record": content}, indent=1) + "\n")


def read_record(path: Path, record_type: type[RecordT]) -> RecordT | None:
    """Return a record; None if it is missing, damaged or of another form, so that its step is repeated."""
    try:
        stored = load_json(path, "a record")
        if not isinstance(stored, dict) or stored.get("sha256") != _compute_checksum(stored.get("record")):
            return None
        return convert_record(stored["record"], record_type, path)
    except HsevalError:
        return None


def _compute_checksum(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def wait_for_lock(folder: Path, *, poll_seconds: float = POLL_SECONDS) -> Iterator[None]:
    """Create a folder and hold its lock; wait for another holder, polling every ``poll_seconds``."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(hold_lock(folder / LOCK_FILE, message="busy"))
                break
            except HsevalError:
                time.sleep(poll_seconds)
        yield


def is_in_use(folder: Path) -> bool:
    """Return whether another process works in a folder."""
    if not (folder / LOCK_FILE).exists():
        return False
    try:
        with hold_lock(folder / LOCK_FILE, message="busy"):
            return False
    except HsevalError:
        return True
