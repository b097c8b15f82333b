"""Folders of single cubes, and single files of the same formats."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import ClassVar

from hseval.core.cubes import CubeSet
from hseval.readers.fileset import FileSet
from hseval.readers.formats import SUFFIXES, find_envi_header, find_format
from hseval.readers.header import Format
from hseval.readers.sidecar_files import format_faults, load_sidecar_files
from hseval.utils.arrays import Array
from hseval.utils.errors import HsevalError
from hseval.utils.input_files import find_file_fault
from hseval.utils.plural import format_count


class FolderReader:
    """Reads a folder of single cubes with its sidecar files, or one such file by itself."""

    name: ClassVar[str] = "folder"
    summary: ClassVar[str] = "a folder of single cubes, or one file: npy, npz, HDF5, MATLAB, ENVI, TIFF"

    def claims(self, path: Path) -> bool:
        """Return whether ``path`` is a folder, or a file with the suffix of a known format."""
        return path.is_dir() or find_format(path) is not None or find_envi_header(path) is not None

    def open(self, path: Path, *, layout: str | None = None, wavelengths: Array | None = None) -> CubeSet:
        """Open a folder, or a single file, whose sidecar files are ignored.

        Raises:
            HsevalError: no cube, cubes of several formats, or an invalid header.
        """
        if path.is_dir():
            return _open_folder(path, layout, wavelengths)
        file_format = find_format(path)
        if file_format is None:
            path = find_envi_header(path) or path
            file_format = find_format(path)
        assert file_format is not None, "claims() returned True"
        return FileSet(path, [path], file_format.NAME, layout=layout, wavelengths=wavelengths)


def _open_folder(folder: Path, layout: str | None, wavelengths: Array | None) -> CubeSet:
    try:
        present = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise HsevalError(f"{folder}: can't be listed: {error.strerror}") from error
    cubes = [(path, file_format) for path in present if (file_format := find_format(path)) is not None]
    for path, file_format in cubes:
        if path.is_dir():
            raise HsevalError(f"{path}: a folder with the suffix of {file_format.NAME} files; a file expected")
    faults = _find_faults([path for path, _ in cubes], present)
    if faults and len(faults) == len(cubes):
        raise HsevalError(f"{folder}: none of its cubes can be opened: {format_faults(faults)}")
    cubes = [(path, file_format) for path, file_format in cubes if path.name not in faults]
    file_format = _find_single_format([file_format for _, file_format in cubes], folder, present)
    files = [path for path, _ in cubes]
    sidecars = load_sidecar_files(folder, [path.stem for path in files])
    if faults:
        note = f"{format_count(len(faults), 'cube')} left out: {format_faults(faults)}"
        sidecars = dataclasses.replace(sidecars, notes=(note, *sidecars.notes))
    return FileSet(folder, files, file_format.NAME, layout=layout, wavelengths=wavelengths, sidecars=sidecars)


def _find_faults(cubes: list[Path], present: list[Path]) -> dict[str, str]:
    """Return by name the cubes that can't be opened, and why; an ENVI header is one if its raw file is."""
    faults = {path: fault for path in present if not path.is_dir() and (fault := find_file_fault(path))}
    cube_faults = {path.name: faults[path] for path in cubes if path in faults}
    for header in (path for path in cubes if path.suffix.lower() == ".hdr"):
        for raw_file in (path for path in faults if header.stem in (path.stem, path.name)):
            cube_faults.setdefault(header.name, f"{raw_file.name}: {faults[raw_file]}")
    return cube_faults


def _find_single_format(formats: list[Format], folder: Path, paths: list[Path]) -> Format:
    counts = Counter(file_format.NAME for file_format in formats)
    if len(counts) == 1:
        return formats[0]
    if counts:
        listed = " and ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        raise HsevalError(f"{folder}: cubes of several formats ({listed}); expected one format per folder")
    suffixes = sorted({path.suffix or path.name for path in paths})[:6]
    content = f"holds no cubes, only {', '.join(suffixes)}" if suffixes else "an empty folder"
    raise HsevalError(f"{folder}: {content}; cubes expected, with names ending in {', '.join(SUFFIXES)}")
