"""The feature cache, keyed by content: an SQLite file, so that an entry is stored completely or not at all.

A key covers the cube's content and masks, the extractor's name, version, options and fingerprint, and the
wavelengths: when any of them changes, so does the key, and no stale entry can be returned. A checksum of key and value
stands in every entry, so that no damaged one can be returned either.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hseval.utils.errors import HsevalError
from hseval.utils.plural import format_count

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Columns = Mapping[str, NDArray[Any]]

CubeHashes = tuple[str, str, str]  # hashes of a cube's pixels, of all its masks, of its field of view

FILE_NAME = "rows-4.sqlite"  # the number is raised with the format; files of other numbers are ignored
SCHEMA = """
create table if not exists rows (key blob primary key, entry blob not null) without rowid;
create table if not exists stamps (key blob primary key, entry blob not null) without rowid;
"""
BATCH_SIZE = 500  # keys a query: old builds of SQLite allow 999 variables
LOCK_SECONDS = 10.0  # how long to wait for another process's lock, once, before working without the cache
# Against faults of disks, not against forgers. Not a CRC: zeroed bytes have the right one, or one fault in four billion
# passes. BLAKE2b hashes about 1 GB/s, and an entry has some 10 kB.
CHECKSUM_BYTES = 16
# The write-ahead log shares memory between processes, which has to be that of one machine. Network file systems are too
# many to list; on an unknown one the rollback journal costs some milliseconds a transaction.
LOCAL_FILE_SYSTEMS = {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "vfat", "xfs", "zfs"}
# What SQLite reports of a file that is no cache of this version: other tables, columns or types, damaged pages.
DAMAGE_CODES = {
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_SCHEMA,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_NOTADB,
}


def get_cache_path() -> Path:
    """Return the cache file: in the folder ``$HSEVAL_CACHE``, else in the user's cache folder."""
    import platformdirs

    folder = os.environ.get("HSEVAL_CACHE") or platformdirs.user_cache_dir("hseval", appauthor=False)
    return Path(folder) / FILE_NAME


class FeatureCache:
    """Features by key, and content hashes by file stamp. No error is fatal: what can't be stored is computed again.

    A damaged entry counts as missing, so that it is computed and stored again; a damaged file is replaced.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._error: str | None = None
        self._damaged_keys: set[str] = set()
        self._connection: sqlite3.Connection | None = None
        if path is not None:
            self._run_guarded(self._open)

    def __enter__(self) -> FeatureCache:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @property
    def usable_path(self) -> Path | None:
        """The cache file, for worker processes; None where this process can't use it: they would wait in vain, too."""
        return None if self._connection is None else self.path

    @property
    def note(self) -> str | None:
        """One line on the first error and on damaged entries, or None."""
        count = len(self._damaged_keys)
        damage = f"had {format_count(count, 'damaged entry', 'damaged entries')}, computed again" if count else None
        faults = "; ".join(filter(None, (self._error, damage)))
        return f"{self.path}: the cache {faults}" if faults else None

    def load_features(self, keys: Sequence[str]) -> dict[str, Columns]:
        """Return the stored features among ``keys``, by key."""
        from safetensors.numpy import load

        return {key: load(value) for key, value in self._load("rows", keys).items()}

    def store_features(self, features: Mapping[str, Columns]) -> None:
        """Store the features by key, in one transaction, except those that are stored already."""
        stored = self._load("rows", list(features))
        self._store("rows", {key: _encode(columns) for key, columns in features.items() if key not in stored})

    def load_hashes(self, stamps: Sequence[str]) -> dict[str, CubeHashes]:
        """Return the stored hashes among ``stamps``, by stamp."""
        hashes: dict[str, CubeHashes] = {}
        for stamp, value in self._load("stamps", stamps).items():
            content, masks, fov = value.decode().split()
            hashes[stamp] = (content, masks, fov)
        return hashes

    def store_hashes(self, hashes: Mapping[str, CubeHashes]) -> None:
        """Store hashes by stamp."""
        self._store("stamps", {stamp: " ".join(cube_hashes).encode() for stamp, cube_hashes in hashes.items()})

    def get_size(self) -> tuple[int, int]:
        """Return the number of entries and the bytes on disk."""
        counts = self._select("select count(*) from rows", ())
        size = self.path.stat().st_size if self.path is not None and self.path.exists() else 0
        return (counts[0][0] if counts else 0), size

    def _open(self) -> None:
        assert self.path is not None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(self.path, timeout=LOCK_SECONDS, isolation_level=None)
        self._connection.text_factory = bytes  # damaged text can't be decoded
        # A write-ahead log lets ranks and workers on one machine write concurrently. Both journals survive kill -9.
        journal = "wal" if _is_on_local_disk(self.path.parent) else "truncate"
        self._connection.execute(f"pragma journal_mode = {journal}")
        self._connection.execute("pragma synchronous = normal")
        self._connection.executescript(SCHEMA)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _load(self, table: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the values of the keys that have an undamaged entry."""
        values: dict[str, bytes] = {}
        for batch in _split_batches(keys):
            wanted = {key.encode(): key for key in batch}  # equal cubes have one key
            query = f"select key, entry from {table} where key in ({','.join('?' * len(wanted))})"
            for encoded_key, entry in self._select(query, list(wanted)):
                key = wanted.get(encoded_key, "")  # a damaged index may lead to another entry
                value = entry[CHECKSUM_BYTES:] if isinstance(entry, bytes) else b""
                if entry == _add_checksum(table, key, value):
                    values[key] = value
                else:
                    self._damaged_keys.add(key or repr(encoded_key))
        return values

    def _store(self, table: str, values: Mapping[str, bytes]) -> None:
        entries = [(key.encode(), _add_checksum(table, key, value)) for key, value in values.items()]
        if entries and self._connection is not None:
            self._run_guarded(lambda: self._run_transaction(f"insert or replace into {table} values (?, ?)", entries))

    def _select(self, query: str, values: Sequence[Any]) -> list[Any]:
        rows = self._run_guarded(lambda: self._connection and self._connection.execute(query, values).fetchall())
        return rows or []

    def _run_transaction(self, statement: str, values: list[Any]) -> None:
        assert self._connection is not None
        self._connection.execute("begin immediate")
        try:
            self._connection.executemany(statement, values)
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("rollback")
            raise
        self._connection.execute("commit")

    def _run_guarded(self, action: Any) -> Any:
        """Run an action; record an error, and continue with a new file in place of a damaged one, or without."""
        try:
            return action()
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            self._close()
            if self._error is not None or self.path is None:
                return None
            path = self.path
            if isinstance(error, UnicodeDecodeError) or getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGE_CODES:
                self._error = "was damaged"  # without SQLite's message, which may quote the damaged bytes
                self._run_guarded(lambda: _remove_files(_list_files(path)))
                self._run_guarded(self._open)
            else:
                self._error = f"can't be used ({error})"
            return None


def clear_cache(path: Path) -> int:
    """Delete the cache, and those of other versions in its folder, and return the bytes freed.

    Raises:
        HsevalError: a file could not be removed.
    """
    try:
        return _remove_files([*_list_files(path), *path.parent.glob("rows-*.sqlite*")])
    except OSError as error:
        raise HsevalError(f"{error.filename}: could not be removed: {error.strerror}") from error


def _list_files(path: Path) -> list[Path]:
    """Return the files that SQLite makes for a database."""
    return [path, *(path.with_name(f"{path.name}-{part}") for part in ("wal", "shm", "journal"))]


def _remove_files(paths: Iterable[Path]) -> int:
    freed = 0
    for path in paths:
        if path.exists():
            size = path.stat().st_size
            path.unlink(missing_ok=True)
            freed += size
    return freed


def _is_on_local_disk(folder: Path) -> bool:
    """Return whether a folder is known to be on a file system of this machine alone (Linux; False elsewhere)."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    types = {}
    for mount in mounts:
        fields, _, source = mount.partition(" - ")
        point = re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), fields.split()[4])  # \040 is a space
        types[Path(point)] = source.split()[0]
    folder = folder.resolve()
    return next((types[parent] for parent in (folder, *folder.parents) if parent in types), "") in LOCAL_FILE_SYSTEMS


def _split_batches(items: Sequence[str]) -> Iterable[Sequence[str]]:
    return (items[start : start + BATCH_SIZE] for start in range(0, len(items), BATCH_SIZE))


def _add_checksum(table: str, key: str, value: bytes) -> bytes:
    """Return an entry: the checksum of table, key and value, so that it is valid in its place alone, and the value."""
    digest = hashlib.blake2b(f"{table} {key}\n".encode(), digest_size=CHECKSUM_BYTES)
    digest.update(value)
    return digest.digest() + value


def _encode(columns: Columns) -> bytes:
    import numpy as np
    from safetensors.numpy import save

    return save({name: np.asarray(column, order="C") for name, column in columns.items()})
