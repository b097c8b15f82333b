"""What the files of a set hold, as one hash; remembered by the files' stamps, so that a large set is read once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from pathlib import Path
from typing import Any

from hseval.errors import HsevalError
from hseval.files import write_text
from hseval.hashes import sha256_of
from hseval.identity import RACY_SECONDS

FILE = "data.json"


def content_of(path: Path, folder: Path) -> str:
    """Return the sha256 of a file, or of a folder's files with their names.

    Args:
        path: of the set.
        folder: of the sweep, where hashes are remembered; what was changed within the last two seconds is not.

    Raises:
        HsevalError: there is no such file or folder, or it can't be read.
    """
    known = _read(folder / FILE)
    files = _files(path)
    found: dict[str, Any] = {}
    for file in files:
        stamp = _stamp(file)
        before = known.get(str(file.absolute()))
        if before is not None and stamp is not None and before.get("stamp") == stamp:
            digest = before["sha256"]
        else:
            digest = sha256_of(file)
        if digest is None:
            raise HsevalError(f"{file}: can't be read")
        found[str(file.absolute())] = {"stamp": stamp, "sha256": digest}
    if any(known.get(name) != entry for name, entry in found.items()):
        write_text(folder / FILE, json.dumps(known | found, indent=1) + "\n")
    if path.is_file():
        return str(found[str(path.absolute())]["sha256"])
    named = [(file.relative_to(path).as_posix(), found[str(file.absolute())]["sha256"]) for file in files]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    if not path.exists():
        raise HsevalError(f"{path}: there is no such file or folder")
    return [path]


def _stamp(file: Path) -> list[int] | None:
    stat = file.stat()
    if time.time() - stat.st_ctime_ns / 1e9 < RACY_SECONDS:
        return None
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _read(path: Path) -> dict[str, Any]:
    """Return what is remembered; nothing where the file is missing or damaged: it can be found out again."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and all(isinstance(each, dict) and "sha256" in each for each in found.values()):
            return found
    return {}
