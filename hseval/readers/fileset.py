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
from hseval.data.axis_order import Layout, check_layout, choose_layout, move_bands_first, to_byx_shape
from hseval.data.wavelengths import BandAxis, has_same_wavelengths, order_bands
from hseval.readers.formats import get_format
from hseval.readers.header import Format, Header, wrap_errors
from hseval.readers.mask_arrays import add_mask_arrays
from hseval.readers.sidecar_files import SidecarFiles, read_mask_image
from hseval.utils.errors import HsevalError

MAX_EAGER_HEADERS = 256  # at most so many headers are read at opening, evenly spread; the others when their cube is


@dataclasses.dataclass(frozen=True)
class ReadPlan:
    """How the cubes of one file are served: its header, axis order and band order."""

    header: Header
    layout: Layout
    bands: BandAxis


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
        sidecars: SidecarFiles | None = None,
    ) -> None:
        self._format_name = format_name
        self._wavelengths, self._sidecars = wavelengths, sidecars or SidecarFiles()
        self._plans: dict[Path, ReadPlan] = {}
        self._first_path = files[0]
        self._first_plan, notes = self._make_first_plan(check_layout(layout))
        count = self._first_plan.header.count
        self._members = [(path, 0) for path in files] if len(files) > 1 else [(files[0], i) for i in range(count)]
        self._structures = self._collect_structures(self._first_plan)
        self.info = self._build_info(location, notes)
        self._check_others(files[1:])

    def read(self, index: int) -> Cube:
        """Read one cube: float32, bands first, in ascending order of wavelength."""
        path, place = self._members[index]
        plan = self._get_plan(path)
        with wrap_errors(path, f"cube {index} ({self.ids[index]}) can't be read"):
            data = decode_cube(self._format.read_pixels(path, plan.header, place), plan)
        group = self.groups[index] if self.groups is not None else None
        return Cube(data, self.read_masks(index), self.ids[index], group)

    def read_masks(self, index: int) -> Mapping[str, NDArray[Any]]:
        """Read the masks of one cube from its file, and from the pictures beside it."""
        path, place = self._members[index]
        header, (_, *size) = self._get_plan(path).header, self.shape(index)
        found = {}
        for name in header.masks:
            with wrap_errors(path, f"mask {name!r} of cube {index} can't be read"):
                stored = self._format.read_mask(path, header, name, place)
            found[name] = decode_mask(stored, size, location=f"{path}: mask {name!r}")
        for name, picture in self._get_mask_images(index).items():
            found[name] = decode_mask(read_mask_image(picture), size, location=str(picture))
        return found

    def shape(self, index: int) -> tuple[int, int, int]:
        """Return ``(band, y, x)`` from the file's header."""
        plan = self._get_plan(self._members[index][0])
        return to_byx_shape(plan.header.cube_shape, plan.layout)

    def sources(self, index: int) -> tuple[Path, ...]:
        """Return the cube's files, its masks' pictures and the folder's side files."""
        header = self._get_plan(self._members[index][0]).header
        return (*header.files, *self._get_mask_images(index).values(), *self._sidecars.files)

    def recipe(self, index: int) -> str:
        """Return place, array, axis order, band order, missing value and scale."""
        path, place = self._members[index]
        plan = self._get_plan(path)
        header, order = plan.header, plan.bands.order
        bands = "as stored" if order is None else ",".join(map(str, order))
        return (
            f"{self._format_name} {header.array_name}[{place}] {plan.layout} bands {bands} "
            f"ignore {header.nodata} scale {header.scale_factor!r} masks {','.join(sorted(self._get_mask_names(index)))}"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave the headers read so far behind when travelling to another process."""
        return {**self.__dict__, "_plans": {}}

    @property
    def _format(self) -> Format:
        return get_format(self._format_name)

    def _make_first_plan(self, requested: Layout | None) -> tuple[ReadPlan, list[str]]:
        header = self._read_header(self._first_path)
        centres, notes = self._choose_wavelengths(header)
        where = str(self._first_path)
        count = None if centres is None else len(centres)
        layout, told = choose_layout(
            header.cube_shape, location=where, declared=header.declared_layout, requested=requested, bands=count
        )
        count, *size = to_byx_shape(header.cube_shape, layout)
        bands = order_bands(centres, count, location=where)
        header = add_mask_arrays(header, size)
        plan = ReadPlan(header, layout, bands)
        self._plans[self._first_path] = plan
        return plan, [*([told] if told else []), *notes, *header.notes, *bands.notes]

    def _get_plan(self, path: Path) -> ReadPlan:
        if path not in self._plans:
            self._plans[path] = self._make_plan(path)
        return self._plans[path]

    def _make_plan(self, path: Path) -> ReadPlan:
        """Plan another file than the first, whose axis order, bands and structures it has to share."""
        if path == self._first_path:  # read again in another process
            return self._first_plan
        header, lead = self._read_header(path), self._first_plan
        if header.count > 1:
            raise HsevalError(f"{path}: holds {header.count} cubes; in a folder, one cube a file expected")
        layout = header.declared_layout or lead.layout
        found, *size = to_byx_shape(header.cube_shape, layout)
        expected = len(lead.bands.wavelengths)
        if found != expected:
            told = f"{found} bands, but {self._first_path.name} has {expected}"
            raise HsevalError(f"{path}: {told}: the cubes of a set need the same bands")
        bands = order_bands(self._choose_wavelengths(header)[0], found, location=str(path))
        if bands.wavelengths_known != lead.bands.wavelengths_known or not has_same_wavelengths(
            bands.wavelengths, lead.bands.wavelengths
        ):
            raise HsevalError(
                f"{path}: its wavelengths differ from those of {self._first_path.name} by more than 0.1 nm"
            )
        return ReadPlan(add_mask_arrays(header, size), layout, bands)

    def _read_header(self, path: Path) -> Header:
        with wrap_errors(path, f"can't be read as {self._format_name}"):
            return self._format.read_header(path)

    def _choose_wavelengths(self, header: Header) -> tuple[NDArray[Any] | None, list[str]]:
        """Return the band centres in stored order: the user's, else the file's own, else ``wavelengths.txt``."""
        stored, listed = header.wavelengths, self._sidecars.wavelengths
        if self._wavelengths is not None:
            other = stored if stored is not None else listed
            replaced = other is not None and not has_same_wavelengths(other, self._wavelengths)
            return self._wavelengths, ["the given wavelengths replace those that the files bring"] if replaced else []
        if stored is not None and listed is not None and not has_same_wavelengths(stored, listed):
            told = f"{header.files[0]}: its wavelengths and those of {self._sidecars.files[0].name} differ"
            raise HsevalError(f"{told}; say which hold by --wavelengths")
        return (stored if stored is not None else listed), []

    def _collect_structures(self, plan: ReadPlan) -> set[str]:
        return {*plan.header.masks, *self._sidecars.masks}

    def _build_info(self, location: Path, notes: list[str]) -> SetInfo:
        bands = self._first_plan.bands
        return SetInfo(
            location=str(location),
            ids=_make_unique_ids(self._members),
            wavelengths=bands.wavelengths,
            wavelengths_known=bands.wavelengths_known,
            structures=tuple(sorted(self._structures)),
            groups=self._sidecars.groups,
            labels=self._sidecars.labels,
            units=self._first_plan.header.units,
            notes=(*notes, *self._sidecars.notes),
        )

    def _check_others(self, files: Sequence[Path]) -> None:
        """Read more headers at once, so that most mixed sets are refused before any work starts."""
        notes = list(self.info.notes)
        for path in files[:: max(1, math.ceil(len(files) / MAX_EAGER_HEADERS))]:
            plan = self._get_plan(path)
            self._structures |= set(plan.header.masks)
            notes += [note for note in (*plan.header.notes, *plan.bands.notes) if note not in notes]
        structures = tuple(sorted(self._structures))
        self.info = dataclasses.replace(self.info, structures=structures, notes=tuple(notes))

    def _get_mask_names(self, index: int) -> set[str]:
        return {*self._get_plan(self._members[index][0]).header.masks, *self._get_mask_images(index)}

    def _get_mask_images(self, index: int) -> dict[str, Path]:
        stem = self._members[index][0].stem
        return {name: pictures[stem] for name, pictures in self._sidecars.masks.items() if stem in pictures}


def decode_cube(stored: NDArray[Any], plan: ReadPlan) -> NDArray[np.float32]:
    """Return one stored cube as it is served: float32 ``(band, y, x)`` in memory, missing values NaN, scaled."""
    header = plan.header
    view = move_bands_first(stored, plan.layout)
    if plan.bands.order is not None:
        view = view[plan.bands.order]
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes Inf, which counts as invalid
        cube = np.array(view, dtype=np.float32, order="C")
    if header.nodata is not None:
        cube[np.asarray(view == header.nodata)] = np.nan
    return cube if header.scale_factor == 1 else cube / np.float32(header.scale_factor)


def decode_mask(stored: NDArray[Any], image_shape: Sequence[int], *, location: str) -> NDArray[np.bool_]:
    """Return a stored mask as bool ``(y, x)``.

    Raises:
        HsevalError: it has another shape than the cube.
    """
    if tuple(stored.shape) != tuple(image_shape):
        found, expected = (" x ".join(map(str, shape)) for shape in (stored.shape, image_shape))
        raise HsevalError(f"{location}: a mask of {found} pixels, but the cube has {expected}")
    return np.asarray(stored > 0)


def _make_unique_ids(members: Sequence[tuple[Path, int]]) -> tuple[str, ...]:
    if len(members) > 1 and members[0][0] == members[1][0]:
        return tuple(f"{place:06d}" for _, place in members)
    stems = tuple(path.stem for path, _ in members)
    return stems if len(set(stems)) == len(stems) else tuple(path.name for path, _ in members)
