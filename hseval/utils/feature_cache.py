"""The feature cache, keyed by content: an SQLite file, so that an entry is stored completely or not at all.

A key covers the cube's content and masks, the extractor's name, version, options and fingerprint, and the
wavelengths: when any of them changes, so does the key, and no stale entry can be returned.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Columns = Mapping[str, NDArray[Any]]

CubeHashes = tuple[str, str, str]  # hashes of a cube's pixels, of all its masks, of its field of view

SCHEMA = """
create table if not exists rows (key text primary key, columns blob not null) without rowid;
create table if not exists stamps (stamp text primary key, content text not null, masks text not null,
    field text not null) without rowid;
"""
BATCH_SIZE = 500  # keys a query: old builds of SQLite allow 999 variables


def get_cache_path() -> Path:
    """Return the cache file: in the folder ``$HSEVAL_CACHE``, else in the user's cache folder."""
    import platformdirs

    folder = os.environ.get("HSEVAL_CACHE") or platformdirs.user_cache_dir("hseval", appauthor=False)
    return Path(folder) / "rows-3.sqlite"


class FeatureCache:
    """Features by key, and content hashes by file stamp. No error is fatal: what can't be stored is computed again.

    Attributes:
        first_error: the first error of reading or writing, or None.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.first_error: str | None = None
        self._connection: sqlite3.Connection | None = None
        if path is not None:
            self._run_guarded(self._open)

    def __enter__(self) -> FeatureCache:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def load_features(self, keys: Sequence[str]) -> dict[str, Columns]:
        """Return the stored features among ``keys``, by key."""
        features: dict[str, Columns] = {}
        for batch in _split_batches(keys):
            query = f"select key, columns from rows where key in ({','.join('?' * len(batch))})"
            for key, blob in self._select(query, batch):
                columns = _decode(blob)
                if columns is not None:
                    features[key] = columns
        return features

    def store_features(self, features: Mapping[str, Columns]) -> None:
        """Store features by key, in one transaction."""
        values = [(key, _encode(columns)) for key, columns in features.items()]
        self._insert("insert or replace into rows values (?, ?)", values)

    def load_hashes(self, stamps: Sequence[str]) -> dict[str, CubeHashes]:
        """Return the stored hashes among ``stamps``, by stamp."""
        hashes: dict[str, CubeHashes] = {}
        for batch in _split_batches(stamps):
            query = f"select * from stamps where stamp in ({','.join('?' * len(batch))})"
            hashes.update({stamp: (content, masks, fov) for stamp, content, masks, fov in self._select(query, batch)})
        return hashes

    def store_hashes(self, hashes: Mapping[str, CubeHashes]) -> None:
        """Store hashes by stamp."""
        values = [(stamp, *cube_hashes) for stamp, cube_hashes in hashes.items()]
        self._insert("insert or replace into stamps values (?, ?, ?, ?)", values)

    def get_size(self) -> tuple[int, int]:
        """Return the number of entries and the bytes on disk."""
        counts = self._select("select count(*) from rows", ())
        size = self.path.stat().st_size if self.path is not None and self.path.exists() else 0
        return (counts[0][0] if counts else 0), size

    def _open(self) -> None:
        assert self.path is not None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        # A write-ahead log lets ranks and workers on one machine write concurrently, and survives kill -9.
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = normal")
        connection.executescript(SCHEMA)
        self._connection = connection

    def _select(self, query: str, values: Sequence[Any]) -> list[Any]:
        rows = self._run_guarded(lambda: self._connection and self._connection.execute(query, values).fetchall())
        return rows or []

    def _insert(self, statement: str, values: list[Any]) -> None:
        if values and self._connection is not None:
            self._run_guarded(lambda: self._run_transaction(statement, values))

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
        """Run an action; on an error record it and continue without the cache."""
        try:
            return action()
        except (sqlite3.Error, OSError) as error:
            self.first_error = self.first_error or f"{self.path}: the cache can't be used ({error})"
            self._connection = None
            return None


def clear_cache(path: Path) -> int:
    """Delete the cache and return the bytes freed.

    Raises:
        HsevalError: a file could not be removed.
    """
    freed = 0
    for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        if file.exists():
            freed += file.stat().st_size
            try:
                file.unlink()
            except OSError as error:
                raise HsevalError(f"{file}: could not be removed: {error.strerror}") from error
    return freed


def _split_batches(items: Sequence[str]) -> Iterable[Sequence[str]]:
    return (items[start : start + BATCH_SIZE] for start in range(0, len(items), BATCH_SIZE))


def _encode(columns: Columns) -> bytes:
    import numpy as np
    from safetensors.numpy import save

    return save({name: np.asarray(column, order="C") for name, column in columns.items()})


def _decode(blob: bytes) -> Columns | None:
    """Return the columns of a stored entry, or None where the bytes are damaged; they are then computed again."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(blob)
    except (SafetensorError, ValueError, KeyError):
        return None
