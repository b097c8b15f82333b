"""What a file may declare. Readers hold it against these limits before they allocate or decompress anything."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from hseval.utils.errors import HsevalError

MAX_BANDS = 10_000  # imaging spectrometers have some hundred, infrared microscopes up to 4,000
MAX_CUBES = 10_000_000  # of one set
MAX_ARRAYS = 50_000  # datasets, variables or members of one container
MAX_PAGES, MAX_STRIPS = 10_000, 1_000_000  # of one TIFF; tiles count as strips
MAX_TEXT = 10_000  # characters of an id, a group or a label: in HDF5 millions of cubes may refer to one long text
MAX_HEADER_BYTES, MAX_HEADER_LINES = 4 * 2**20, 50_000  # of a header in text: 10,000 bands with names take 1 MiB
# Cubes and masks compress 2- to 50-fold, deflate's maximum is 1,032-fold. Anything may expand to 256 MiB.
MAX_EXPANSION = 200
MIN_EXPANDED_BYTES = 256 * 2**20
MAX_DEFLATE_RATIO = 1032


def check_count(count: int, limit: int, noun: str, *, location: str) -> None:
    """Raise HsevalError if a file declares more than ``limit`` things."""
    if count > limit:
        raise HsevalError(f"{location}: declares {count} {noun}; expected at most {limit}")


def check_expansion(stored: int, expanded: int, *, location: str) -> None:
    """Raise HsevalError if bytes are declared to expand as no real data do."""
    if expanded > max(MIN_EXPANDED_BYTES, MAX_EXPANSION * stored):
        raise HsevalError(
            f"{location}: declares {expanded} bytes, but stores {stored}; "
            f"expected at most {MAX_EXPANSION} times as many, or {MIN_EXPANDED_BYTES // 2**20} MiB"
        )


def check_inflated(pieces: Iterable[bytes], limit: int, *, location: str) -> None:
    """Raise HsevalError if a stream of deflate expands to more than ``limit`` bytes, whatever its file declares."""
    decompressor, size = zlib.decompressobj(), 0
    for piece in pieces:
        size += len(decompressor.decompress(piece))
        if size > limit:
            raise HsevalError(f"{location}: its compressed data expand to more than {limit} bytes, which it declares")
