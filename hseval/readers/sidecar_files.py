"""What may stand beside the cubes of a folder.

``wavelengths.txt``, masks as ``masks/<structure>/<cube's name>.png``, and ``cubes.csv`` with a column ``id`` (the
cube's file name without its ending), optionally ``group``, and any other columns as labels.
"""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.data.wavelengths import read_wavelengths
from hseval.readers.header import format_group_notes
from hseval.utils.errors import HsevalError, format_reason

WAVELENGTHS_FILE = "wavelengths.txt"
TABLE_FILE = "cubes.csv"
MASKS_FOLDER = "masks"


@dataclasses.dataclass(frozen=True)
class SidecarFiles:
    """The side files of a folder.

    Attributes:
        files: those that bear on every cube (wavelengths, table).
        wavelengths: ``(band,)`` nm in stored order, or None.
        masks: structure -> cube's file stem -> picture.
        groups: one a cube (empty: the cube stands alone), or None.
        labels: name -> one value a cube.
        notes: what a report has to say.
    """

    files: tuple[Path, ...] = ()
    wavelengths: NDArray[np.float64] | None = None
    masks: Mapping[str, Mapping[str, Path]] = dataclasses.field(default_factory=dict)
    groups: tuple[str, ...] | None = None
    labels: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


def load_sidecar_files(folder: Path, stems: Sequence[str]) -> SidecarFiles:
    """Return the side files of a folder whose cubes have these file stems.

    Raises:
        HsevalError: one of them can't be read, or the table lacks a cube.
    """
    centres, table = folder / WAVELENGTHS_FILE, folder / TABLE_FILE
    masks = _find_mask_files(folder / MASKS_FOLDER)
    groups, labels = _read_table(table, stems) if table.is_file() else (None, {})
    return SidecarFiles(
        files=tuple(path for path in (centres, table) if path.is_file()),
        wavelengths=read_wavelengths(centres) if centres.is_file() else None,
        masks=masks,
        groups=groups,
        labels=labels,
        notes=(*_format_mask_notes(masks, stems), *format_group_notes(groups or (), location=TABLE_FILE)),
    )


def read_mask_image(path: Path) -> NDArray[np.bool_]:
    """Return a picture as a mask: inside wherever it is not black.

    Raises:
        HsevalError: it can't be read.
    """
    from PIL import Image

    try:
        with Image.open(path) as picture:
            plain = picture if picture.mode in ("1", "L", "I", "F") or picture.mode.startswith("I;") else None
            values = np.asarray(plain if plain is not None else picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise HsevalError(f"{path}: can't be read as a picture: {format_reason(error)}") from error
    return np.asarray((values > 0) if values.ndim == 2 else (values > 0).any(axis=2))


def _find_mask_files(folder: Path) -> dict[str, dict[str, Path]]:
    if not folder.is_dir():
        return {}
    found = {}
    for structure in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        found[structure.name] = {path.stem: path for path in structure.iterdir() if path.suffix.lower() == ".png"}
    return found


def _format_mask_notes(masks: Mapping[str, Mapping[str, Path]], stems: Sequence[str]) -> tuple[str, ...]:
    known, notes = set(stems), []
    for structure, pictures in masks.items():
        orphans = sorted(set(pictures) - known)
        if orphans:
            notes.append(
                f"{MASKS_FOLDER}/{structure}: {len(orphans)} pictures without a cube of that name ({orphans[0]}.png)"
            )
        missing = len(known - set(pictures))
        if missing:
            notes.append(f"{MASKS_FOLDER}/{structure}: {missing} of {len(known)} cubes have no picture")
    return tuple(notes)


def _read_table(path: Path, stems: Sequence[str]) -> tuple[tuple[str, ...] | None, dict[str, list[str]]]:
    names, rows = _read_rows(path)
    if not rows or "id" not in names:
        raise HsevalError(f"{path}: has no column 'id'; expected id, optionally group, and labels")
    _check_unique(names, f"{path}: the column")
    _check_unique([row["id"] for row in rows], f"{path}: the id")
    by_id = {row["id"]: row for row in rows}
    missing = [stem for stem in stems if stem not in by_id]
    if missing:
        raise HsevalError(f"{path}: {len(missing)} cubes have no row, {missing[0]!r} for one")
    columns = {name: [by_id[stem][name] or "" for stem in stems] for name in names if name != "id"}
    groups = columns.pop("group", None)
    return None if groups is None else tuple(group.strip() for group in groups), columns


def _read_rows(path: Path) -> tuple[Sequence[str], list[dict[str, str | None]]]:
    """Return the names in a table's first line, and the rows by those names."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            table = csv.DictReader(handle, skipinitialspace=True)
            rows = list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise HsevalError(f"{path}: can't be read as a table: {format_reason(error)}") from error
    return table.fieldnames or (), rows


def _check_unique(names: Sequence[str | None], label: str) -> None:
    twice = [(name, count) for name, count in Counter(names).items() if name and count > 1]
    if twice:
        more = f" (and {len(twice) - 1} others too)" if len(twice) > 1 else ""
        raise HsevalError(f"{label} {twice[0][0]!r} occurs {twice[0][1]} times{more}; once expected")
