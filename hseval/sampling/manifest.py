"""``parts.json``: the chunks of a sampling, and the inputs that determine their cubes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict

from hseval.utils.atomic_files import write_text
from hseval.utils.errors import HsevalError, format_reason
from hseval.utils.input_files import read_text
from hseval.utils.plural import format_count
from hseval.utils.structured_files import check_depth, convert_record

MANIFEST_NAME = "parts.json"


@dataclasses.dataclass(frozen=True)
class Chunk:
    """One chunk: the number of its cubes, and the sha256 of its file."""

    n_cubes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The content of ``parts.json``.

    Attributes:
        inputs: all that determines the cubes.
        chunks: in order.
    """

    inputs: Mapping[str, Any]
    chunks: tuple[Chunk, ...] = ()


class ChunkRecord(TypedDict):
    """A chunk, as stored."""

    cubes: int
    sha256: str


class ManifestRecord(TypedDict):
    """A manifest, as stored."""

    format: Literal["hseval-parts-1"]
    of: dict[str, Any]
    parts: list[ChunkRecord]


def to_plain_json(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record as JSON would return it."""
    plain: dict[str, Any] = json.loads(json.dumps(inputs, default=str))
    return plain


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a folder; None if there is none.

    Raises:
        HsevalError: it is unreadable.
    """
    path = folder / MANIFEST_NAME
    if not path.exists():
        return None
    try:
        data = json.loads(read_text(path))  # unlike msgspec, json reads the NaN of an option
        check_depth(data)
        record = convert_record(data, ManifestRecord, path)
    except (HsevalError, OSError, ValueError, RecursionError) as error:
        reason = format_reason(error).removeprefix(f"{path}: ")
        message = f"{path}: unreadable list of chunks ({reason}); --force removes the chunks and starts over"
        raise HsevalError(message) from error
    chunks = tuple(Chunk(chunk["cubes"], chunk["sha256"]) for chunk in record["parts"])
    return Manifest(record["of"], chunks)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a folder atomically; remove it if it has no chunks.

    Raises:
        HsevalError: it can't be written.
    """
    if not manifest.chunks:
        (folder / MANIFEST_NAME).unlink(missing_ok=True)
        return
    chunks = [{"cubes": chunk.n_cubes, "sha256": chunk.sha256} for chunk in manifest.chunks]
    record = {"format": "hseval-parts-1", "of": manifest.inputs, "parts": chunks}
    write_text(folder / MANIFEST_NAME, json.dumps(record, indent=1) + "\n")


def check_same_inputs(folder: Path, manifest: Manifest, inputs: Mapping[str, Any]) -> None:
    """Raise HsevalError, with what differs, unless the manifest was written for the same ``inputs``."""
    differences = list_differences(manifest.inputs, inputs)
    if differences:
        count = format_count(sum(chunk.n_cubes for chunk in manifest.chunks), "cube")
        raise HsevalError(
            f"{folder}: holds {count} sampled with {', '.join(differences[:3])}; "
            "use the same options to resume, another --out, or --force to remove them and start over"
        )


def list_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return how two records of JSON differ: ``options.size 32, not 64``; ``another x`` for long values."""
    differences = []
    for path in {**_flatten(new), **_flatten(old)}:
        was, now = (json.dumps(_flatten(record).get(path)) for record in (old, new))  # as text, NaN equals itself
        if was != now:
            differences.append(f"{path} {was}, not {now}" if len(was + now) < 60 else f"another {path}")
    return differences


def _flatten(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in record.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
