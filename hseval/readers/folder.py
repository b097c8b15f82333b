"""Folders of single cubes, and single files of the same formats."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from hseval.core.cubes import CubeSet
from hseval.readers.fileset import FileSet
from hseval.readers.formats import SUFFIXES, find_envi_header, find_format
from hseval.readers.header import Format
from hseval.readers.sidecar_files import load_sidecar_files
from hseval.utils.errors import HsevalError


class FolderReader:
    """Reads a folder of single cubes with what stands beside them, or one such file by itself."""

    name: ClassVar[str] = "folder"
    summary: ClassVar[str] = "a folder of single cubes, or one file: npy, npz, HDF5, MATLAB, ENVI, TIFF"

    def claims(self, path: Path) -> bool:
        """Claim any folder, and files whose name ends as a known format's does."""
        return path.is_dir() or find_format(path) is not None or find_envi_header(path) is not None

    def open(self, path: Path, *, layout: str | None = None, wavelengths: NDArray[Any] | None = None) -> CubeSet:
        """Open a folder, or a file by itself: what stands beside a single file is not looked at.

        Raises:
            HsevalError: no cube, or cubes of several formats, or what a header makes impossible.
        """
        if path.is_dir():
            return _open_folder(path, layout, wavelengths)
        kind = find_format(path)
        if kind is None:
            path = find_envi_header(path) or path
            kind = find_format(path)
        assert kind is not None, "claims() has said yes"
        return FileSet(path, [path], kind.NAME, layout=layout, wavelengths=wavelengths)


def _open_folder(folder: Path, layout: str | None, wavelengths: NDArray[Any] | None) -> CubeSet:
    try:
        present = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise HsevalError(f"{folder}: can't be listed: {error.strerror}") from error
    cubes = [(path, kind) for path in present if (kind := find_format(path)) is not None]
    for path, kind in cubes:
        if path.is_dir():
            raise HsevalError(f"{path}: a folder, though its name ends as a file of {kind.NAME} does; a file expected")
    kind = _find_single_format([kind for _, kind in cubes], folder, present)
    files = [path for path, _ in cubes]
    beside = load_sidecar_files(folder, [path.stem for path in files])
    return FileSet(folder, files, kind.NAME, layout=layout, wavelengths=wavelengths, sidecars=beside)


def _find_single_format(formats: list[Format], folder: Path, paths: list[Path]) -> Format:
    counts = Counter(kind.NAME for kind in formats)
    if len(counts) == 1:
        return formats[0]
    if counts:
        listed = " and ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        raise HsevalError(f"{folder}: cubes of several formats ({listed}); one format a folder expected")
    endings = sorted({path.suffix or path.name for path in paths})[:6]
    found = f"holds no cubes, only {', '.join(endings)}" if endings else "an empty folder"
    raise HsevalError(f"{folder}: {found}; cubes expected, with names ending in {', '.join(SUFFIXES)}")
