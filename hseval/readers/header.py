"""Headers of files, read without a pixel, the Protocol of formats, and one-line errors."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from hseval.data.axis_order import Layout
from hseval.data.limits import MAX_CUBES, check_count
from hseval.utils.arrays import Array, Float64Array
from hseval.utils.errors import HsevalError, format_error
from hseval.utils.plural import format_count

CUBE_NAMES = ("cubes", "cube", "data")  # which of several candidate arrays is the cube
WAVELENGTH_NAMES = ("wavelengths", "wavelength")
MASK_PREFIXES = ("masks/", "mask_")  # masks/artery or mask_artery, in containers with flat names


@dataclasses.dataclass(frozen=True)
class MaskCandidate:
    """An array in a cube's container that may have its spatial size.

    Attributes:
        array_name: its name in the container.
        shape: ``(y, x)``, or ``(n, y, x)`` with several cubes.
        is_mask: whether its values are those of a mask.
    """

    array_name: str
    shape: tuple[int, ...]
    is_mask: bool


@dataclasses.dataclass(frozen=True)
class Header:
    """The header of a file with one or several cubes.

    Attributes:
        files: all files that decide the pixels.
        shape: as stored; three axes, or four where the first one counts cubes.
        array_name: name of the dataset or variable, where the container has several.
        declared_layout: the axis order, where the container states it.
        wavelengths: nm in stored order, where the container has them.
        masks: structure -> name of its mask in the container.
        mask_candidates: other arrays, which are masks under their own names if they have the cube's spatial size.
        units: of the pixel values.
        nodata: the stored value that marks missing pixels.
        scale_factor: divisor of the stored values.
        notes: notes for reports.
    """

    files: tuple[Path, ...]
    shape: tuple[int, ...]
    array_name: str = ""
    declared_layout: Layout | None = None
    wavelengths: Float64Array | None = None
    masks: Mapping[str, str] = dataclasses.field(default_factory=dict)
    mask_candidates: tuple[MaskCandidate, ...] = ()
    units: str | None = None
    nodata: float | None = None
    scale_factor: float = 1.0
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Number of cubes in the file."""
        return self.shape[0] if len(self.shape) == 4 else 1

    @property
    def cube_shape(self) -> tuple[int, ...]:
        """The three axes of one cube, as stored."""
        return self.shape[-3:]


class Format(Protocol):
    """A file format; modules with these members implement it (``hseval.readers.npy`` ...)."""

    NAME: str
    SUFFIXES: tuple[str, ...]

    def read_header(self, path: Path) -> Header:
        """Return the header, after checking that the file has the length that it states."""

    def read_pixels(self, path: Path, header: Header, index: int) -> Array:
        """Return cube ``index`` with its axes as stored."""

    def read_masks(self, path: Path, header: Header, index: int) -> Mapping[str, Array]:
        """Return the masks ``(y, x)`` of cube ``index`` by structure; only where headers list masks."""


@contextlib.contextmanager
def wrap_errors(path: Path, message: str) -> Iterator[None]:
    """Convert any error of a format's library on a damaged file to an HsevalError that names the file."""
    try:
        yield
    except HsevalError:
        raise
    except Exception as error:  # on a damaged file libraries raise struct, zlib, index errors ...
        raise HsevalError(f"{path}: {message}: {' '.join(format_error(error).split())}") from error


@contextlib.contextmanager
def mute_logger(name: str) -> Iterator[None]:
    """Drop what a format's library logs: a damaged file is reported by one HsevalError."""

    def drop(record: logging.LogRecord) -> bool:
        return False

    # A filter, not the logger's level: it is safe with other threads, and the user's settings stay.
    logger = logging.getLogger(name)
    logger.addFilter(drop)
    try:
        yield
    finally:
        logger.removeFilter(drop)


def pick_array(arrays: Mapping[str, tuple[int, ...]], *, location: str) -> str:
    """Return the name of the array that holds the cube, or the cubes.

    Args:
        arrays: shapes of the numeric arrays of a container, without masks and wavelengths.
        location: the path, for messages.

    Raises:
        HsevalError: none or several are candidates; the message lists all arrays.
    """
    candidates = [name for name, shape in arrays.items() if len(shape) >= 3]
    named = [name for name in CUBE_NAMES if name in candidates]
    if named or len(candidates) == 1:
        return (named or candidates)[0]
    listed = ", ".join(f"{name!r} {shape}" for name, shape in sorted(arrays.items())) or "no numeric array"
    expected = f"exactly one with three or four axes, or one called {' or '.join(map(repr, CUBE_NAMES[:2]))}"
    raise HsevalError(f"{location}: holds {listed}; expected {expected}")


def find_mask_names(names: Iterable[str]) -> dict[str, str]:
    """Return structure -> stored name for a container with flat names (``masks/artery``, ``mask_artery``)."""
    masks = {}
    for name in names:
        for prefix in MASK_PREFIXES:
            if name.startswith(prefix) and len(name) > len(prefix):
                masks[name.removeprefix(prefix)] = name
    return masks


def check_cube(shape: Sequence[int], dtype: DTypeLike, *, location: str) -> None:
    """Raise HsevalError unless an array of that shape and type can be one or several cubes."""
    array_type = np.dtype(dtype)
    if array_type.hasobject:
        raise HsevalError(
            f"{location}: holds pickled Python objects, which are never loaded; save a plain numeric array"
        )
    check_real(array_type, location=location)
    if len(shape) == 2:
        raise HsevalError(f"{location}: a 2D image of {shape[0]} x {shape[1]}; a cube with axes (band, y, x) expected")
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise HsevalError(f"{location}: an array of shape {tuple(shape)}; (band, y, x) or (n, band, y, x) expected")
    if len(shape) == 4:
        check_count(shape[0], MAX_CUBES, "cubes", location=location)


def check_real(dtype: np.dtype[Any], *, location: str) -> None:
    """Raise HsevalError unless values are real numbers or bool."""
    if dtype.kind not in "fiub":
        raise HsevalError(f"{location}: values of type {dtype}; real numbers expected")


def format_group_notes(groups: Sequence[str], *, location: str) -> tuple[str, ...]:
    """Return a note on cubes whose group is empty: each is its own group."""
    ungrouped = sum(not group for group in groups)
    note = f"{location}: {ungrouped} of {format_count(len(groups), 'cube')} without a group: each is its own group"
    return (note,) if ungrouped else ()


def check_length(path: Path, expected: int) -> None:
    """Raise HsevalError if a file is shorter than its header states."""
    size = path.stat().st_size
    if size < expected:
        raise HsevalError(f"{path}: truncated: its header states {expected} bytes, the file has {size}")
