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
RECORD = "parts.json"


@dataclasses.dataclass(frozen=True)
class Part:
    """One part: how many cubes it has, and the sha256 of its file."""

    cubes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class PartList:
    """What ``parts.json`` says.

    Attributes:
        of: what decides the cubes.
        like: shape and names of the masks of every cube; None before the first.
        parts: in order.
    """

    of: Mapping[str, Any]
    like: list[Any] | None = None
    parts: tuple[Part, ...] = ()


def as_json(of: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record as it comes back from a file."""
    plain: dict[str, Any] = json.loads(json.dumps(of, default=str))
    return plain


def read_list(folder: Path) -> PartList | None:
    """Return a folder's list; None where there is none.

    Raises:
        HsevalError: it can't be read as one.
    """
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        parts = tuple(Part(int(part["cubes"]), str(part["sha256"])) for part in found["parts"])
        listed = PartList(dict(found["of"]), list(found["like"]), parts)
        if found["format"] != FORMAT:
            raise ValueError(f"format {found['format']!r}, not {FORMAT!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        told = f"{path}: no list of parts ({type(error).__name__}: {error}); --force removes them and starts over"
        raise HsevalError(told) from error
    return listed


def write_list(folder: Path, listed: PartList) -> None:
    """Write a folder's list, whole or not at all; a list without parts is removed.

    Raises:
        HsevalError: it can't be written.
    """
    if not listed.parts:
        (folder / RECORD).unlink(missing_ok=True)
        return
    write_text(folder / RECORD, json.dumps({"format": FORMAT, **dataclasses.asdict(listed)}, indent=1) + "\n")


def check_same(folder: Path, listed: PartList, of: Mapping[str, Any]) -> None:
    """Raise HsevalError, with what differs, unless the listed parts are those of ``of``."""
    differs = differences(listed.of, of)
    if differs:
        raise HsevalError(
            f"{folder}: holds {sum(part.cubes for part in listed.parts)} cubes drawn with {', '.join(differs[:3])}; "
            "give the same to go on, name another --out, or remove them and start over with --force"
        )


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return what differs between two records of JSON: ``options.size 32, not 64``; ``another x`` for long values."""
    found = []
    for path in {**_flat(new), **_flat(old)}:
        was, now = (json.dumps(_flat(record).get(path)) for record in (old, new))  # as text, NaN equals itself
        if was != now:
            found.append(f"{path} {was}, not {now}" if len(was + now) < 60 else f"another {path}")
    return found


def _flat(record: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in record.items():
        flat |= _flat(value, f"{above}{name}.") if isinstance(value, dict) else {f"{above}{name}": value}
    return flat
