"""Optional files next to the cubes of a folder.

``wavelengths.txt``, masks as ``masks/<structure>/<cube's file stem>.png``, and ``cubes.csv`` with a column ``id`` (the
cube's file stem), optionally ``group``, and any other columns as labels.
"""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hseval.data.wavelengths import read_wavelengths
from hseval.readers.header import format_group_notes
from hseval.utils.arrays import BoolArray, Float64Array
from hseval.utils.errors import HsevalError, format_reason
from hseval.utils.plural import format_count

WAVELENGTHS_FILE = "wavelengths.txt"
TABLE_FILE = "cubes.csv"
MASKS_FOLDER = "masks"


@dataclasses.dataclass(frozen=True)
class SidecarFiles:
    """The sidecar files of a folder.

    Attributes:
        files: those that affect every cube (wavelengths, table).
        wavelengths: ``(band,)`` nm in stored order, or None.
        masks: structure -> cube's file stem -> mask image.
        groups: one per cube (empty: the cube is its own group), or None.
        labels: name -> one value a cube.
        notes: notes for reports.
    """

    files: tuple[Path, ...] = ()
    wavelengths: Float64Array | None = None
    masks: Mapping[str, Mapping[str, Path]] = dataclasses.field(default_factory=dict)
    groups: tuple[str, ...] | None = None
    labels: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


def load_sidecar_files(folder: Path, stems: Sequence[str]) -> SidecarFiles:
    """Return the sidecar files of a folder whose cubes have these file stems.

    Raises:
        HsevalError: one of them can't be read, or the table has no row for a cube.
    """
    wavelengths, table = folder / WAVELENGTHS_FILE, folder / TABLE_FILE
    masks = _find_mask_files(folder / MASKS_FOLDER)
    groups, labels = _read_table(table, stems) if table.is_file() else (None, {})
    return SidecarFiles(
        files=tuple(path for path in (wavelengths, table) if path.is_file()),
        wavelengths=read_wavelengths(wavelengths) if wavelengths.is_file() else None,
        masks=masks,
        groups=groups,
        labels=labels,
        notes=(*_format_mask_notes(masks, stems), *format_group_notes(groups or (), location=TABLE_FILE)),
    )


def read_mask_image(path: Path) -> BoolArray:
    """Return an image as a mask: True wherever it is not black.

    Raises:
        HsevalError: it can't be read.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            is_gray = image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;")
            values = np.asarray(image if is_gray else image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise HsevalError(f"{path}: can't be read as an image: {format_reason(error)}") from error
    return np.asarray((values > 0) if values.ndim == 2 else (values > 0).any(axis=2))


def _find_mask_files(folder: Path) -> dict[str, dict[str, Path]]:
    if not folder.is_dir():
        return {}
    masks = {}
    for structure in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        masks[structure.name] = {path.stem: path for path in structure.iterdir() if path.suffix.lower() == ".png"}
    return masks


def _format_mask_notes(masks: Mapping[str, Mapping[str, Path]], stems: Sequence[str]) -> tuple[str, ...]:
    known, notes = set(stems), []
    for structure, images in masks.items():
        orphans = sorted(set(images) - known)
        if orphans:
            notes.append(
                f"{MASKS_FOLDER}/{structure}: {format_count(len(orphans), 'image')} without a cube of that name "
                f"({orphans[0]}.png)"
            )
        missing = len(known - set(images))
        if missing:
            notes.append(f"{MASKS_FOLDER}/{structure}: {missing} of {len(known)} cubes without an image")
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
        raise HsevalError(f"{path}: no row for {format_count(len(missing), 'cube')}, such as {missing[0]!r}")
    columns = {name: [by_id[stem][name] or "" for stem in stems] for name in names if name != "id"}
    groups = columns.pop("group", None)
    return None if groups is None else tuple(group.strip() for group in groups), columns


def _read_rows(path: Path) -> tuple[Sequence[str], list[dict[str, str | None]]]:
    """Return the column names of a table, and its rows by these names."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            table = csv.DictReader(handle, skipinitialspace=True)
            rows = list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise HsevalError(f"{path}: can't be read as a table: {format_reason(error)}") from error
    return table.fieldnames or (), rows


def _check_unique(names: Sequence[str | None], label: str) -> None:
    repeated = [(name, count) for name, count in Counter(names).items() if name and count > 1]
    if repeated:
        name, count = repeated[0]
        more = f" (and {format_count(len(repeated) - 1, 'other')} too)" if len(repeated) > 1 else ""
        raise HsevalError(f"{label} {name!r} occurs {count} times{more}; once expected")
