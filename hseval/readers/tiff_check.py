"""Whether a TIFF was cut off: its directories and strips are followed by hand.

A library that meets a page beyond the file's end leaves it out and goes on, so that a cube becomes a 2D image.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from hseval.utils.errors import HsevalError

_INTEGERS = {3: "H", 4: "I", 16: "Q"}  # tag types that offsets and lengths come in: SHORT, LONG, LONG8
_OFFSETS = {273: 279, 324: 325}  # StripOffsets -> StripByteCounts, TileOffsets -> TileByteCounts


class _Dialect(NamedTuple):
    """How numbers are stored: the byte order, and struct codes of an offset, a number of entries and an entry."""

    order: str
    offset: str
    total: str
    entry: str


class _Entry(NamedTuple):
    kind: int
    length: int
    value: bytes


def check_end(path: Path) -> None:
    """Raise HsevalError where a directory or a strip lies beyond the end of a TIFF; other files pass.

    Directories: TIFF 6.0, section 2; BigTIFF has the same with 8-byte offsets.
    """
    with path.open("rb") as handle:
        magic = handle.read(4)
        order = {b"II": "<", b"MM": ">"}.get(magic[:2])
        version = struct.unpack(f"{order}H", magic[2:])[0] if order and len(magic) == 4 else 0
        if version == 42:
            _check_chain(handle, _Dialect(order or "<", "I", "H", "HHI4s"), 4, path)
        elif version == 43:
            _check_chain(handle, _Dialect(order or "<", "Q", "Q", "HHQ8s"), 8, path)


def _check_chain(handle: BinaryIO, dialect: _Dialect, first: int, path: Path) -> None:
    """Follow the chain of directories; ``first`` is where the offset of the first one stands."""
    step = struct.calcsize(f"<{dialect.offset}")
    (place,) = struct.unpack(dialect.order + dialect.offset, _bytes(handle, first, step, path))
    seen: set[int] = set()
    while place and place not in seen:
        seen.add(place)
        entries, place = _directory(handle, dialect, place, path)
        for start, length in _strips(handle, dialect, entries, path):
            _check(handle, start + length, path)


def _directory(handle: BinaryIO, dialect: _Dialect, place: int, path: Path) -> tuple[dict[int, _Entry], int]:
    """Return one directory's entries by tag, and the offset of the next directory (0: none)."""
    order, wide = dialect.order, struct.calcsize(f"<{dialect.total}")
    (count,) = struct.unpack(order + dialect.total, _bytes(handle, place, wide, path))
    step = struct.calcsize(f"<{dialect.entry}")
    table = _bytes(handle, place + wide, count * step + struct.calcsize(f"<{dialect.offset}"), path)
    found = struct.iter_unpack(order + dialect.entry, table[: count * step])
    return {tag: _Entry(*rest) for tag, *rest in found}, struct.unpack(order + dialect.offset, table[count * step :])[0]


def _strips(handle: BinaryIO, dialect: _Dialect, entries: dict[int, _Entry], path: Path) -> Iterator[tuple[int, int]]:
    for offsets, lengths in _OFFSETS.items():
        if offsets in entries and lengths in entries:
            starts, sizes = (_numbers(handle, dialect, entries[tag], path) for tag in (offsets, lengths))
            yield from zip(starts, sizes, strict=False)


def _numbers(handle: BinaryIO, dialect: _Dialect, entry: _Entry, path: Path) -> tuple[int, ...]:
    """Return a tag's values, which stand in the entry itself where there is room, else where it points."""
    if entry.kind not in _INTEGERS:
        return ()
    form = f"{dialect.order}{entry.length}{_INTEGERS[entry.kind]}"
    size = struct.calcsize(form)
    if size <= len(entry.value):
        return struct.unpack(form, entry.value[:size])
    (place,) = struct.unpack(dialect.order + dialect.offset, entry.value)
    return struct.unpack(form, _bytes(handle, place, size, path))


def _bytes(handle: BinaryIO, place: int, size: int, path: Path) -> bytes:
    _check(handle, place + size, path)
    handle.seek(place)
    return handle.read(size)


def _check(handle: BinaryIO, end: int, path: Path) -> None:
    length = os.fstat(handle.fileno()).st_size
    if end > length:
        raise HsevalError(f"{path}: truncated: its pages reach to byte {end}, the file has {length}")
