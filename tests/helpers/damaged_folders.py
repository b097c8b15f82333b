"""Damaged files beside the cubes of a folder, the table and the mask images, read by hseval and by another program."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hseval.pipeline.open import open_set
from hseval.utils.errors import HsevalError
from tests.helpers.mutations import ATTACK, Rng, mutate_bytes

TABLE = 'id,group,diagnosis,"place, time"\na,p,ill,"here, now"\nb,p,well,"a ""b"" c"\nc,q,,"two\nlines"\n'
IDS = ("a", "b", "c")
SIZE = (24, 20)
CELLS = (
    "", '"', '"x', 'x"y"', "a", "b", "d", "id", "group", "\x00", ATTACK, " ", '"a"', "٤", "\ufeff", "é", "x" * 140_000,
    "\u2028", "\x85", "\x0b", "," * 3000,
)  # fmt: skip
ZLIB_BOMB = zlib.compress(bytes(10**7))
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def find_folder_problem(kind: str, folder: Path, rng: Rng) -> tuple[str, str]:
    """Read a folder of cubes with a damaged ``"table"`` or ``"mask"``; return what came of it, and what is wrong.

    Expected: a refusal in one line, ``"refused"``, or what another program reads in the damaged file, ``"read"``.
    """
    rng_of_cubes = np.random.default_rng(5)
    for name in IDS:
        np.save(folder / f"{name}.npy", rng_of_cubes.random((3, *SIZE), dtype=np.float32))
    damage = {"table": _damage_table, "mask": _damage_mask}[kind]
    path, expected = damage(folder, rng)
    try:
        opened = open_set(folder)
        if kind == "table":
            found: object = [list(opened.groups or ()), dict(opened.labels)]
        else:
            found = opened[0].masks.get("artery", np.zeros(SIZE, bool)).tolist()
    except HsevalError as error:
        is_tidy = len(str(error).splitlines()) == 1 and str(path) in str(error) and len(str(error)) < 1000
        return "refused", "" if is_tidy else f"refused with {error!s:.300}"
    return "read", "" if found == expected else f"read {found!s:.200}, expected {expected!s:.200}"


def _damage_table(folder: Path, rng: Rng) -> tuple[Path, object]:
    path = folder / "cubes.csv"
    path.write_bytes(mutate_table(TABLE, rng))
    names, *rows = _parse_table(path.read_bytes().decode("utf-8-sig", errors="replace"))
    cells = {row[0]: row for row in rows if len(row) > 1 or row[0]}
    table = {
        name: [(cells[cube] + [""] * len(names))[column] if cube in cells else "" for cube in IDS]
        for column, name in enumerate(names)
        if name != "id"
    }
    groups = [group.strip() for group in table.pop("group", [])]
    return path, [groups, table]


def _damage_mask(folder: Path, rng: Rng) -> tuple[Path, object]:
    import imagecodecs

    path = folder / "masks" / "artery" / "a.png"
    path.parent.mkdir(parents=True)
    mask = rng.random(SIZE) > 0.5
    data = mutate_png(encode_png(mask, bits=int(rng.choice([1, 8, 16]))), rng)
    path.write_bytes(data)
    try:
        pixels = imagecodecs.png_decode(data)
    except Exception:  # noqa: BLE001 - no valid PNG, so that only the mask that was written is right
        return path, mask.tolist()
    colors = pixels.reshape(*pixels.shape[:2], -1)
    return path, (colors[..., : colors.shape[2] - (colors.shape[2] in (2, 4))] > 0).any(axis=2).tolist()


def mutate_table(text: str, rng: Rng) -> bytes:
    """Return a table with one to three mutations of its cells, lines, encoding or bytes."""
    lines = text.split("\n")
    for _ in range(rng.integers(1, 4)):
        row = int(rng.integers(len(lines)))
        cells = lines[row].split(",")
        cells[int(rng.integers(len(cells)))] = CELLS[int(rng.integers(len(CELLS)))]
        lines[row] = ",".join(cells)
    mutated = "\n".join(lines)
    encodings = ("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1")
    data = mutated.encode(str(rng.choice(encodings)), errors="replace")
    return mutate_bytes(data, rng) if rng.random() < 0.4 else data


def mutate_png(data: bytes, rng: Rng) -> bytes:
    """Return a PNG with mutations of its bytes, or of its chunks with the right checksums."""
    if rng.random() < 0.4:
        return mutate_bytes(data, rng)
    chunks = list(_split_chunks(data))
    for _ in range(rng.integers(1, 3)):
        place = int(rng.integers(len(chunks)))
        name, content = chunks[place]
        changed = mutate_bytes(content, rng) if content else b"x"
        extra = (
            (b"acTL", struct.pack(">II", 3, 0)), (b"zTXt", b"a\0\0" + ZLIB_BOMB),
            (b"PLTE", rng.bytes(30)), (b"tRNS", rng.bytes(10)), (b"IEND", b""), (b"iCCP", b"a\0\0" + rng.bytes(20)),
        )  # fmt: skip
        choice = int(rng.integers(5))
        if choice == 0:
            chunks[place] = (name, changed)
        elif choice == 1:
            header = bytearray(chunks[0][1])
            if header:
                header[int(rng.integers(len(header)))] = int(rng.choice([0, 1, 2, 3, 4, 6, 8, 16, 127, 255]))
            chunks[0] = (chunks[0][0], bytes(header))
        elif choice == 2:
            chunks.insert(place, extra[int(rng.integers(len(extra)))])
        elif choice == 3:
            chunks = [(n, zlib.compress(rng.bytes(len(data))) if n == b"IDAT" else c) for n, c in chunks]
        else:
            del chunks[place]
            chunks = chunks or [(b"IEND", b"")]
    return PNG_SIGNATURE + b"".join(_pack_chunk(*chunk) for chunk in chunks)


def encode_png(mask: NDArray[np.bool_], *, bits: int = 8, channels: int = 1) -> bytes:
    """Return a mask as a gray PNG of 1, 8 or 16 bits, or one of three channels of 8 or 16 bits; true as 1."""
    height, width = mask.shape
    if bits == 1:
        rows = [np.packbits(row).tobytes() for row in mask]
    else:
        rows = [row.repeat(channels).astype(f">u{bits // 8}").tobytes() for row in mask]
    header = struct.pack(">IIBBBBB", width, height, bits, 0 if channels == 1 else 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))), (b"IEND", b""))
    return PNG_SIGNATURE + b"".join(_pack_chunk(*chunk) for chunk in chunks)


def _pack_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _split_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = len(PNG_SIGNATURE)
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        yield data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        position += 12 + length


def _parse_table(text: str) -> list[list[str]]:
    """Return the cells of a table by the rules of RFC 4180, with spaces after a comma left out."""
    rows: list[list[str]] = []
    row: list[str] = []
    cell, quoted, started = "", False, False
    place = 0
    while place < len(text):
        character = text[place]
        if quoted:
            if character == '"' and text[place + 1 : place + 2] == '"':
                cell += '"'
                place += 1
            elif character == '"':
                quoted = False
            else:
                cell += character
        elif character == '"' and not started:
            quoted = started = True
        elif character in ",\r\n":
            row.append(cell)
            cell, started = "", False
            if character != ",":
                rows.append(row)
                row = []
        elif character != " " or started:
            cell += character
            started = True
        place += 1
    rows = [*rows, [*row, cell]] if row or started else rows
    return [row for row in rows if row != [""]] or [[""]]
