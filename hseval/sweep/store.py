"""Where a sweep keeps what: one folder a stage, a fit and a run, named by its key, each with a record of what is done.

``OUT/stages/KEY``, ``OUT/fits/KEY``: ``files/`` is what the generator left, ``done.json`` says that it is whole.
``OUT/runs/KEY``: ``samples.h5``, ``timing.json``, ``report.json``, ``run.json`` (written last).
A record is written whole or not at all, after what it speaks of: what a kill leaves is done again, or gone on with.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hseval.core.report import to_jsonable
from hseval.utils.atomic_files import write_text
from hseval.utils.errors import HsevalError
from hseval.utils.file_lock import hold_lock

DONE_FILE, FAILED_FILE, LOCK_FILE, FILES_FOLDER = "done.json", "failed.json", "lock", "files"
POLL_SECONDS = 0.2


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record, whole or not at all."""
    write_text(path, json.dumps(to_jsonable(record), indent=1) + "\n")


def read_record(path: Path) -> dict[str, Any] | None:
    """Return a record; None where there is none that can be read: what it spoke of is done again then."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return None


@contextlib.contextmanager
def wait_for_lock(folder: Path, *, poll_seconds: float = POLL_SECONDS) -> Iterator[None]:
    """Hold a folder's lock, once whoever holds it has ended (asked ``poll_seconds`` so many seconds); the folder is made."""
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
    """Say whether another process works in a folder."""
    if not (folder / LOCK_FILE).exists():
        return False
    try:
        with hold_lock(folder / LOCK_FILE, message="busy"):
            return False
    except HsevalError:
        return True
