"""What a format has to tell of a file without reading a pixel, and how its errors become one line."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hseval.data.axis_order import Layout
from hseval.utils.errors import HsevalError, format_error

CUBE_NAMES = ("cubes", "cube", "data")  # of several arrays that could be the cube, the one of these names is
WAVELENGTH_NAMES = ("wavelengths", "wavelength")
MASK_PREFIXES = ("masks/", "mask_")  # masks/artery or mask_artery, where a container has flat names


@dataclasses.dataclass(frozen=True)
class MaskCandidate:
    """An array beside the cube that may have the size of its picture.

    Attributes:
        array_name: the name under which the container keeps it.
        shape: ``(y, x)``, or ``(n, y, x)`` beside several cubes.
        is_mask: whether its values are those of a mask.
    """

    array_name: str
    shape: tuple[int, ...]
    is_mask: bool


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file says of the cube, or cubes, that it holds.

    Attributes:
        files: all files that decide the pixels.
        shape: as stored; three axes, or four where the first one counts cubes.
        array_name: the name of the dataset or variable, where the container has several.
        declared_layout: the axis order, where the container states it.
        wavelengths: nm in stored order, where the container brings them.
        masks: structure -> the name under which the container keeps its mask.
        mask_candidates: other arrays that are masks under their own names if they have the size of the cube's picture.
        units: of the pixel values.
        nodata: the stored value that marks missing pixels.
        scale_factor: the number that stored values are divided by.
        notes: what a report has to say.
    """

    files: tuple[Path, ...]
    shape: tuple[int, ...]
    array_name: str = ""
    declared_layout: Layout | None = None
    wavelengths: NDArray[np.float64] | None = None
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
    """One kind of file. A module with these names is one (``hseval.readers.npy`` ...)."""

    NAME: str
    SUFFIXES: tuple[str, ...]

    def read_header(self, path: Path) -> Header:
        """Read the header, and check that the file is as long as the header says."""

    def read_pixels(self, path: Path, header: Header, index: int) -> NDArray[Any]:
        """Read cube ``index`` with its axes as stored."""

    def read_mask(self, path: Path, header: Header, structure: str, index: int) -> NDArray[Any]:
        """Read one mask of cube ``index``, ``(y, x)``."""


@contextlib.contextmanager
def wrap_errors(path: Path, message: str) -> Iterator[None]:
    """Turn whatever a format's library raises on a damaged file into one line that names the file."""
    try:
        yield
    except HsevalError:
        raise
    except Exception as error:  # on a damaged file libraries raise struct, zlib, index errors ...
        raise HsevalError(f"{path}: {message}: {' '.join(format_error(error).split())}") from error


def pick_array(arrays: Mapping[str, tuple[int, ...]], *, location: str) -> str:
    """Return the name of the one array that is the cube, or the cubes.

    Args:
        arrays: shapes of the numeric arrays of a container, masks and wavelengths left out.
        location: what messages name.

    Raises:
        HsevalError: none or several could be meant; all are listed.
    """
    solid = [name for name, shape in arrays.items() if len(shape) >= 3]
    named = [name for name in CUBE_NAMES if name in solid]
    if named or len(solid) == 1:
        return (named or solid)[0]
    listed = ", ".join(f"{name} {shape}" for name, shape in sorted(arrays.items())) or "no numeric array"
    expected = f"exactly one with three or four axes, or one called {' or '.join(map(repr, CUBE_NAMES[:2]))}"
    raise HsevalError(f"{location}: holds {listed}; expected {expected}")


def find_mask_names(names: Iterable[str]) -> dict[str, str]:
    """Return structure -> stored name for a container with flat names (``masks/artery``, ``mask_artery``)."""
    found = {}
    for name in names:
        for prefix in MASK_PREFIXES:
            if name.startswith(prefix) and len(name) > len(prefix):
                found[name.removeprefix(prefix)] = name
    return found


def check_cube(shape: Sequence[int], dtype: DTypeLike, *, location: str) -> None:
    """Raise HsevalError unless an array of that shape and type can be one cube, or several."""
    kind = np.dtype(dtype)
    if kind.hasobject:
        raise HsevalError(
            f"{location}: holds pickled Python objects, which are never loaded; save a plain numeric array"
        )
    if kind.kind not in "fiub":
        raise HsevalError(f"{location}: values of type {kind}; real numbers expected")
    if len(shape) == 2:
        raise HsevalError(f"{location}: a 2D image of {shape[0]} x {shape[1]}; a cube with axes (band, y, x) expected")
    if len(shape) not in (3, 4) or 0 in shape:
        raise HsevalError(f"{location}: an array of shape {tuple(shape)}; (band, y, x) or (n, band, y, x) expected")


def format_group_notes(groups: Sequence[str], *, location: str) -> tuple[str, ...]:
    """Return what a report has to say of cubes whose group is empty: each is a group of its own."""
    alone = sum(not group for group in groups)
    return (f"{location}: {alone} of {len(groups)} cubes have no group: each stands alone",) if alone else ()


def check_length(path: Path, expected: int) -> None:
    """Raise HsevalError where a file is shorter than its header says."""
    found = path.stat().st_size
    if found < expected:
        raise HsevalError(f"{path}: truncated: its header promises {expected} bytes, the file has {found}")
