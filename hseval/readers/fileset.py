"""A set of cubes in files of one format: many files with a cube each, or one file with one or many."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.core.cubes import Cube, CubeSet, SetInfo
from hseval.data.axis_order import Layout, as_byx, bands_first, check_layout, choose_layout
from hseval.data.wavelengths import Bands, order_bands, same_wavelengths
from hseval.readers.formats import format_named
from hseval.readers.header import Format, Header, one_line
from hseval.readers.mask_arrays import with_own_masks
from hseval.readers.sidecar_files import Beside, read_mask
from hseval.utils.errors import HsevalError

EAGER = 256  # at most so many headers are read at opening, evenly spread; the others when their cube is


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the cubes of one file are served: its header, axis order and band order."""

    header: Header
    layout: Layout
    bands: Bands


class FileSet(CubeSet):
    """Cubes in files of one format, opened from their headers.

    Args:
        location: what messages name.
        files: one a cube, or a single one.
        format_name: whose files they are.
        layout: the user's axis order, for containers that state none.
        wavelengths: the user's band centres in stored order; they replace what the files say.
        beside: side files of the folder.

    Raises:
        HsevalError: a header that can't be read, axes that can be read in two ways, mixed band counts.
    """

    def __init__(
        self,
        location: Path,
        files: Sequence[Path],
        format_name: str,
        *,
        layout: str | None = None,
        wavelengths: NDArray[Any] | None = None,
        beside: Beside | None = None,
    ) -> None:
        self._format_name = format_name
        self._wavelengths, self._beside = wavelengths, beside or Beside()
        self._plans: dict[Path, Plan] = {}
        self._first = files[0]
        self._lead, notes = self._plan_first(check_layout(layout))
        count = self._lead.header.count
        self._members = [(path, 0) for path in files] if len(files) > 1 else [(files[0], i) for i in range(count)]
        self._structures = self._known_structures(self._lead)
        self.info = self._describe(location, notes)
        self._check_others(files[1:])

    def read(self, index: int) -> Cube:
        """Read one cube: float32, bands first, in ascending order of wavelength."""
        path, place = self._members[index]
        plan = self._plan(path)
        with one_line(path, f"cube {index} ({self.ids[index]}) can't be read"):
            data = to_cube(self._format.pixels(path, plan.header, place), plan)
        group = self.groups[index] if self.groups is not None else None
        return Cube(data, self.read_masks(index), self.ids[index], group)

    def read_masks(self, index: int) -> Mapping[str, NDArray[Any]]:
        """Read the masks of one cube from its file, and from the pictures beside it."""
        path, place = self._members[index]
        header, (_, *size) = self._plan(path).header, self.shape(index)
        found = {}
        for name in header.masks:
            with one_line(path, f"mask {name!r} of cube {index} can't be read"):
                stored = self._format.mask(path, header, name, place)
            found[name] = checked_mask(stored, size, where=f"{path}: mask {name!r}")
        for name, picture in self._pictures(index).items():
            found[name] = checked_mask(read_mask(picture), size, where=str(picture))
        return found

    def shape(self, index: int) -> tuple[int, int, int]:
        """Return ``(band, y, x)`` from the file's header."""
        plan = self._plan(self._members[index][0])
        return as_byx(plan.header.cube_shape, plan.layout)

    def sources(self, index: int) -> tuple[Path, ...]:
        """Return the cube's files, its masks' pictures and the folder's side files."""
        header = self._plan(self._members[index][0]).header
        return (*header.files, *self._pictures(index).values(), *self._beside.files)

    def recipe(self, index: int) -> str:
        """Return place, array, axis order, band order, missing value and scale."""
        path, place = self._members[index]
        plan = self._plan(path)
        header, order = plan.header, plan.bands.order
        bands = "as stored" if order is None else ",".join(map(str, order))
        return (
            f"{self._format_name} {header.array}[{place}] {plan.layout} bands {bands} "
            f"ignore {header.ignore} scale {header.scale!r} masks {','.join(sorted(self._masks_of(index)))}"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave the headers read so far behind when travelling to another process."""
        return {**self.__dict__, "_plans": {}}

    @property
    def _format(self) -> Format:
        return format_named(self._format_name)

    def _plan_first(self, asked: Layout | None) -> tuple[Plan, list[str]]:
        header = self._header(self._first)
        centres, notes = self._centres(header)
        where = str(self._first)
        count = None if centres is None else len(centres)
        layout, told = choose_layout(header.cube_shape, where=where, stated=header.stated, asked=asked, bands=count)
        count, *size = as_byx(header.cube_shape, layout)
        bands = order_bands(centres, count, where=where)
        header = with_own_masks(header, size)
        plan = Plan(header, layout, bands)
        self._plans[self._first] = plan
        return plan, [*([told] if told else []), *notes, *header.notes, *bands.notes]

    def _plan(self, path: Path) -> Plan:
        if path not in self._plans:
            self._plans[path] = self._plan_other(path)
        return self._plans[path]

    def _plan_other(self, path: Path) -> Plan:
        """Plan another file than the first, whose axis order, bands and structures it has to share."""
        if path == self._first:  # read again in another process
            return self._lead
        header, lead = self._header(path), self._lead
        if header.count > 1:
            raise HsevalError(f"{path}: holds {header.count} cubes; in a folder, one cube a file expected")
        layout = header.stated or lead.layout
        found, *size = as_byx(header.cube_shape, layout)
        expected = len(lead.bands.wavelengths)
        if found != expected:
            told = f"{found} bands, but {self._first.name} has {expected}"
            raise HsevalError(f"{path}: {told}: the cubes of a set need the same bands")
        bands = order_bands(self._centres(header)[0], found, where=str(path))
        if bands.known != lead.bands.known or not same_wavelengths(bands.wavelengths, lead.bands.wavelengths):
            raise HsevalError(f"{path}: its wavelengths differ from those of {self._first.name} by more than 0.1 nm")
        return Plan(with_own_masks(header, size), layout, bands)

    def _header(self, path: Path) -> Header:
        with one_line(path, f"can't be read as {self._format_name}"):
            return self._format.header(path)

    def _centres(self, header: Header) -> tuple[NDArray[Any] | None, list[str]]:
        """Return the band centres in stored order: the user's, else the file's own, else ``wavelengths.txt``."""
        stored, listed = header.wavelengths, self._beside.wavelengths
        if self._wavelengths is not None:
            other = stored if stored is not None else listed
            replaced = other is not None and not same_wavelengths(other, self._wavelengths)
            return self._wavelengths, ["the given wavelengths replace those that the files bring"] if replaced else []
        if stored is not None and listed is not None and not same_wavelengths(stored, listed):
            told = f"{header.files[0]}: its wavelengths and those of {self._beside.files[0].name} differ"
            raise HsevalError(f"{told}; say which hold by --wavelengths")
        return (stored if stored is not None else listed), []

    def _known_structures(self, plan: Plan) -> set[str]:
        return {*plan.header.masks, *self._beside.masks}

    def _describe(self, location: Path, notes: list[str]) -> SetInfo:
        bands = self._lead.bands
        return SetInfo(
            location=str(location),
            ids=_unique_ids(self._members),
            wavelengths=bands.wavelengths,
            wavelengths_known=bands.known,
            structures=tuple(sorted(self._structures)),
            groups=self._beside.groups,
            labels=self._beside.labels,
            units=self._lead.header.units,
            notes=(*notes, *self._beside.notes),
        )

    def _check_others(self, files: Sequence[Path]) -> None:
        """Read more headers at once, so that most mixed sets are refused before any work starts."""
        notes = list(self.info.notes)
        for path in files[:: max(1, math.ceil(len(files) / EAGER))]:
            plan = self._plan(path)
            self._structures |= set(plan.header.masks)
            notes += [note for note in (*plan.header.notes, *plan.bands.notes) if note not in notes]
        structures = tuple(sorted(self._structures))
        self.info = dataclasses.replace(self.info, structures=structures, notes=tuple(notes))

    def _masks_of(self, index: int) -> set[str]:
        return {*self._plan(self._members[index][0]).header.masks, *self._pictures(index)}

    def _pictures(self, index: int) -> dict[str, Path]:
        stem = self._members[index][0].stem
        return {name: pictures[stem] for name, pictures in self._beside.masks.items() if stem in pictures}


def to_cube(stored: NDArray[Any], plan: Plan) -> NDArray[np.float32]:
    """Return one stored cube as it is served: float32 ``(band, y, x)`` in memory, missing values NaN, scaled."""
    header = plan.header
    view = bands_first(stored, plan.layout)
    if plan.bands.order is not None:
        view = view[plan.bands.order]
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes Inf, which counts as invalid
        cube = np.array(view, dtype=np.float32, order="C")
    if header.ignore is not None:
        cube[np.asarray(view == header.ignore)] = np.nan
    return cube if header.scale == 1 else cube / np.float32(header.scale)


def checked_mask(stored: NDArray[Any], size: Sequence[int], *, where: str) -> NDArray[np.bool_]:
    """Return a stored mask as bool ``(y, x)``.

    Raises:
        HsevalError: it has another shape than the cube.
    """
    if tuple(stored.shape) != tuple(size):
        found, expected = (" x ".join(map(str, shape)) for shape in (stored.shape, size))
        raise HsevalError(f"{where}: a mask of {found} pixels, but the cube has {expected}")
    return np.asarray(stored > 0)


def _unique_ids(members: Sequence[tuple[Path, int]]) -> tuple[str, ...]:
    if len(members) > 1 and members[0][0] == members[1][0]:
        return tuple(f"{place:06d}" for _, place in members)
    stems = tuple(path.stem for path, _ in members)
    return stems if len(set(stems)) == len(stems) else tuple(path.name for path, _ in members)
