"""Optional files next to the cubes of a folder.

``wavelengths.txt``, masks as ``masks/<structure>/<cube's file stem>.png``, and ``cubes.csv`` with a column ``id`` (the
cube's file stem), optionally ``group``, and any other columns as labels.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.data.wavelengths import read_wavelengths
from hseval.readers.header import format_group_notes, wrap_errors
from hseval.utils.arrays import BoolArray, Float64Array
from hseval.utils.errors import HsevalError, format_reason
from hseval.utils.input_files import check_regular_file, find_file_fault, read_text
from hseval.utils.plural import format_count

if TYPE_CHECKING:
    from PIL import ImageFile

WAVELENGTHS_FILE = "wavelengths.txt"
TABLE_FILE = "cubes.csv"
MASKS_FOLDER = "masks"
MAX_LISTED_FAULTS = 3  # names in a note; the rest is counted
MAX_TABLE_BYTES = 16 * 2**20  # 100 bytes for each of 160,000 cubes; as text in memory it is up to 50 times as long
MAX_TABLE_COLUMNS = 1000


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
    files = [path for path in (wavelengths, table) if path.exists() or path.is_symlink()]
    masks, mask_faults = _find_mask_files(folder / MASKS_FOLDER)
    groups, labels = _read_table(table, stems) if table in files else (None, {})
    return SidecarFiles(
        files=tuple(files),
        wavelengths=read_wavelengths(wavelengths) if wavelengths in files else None,
        masks=masks,
        groups=groups,
        labels=labels,
        notes=(
            *([f"masks left out: {format_faults(mask_faults)}"] if mask_faults else []),
            *_format_mask_notes(masks, stems),
            *format_group_notes(groups or (), location=TABLE_FILE),
        ),
    )


def format_faults(faults: Mapping[str, str]) -> str:
    """Return a few names with what is wrong with each, and the number of the others."""
    listed = [f"{name} ({fault})" for name, fault in list(faults.items())[:MAX_LISTED_FAULTS]]
    more = len(faults) - len(listed)
    return ", ".join(listed) + (f" and {more} more" if more else "")


def read_mask_image(path: Path, image_shape: Sequence[int]) -> BoolArray:
    """Return a PNG image as a mask ``(y, x)``: True wherever it is not black.

    Raises:
        HsevalError: it is no intact PNG of the cube's ``image_shape``, or one that is not read right.
    """
    from PIL import Image

    check_regular_file(path)
    with wrap_errors(path, "can't be read as a PNG image"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on a large size, compared with the cube's here, and on transparency
        # PNG alone: of the formats that Pillow knows, one (EPS) starts another program.
        with Image.open(path, formats=("PNG",)) as image:
            check_mask_shape(image.size[::-1], image_shape, location=str(path))
            image.verify()  # the checksums, which decoding ignores; it closes the file
        with Image.open(path, formats=("PNG",)) as image:
            _check_encoding(image, path)
            is_gray = image.mode in ("1", "L", "I") or image.mode.startswith("I;")
            values = np.asarray(image if is_gray else image.convert("RGB"))
    return np.asarray((values > 0) if values.ndim == 2 else (values > 0).any(axis=2))


def check_mask_shape(shape: Sequence[int], image_shape: Sequence[int], *, location: str) -> None:
    """Raise HsevalError unless a mask's shape is that of the cube, ``(y, x)``."""
    if tuple(shape) != tuple(image_shape):
        found, expected = (" x ".join(map(str, axes)) for axes in (shape, image_shape))
        raise HsevalError(f"{location}: a mask of {found} pixels, but the cube has {expected}")


def _check_encoding(image: ImageFile.ImageFile, path: Path) -> None:
    """Refuse what Pillow reads, but not right: of an animation the first image, of 16-bit colors the upper half ..."""
    with path.open("rb") as handle:
        interlace = handle.read(29)[-1]
    if getattr(image, "is_animated", False):
        raise HsevalError(f"{path}: an animation; a mask of one image expected")
    if image.mode in ("RGB", "RGBA", "LA") and "16" in str(image.tile[0].args):
        raise HsevalError(f"{path}: 16-bit colors or transparency; 8 bits, or 16 bits of gray expected")
    if interlace > 1 or (image.mode == "P" and image.palette is None):
        raise HsevalError(f"{path}: has no palette, or an unknown interlace method; an intact PNG expected")


def _find_mask_files(folder: Path) -> tuple[dict[str, dict[str, Path]], dict[str, str]]:
    """Return the images by structure and stem, and by name what can't be opened and why."""
    masks: dict[str, dict[str, Path]] = {}
    opened = [folder] if folder.is_symlink() and not folder.is_dir() else []
    for structure in sorted(folder.iterdir()) if folder.is_dir() else []:
        if structure.name.startswith("."):
            continue
        if structure.is_dir():
            images = sorted(path for path in structure.iterdir() if path.suffix.lower() == ".png")
            masks[structure.name] = {path.stem: path for path in images if not find_file_fault(path)}
            opened += images
        else:
            opened.append(structure)
    faults = {path.relative_to(folder.parent).as_posix(): fault for path in opened if (fault := find_file_fault(path))}
    return masks, faults


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
        text = io.StringIO(read_text(path, max_bytes=MAX_TABLE_BYTES), newline="")
        table = csv.DictReader(text, skipinitialspace=True, strict=True)  # strict: a quote that is never closed
        columns = len(table.fieldnames or ())
        rows = list(table) if columns <= MAX_TABLE_COLUMNS else []
    except (OSError, ValueError, csv.Error) as error:
        raise HsevalError(f"{path}: can't be read as a table: {format_reason(error)}") from error
    if columns > MAX_TABLE_COLUMNS:
        raise HsevalError(f"{path}: has {columns} columns; at most {MAX_TABLE_COLUMNS} expected")
    return table.fieldnames or (), rows


def _check_unique(names: Sequence[str | None], label: str) -> None:
    repeated = [(name, count) for name, count in Counter(names).items() if name and count > 1]
    if repeated:
        name, count = repeated[0]
        more = f" (and {format_count(len(repeated) - 1, 'other')} too)" if len(repeated) > 1 else ""
        raise HsevalError(f"{label} {name!r} occurs {count} times{more}; once expected")
