"""``parts.json``: what decides the cubes of the parts beside it, and which parts there are."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hseval.utils.atomic_files import write_text
from hseval.utils.errors import HsevalError

FORMAT = "hseval-parts-1"
MANIFEST_NAME = "parts.json"


@dataclasses.dataclass(frozen=True)
class Chunk:
    """One part: how many cubes it has, and the sha256 of its file."""

    cubes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What ``parts.json`` says.

    Attributes:
        inputs: what decides the cubes.
        cube_layout: shape and names of the masks of every cube; None before the first.
        chunks: in order.
    """

    of: Mapping[str, Any]
    like: list[Any] | None = None
    parts: tuple[Chunk, ...] = ()


def to_plain_json(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record as it comes back from a file."""
    plain: dict[str, Any] = json.loads(json.dumps(inputs, default=str))
    return plain


def read_manifest(folder: Path) -> Manifest | None:
    """Return a folder's list; None where there is none.

    Raises:
        HsevalError: it can't be read as one.
    """
    path = folder / MANIFEST_NAME
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        parts = tuple(Chunk(int(part["cubes"]), str(part["sha256"])) for part in found["parts"])
        listed = Manifest(dict(found["of"]), list(found["like"]), parts)
        if found["format"] != FORMAT:
            raise ValueError(f"format {found['format']!r}, not {FORMAT!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        told = f"{path}: no list of parts ({type(error).__name__}: {error}); --force removes them and starts over"
        raise HsevalError(told) from error
    return listed


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a folder's list, whole or not at all; a list without parts is removed.

    Raises:
        HsevalError: it can't be written.
    """
    if not manifest.parts:
        (folder / MANIFEST_NAME).unlink(missing_ok=True)
        return
    write_text(folder / MANIFEST_NAME, json.dumps({"format": FORMAT, **dataclasses.asdict(manifest)}, indent=1) + "\n")


def check_same_inputs(folder: Path, manifest: Manifest, inputs: Mapping[str, Any]) -> None:
    """Raise HsevalError, with what differs, unless the listed parts are those of ``of``."""
    differs = list_differences(manifest.of, inputs)
    if differs:
        raise HsevalError(
            f"{folder}: holds {sum(part.cubes for part in manifest.parts)} cubes drawn with {', '.join(differs[:3])}; "
            "give the same to go on, name another --out, or remove them and start over with --force"
        )


def list_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return what differs between two records of JSON: ``options.size 32, not 64``; ``another x`` for long values."""
    found = []
    for path in {**_flatten(new), **_flatten(old)}:
        was, now = (json.dumps(_flatten(record).get(path)) for record in (old, new))  # as text, NaN equals itself
        if was != now:
            found.append(f"{path} {was}, not {now}" if len(was + now) < 60 else f"another {path}")
    return found


def _flatten(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in record.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
