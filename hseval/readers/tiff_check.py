"""Detects truncated TIFF files by following their directories and strips.

TIFF libraries skip pages beyond the file's end, so that a cube could become a 2D image.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from hseval.utils.errors import HsevalError

_INTEGER_CODES = {3: "H", 4: "I", 16: "Q"}  # tag types of offsets and lengths: SHORT, LONG, LONG8
_BYTE_COUNT_TAGS = {273: 279, 324: 325}  # StripOffsets -> StripByteCounts, TileOffsets -> TileByteCounts


class _NumberFormat(NamedTuple):
    """How numbers are stored: byte order, and struct codes of an offset, a count of entries and an entry."""

    byte_order: str
    offset_code: str
    count_code: str
    entry_code: str


class _DirectoryEntry(NamedTuple):
    value_type: int
    value_count: int
    value: bytes


def check_complete(path: Path) -> None:
    """Raise HsevalError if a directory or a strip lies beyond the end of a TIFF; other files pass.

    Directories: TIFF 6.0, section 2; BigTIFF is the same with 8-byte offsets.
    """
    with path.open("rb") as handle:
        magic = handle.read(4)
        order = {b"II": "<", b"MM": ">"}.get(magic[:2])
        version = struct.unpack(f"{order}H", magic[2:])[0] if order and len(magic) == 4 else 0
        if version == 42:
            _check_directories(handle, _NumberFormat(order or "<", "I", "H", "HHI4s"), 4, path)
        elif version == 43:
            _check_directories(handle, _NumberFormat(order or "<", "Q", "Q", "HHQ8s"), 8, path)


def _check_directories(handle: BinaryIO, number_format: _NumberFormat, pointer_offset: int, path: Path) -> None:
    """Follow the chain of directories; ``pointer_offset`` is the position of the offset of the first one."""
    step = struct.calcsize(f"<{number_format.offset_code}")
    (offset,) = struct.unpack(
        number_format.byte_order + number_format.offset_code, _read_bytes(handle, pointer_offset, step, path)
    )
    visited: set[int] = set()
    while offset and offset not in visited:
        visited.add(offset)
        entries, offset = _read_directory(handle, number_format, offset, path)
        for start, length in _iterate_strips(handle, number_format, entries, path):
            _check_within_file(handle, start + length, path)


def _read_directory(
    handle: BinaryIO, number_format: _NumberFormat, offset: int, path: Path
) -> tuple[dict[int, _DirectoryEntry], int]:
    """Return one directory's entries by tag, and the offset of the next directory (0: none)."""
    order, count_size = number_format.byte_order, struct.calcsize(f"<{number_format.count_code}")
    (count,) = struct.unpack(order + number_format.count_code, _read_bytes(handle, offset, count_size, path))
    table_size = count * struct.calcsize(f"<{number_format.entry_code}")
    offset_size = struct.calcsize(f"<{number_format.offset_code}")
    table = _read_bytes(handle, offset + count_size, table_size + offset_size, path)
    (next_offset,) = struct.unpack(order + number_format.offset_code, table[table_size:])
    entries = struct.iter_unpack(order + number_format.entry_code, table[:table_size])
    return {tag: _DirectoryEntry(*fields) for tag, *fields in entries}, next_offset


def _iterate_strips(
    handle: BinaryIO, number_format: _NumberFormat, entries: dict[int, _DirectoryEntry], path: Path
) -> Iterator[tuple[int, int]]:
    for offsets, lengths in _BYTE_COUNT_TAGS.items():
        if offsets in entries and lengths in entries:
            starts, sizes = (_read_numbers(handle, number_format, entries[tag], path) for tag in (offsets, lengths))
            yield from zip(starts, sizes, strict=False)


def _read_numbers(
    handle: BinaryIO, number_format: _NumberFormat, entry: _DirectoryEntry, path: Path
) -> tuple[int, ...]:
    """Return a tag's values, which are in the entry itself where they fit, else at its offset."""
    if entry.value_type not in _INTEGER_CODES:
        return ()
    code = f"{number_format.byte_order}{entry.value_count}{_INTEGER_CODES[entry.value_type]}"
    size = struct.calcsize(code)
    if size <= len(entry.value):
        return struct.unpack(code, entry.value[:size])
    (offset,) = struct.unpack(number_format.byte_order + number_format.offset_code, entry.value)
    return struct.unpack(code, _read_bytes(handle, offset, size, path))


def _read_bytes(handle: BinaryIO, offset: int, size: int, path: Path) -> bytes:
    _check_within_file(handle, offset + size, path)
    handle.seek(offset)
    return handle.read(size)


def _check_within_file(handle: BinaryIO, end: int, path: Path) -> None:
    length = os.fstat(handle.fileno()).st_size
    if end > length:
        raise HsevalError(f"{path}: truncated: its pages end at byte {end}, the file has {length}")
