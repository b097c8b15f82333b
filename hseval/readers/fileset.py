"""A set of cubes in files of one format: many files with one cube each, or one file with one or many."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hseval.core.cubes import Cube, CubeSet, SetInfo
from hseval.data.axis_order import Layout, check_layout, choose_layout, move_bands_first, to_byx_shape
from hseval.data.wavelengths import BandAxis, has_same_wavelengths, order_bands
from hseval.readers.formats import get_format
from hseval.readers.header import Format, Header, wrap_errors
from hseval.readers.mask_arrays import add_mask_arrays
from hseval.readers.sidecar_files import SidecarFiles, read_mask_image
from hseval.utils.arrays import Array, BoolArray, Float32Array
from hseval.utils.errors import HsevalError
from hseval.utils.plural import format_count

MAX_EAGER_HEADERS = 256  # read at opening, evenly spaced; other headers are read with their cube


@dataclasses.dataclass(frozen=True)
class ReadPlan:
    """How the cubes of one file are read: its header, axis order and band order."""

    header: Header
    layout: Layout
    bands: BandAxis


class FileSet(CubeSet):
    """Cubes in files of one format, opened from their headers.

    Args:
        location: path of the set, for messages.
        files: one per cube, or a single one.
        format_name: name of their format.
        layout: the user's axis order, for containers that state none.
        wavelengths: the user's band centers in stored order; they replace those of the files.
        sidecars: sidecar files of the folder.

    Raises:
        HsevalError: a header can't be read, axes are ambiguous, or band counts differ.
    """

    def __init__(
        self,
        location: Path,
        files: Sequence[Path],
        format_name: str,
        *,
        layout: str | None = None,
        wavelengths: Array | None = None,
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
        """Return one cube: float32, bands first, in ascending order of wavelength."""
        path, position = self._members[index]
        plan = self._get_plan(path)
        with wrap_errors(path, f"cube {index} ({self.ids[index]}) can't be read"):
            data = decode_cube(self._format.read_pixels(path, plan.header, position), plan)
        group = self.groups[index] if self.groups is not None else None
        return Cube(data, self.read_masks(index), self.ids[index], group)

    def read_masks(self, index: int) -> Mapping[str, Array]:
        """Return the masks of one cube, from its file and from mask images."""
        path, position = self._members[index]
        header, (_, *size) = self._get_plan(path).header, self.shape(index)
        masks = {}
        for name in header.masks:
            with wrap_errors(path, f"mask {name!r} of cube {index} can't be read"):
                stored = self._format.read_mask(path, header, name, position)
            masks[name] = decode_mask(stored, size, location=f"{path}: mask {name!r}")
        for name, image_path in self._get_mask_images(index).items():
            masks[name] = decode_mask(read_mask_image(image_path), size, location=str(image_path))
        return masks

    def shape(self, index: int) -> tuple[int, int, int]:
        """Return ``(band, y, x)`` from the file's header."""
        plan = self._get_plan(self._members[index][0])
        return to_byx_shape(plan.header.cube_shape, plan.layout)

    def sources(self, index: int) -> tuple[Path, ...]:
        """Return the cube's files, its mask images and the folder's sidecar files."""
        header = self._get_plan(self._members[index][0]).header
        return (*header.files, *self._get_mask_images(index).values(), *self._sidecars.files)

    def recipe(self, index: int) -> str:
        """Return position, array, axis order, band order, missing value, scale and masks."""
        path, position = self._members[index]
        plan = self._get_plan(path)
        header, order = plan.header, plan.bands.order
        bands = "as stored" if order is None else ",".join(map(str, order))
        return (
            f"{self._format_name} {header.array_name}[{position}] {plan.layout} bands {bands} "
            f"ignore {header.nodata} scale {header.scale_factor!r} "
            f"masks {','.join(sorted(self._get_mask_names(index)))}"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the headers read so far, for pickling."""
        return {**self.__dict__, "_plans": {}}

    @property
    def _format(self) -> Format:
        return get_format(self._format_name)

    def _make_first_plan(self, requested: Layout | None) -> tuple[ReadPlan, list[str]]:
        header = self._read_header(self._first_path)
        wavelengths, notes = self._choose_wavelengths(header)
        location = str(self._first_path)
        count = None if wavelengths is None else len(wavelengths)
        layout, layout_note = choose_layout(
            header.cube_shape, location=location, declared=header.declared_layout, requested=requested, bands=count
        )
        count, *size = to_byx_shape(header.cube_shape, layout)
        bands = order_bands(wavelengths, count, location=location)
        header = add_mask_arrays(header, size)
        plan = ReadPlan(header, layout, bands)
        self._plans[self._first_path] = plan
        return plan, [*([layout_note] if layout_note else []), *notes, *header.notes, *bands.notes]

    def _get_plan(self, path: Path) -> ReadPlan:
        if path not in self._plans:
            self._plans[path] = self._make_plan(path)
        return self._plans[path]

    def _make_plan(self, path: Path) -> ReadPlan:
        """Return the plan of a file, which must have the bands and wavelengths of the first one."""
        if path == self._first_path:  # the plans were not pickled
            return self._first_plan
        header, first = self._read_header(path), self._first_plan
        if header.count > 1:
            raise HsevalError(f"{path}: holds {header.count} cubes; in a folder, expected one cube per file")
        layout = header.declared_layout or first.layout
        count, *size = to_byx_shape(header.cube_shape, layout)
        expected = len(first.bands.wavelengths)
        if count != expected:
            mismatch = f"{format_count(count, 'band')}, but {self._first_path.name} has {expected}"
            raise HsevalError(f"{path}: {mismatch}: the cubes of a set need the same bands")
        bands = order_bands(self._choose_wavelengths(header)[0], count, location=str(path))
        if bands.wavelengths_known != first.bands.wavelengths_known or not has_same_wavelengths(
            bands.wavelengths, first.bands.wavelengths
        ):
            raise HsevalError(
                f"{path}: its wavelengths differ from those of {self._first_path.name} by more than 0.1 nm"
            )
        return ReadPlan(add_mask_arrays(header, size), layout, bands)

    def _read_header(self, path: Path) -> Header:
        with wrap_errors(path, f"can't be read as {self._format_name}"):
            return self._format.read_header(path)

    def _choose_wavelengths(self, header: Header) -> tuple[Array | None, list[str]]:
        """Return the band centers in stored order: the user's, else the file's own, else ``wavelengths.txt``."""
        stored, sidecar = header.wavelengths, self._sidecars.wavelengths
        if self._wavelengths is not None:
            own = stored if stored is not None else sidecar
            replaced = own is not None and not has_same_wavelengths(own, self._wavelengths)
            return self._wavelengths, ["the given wavelengths replace those of the files"] if replaced else []
        if stored is not None and sidecar is not None and not has_same_wavelengths(stored, sidecar):
            mismatch = f"{header.files[0]}: its wavelengths and those of {self._sidecars.files[0].name} differ"
            raise HsevalError(f"{mismatch}; give the right ones by --wavelengths")
        return (stored if stored is not None else sidecar), []

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
        """Read more headers, so that most mixed sets are refused before any work starts."""
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
        return {name: images[stem] for name, images in self._sidecars.masks.items() if stem in images}


def decode_cube(stored: Array, plan: ReadPlan) -> Float32Array:
    """Return a stored cube as float32 ``(band, y, x)`` in memory, missing values NaN, scaled."""
    header = plan.header
    view = move_bands_first(stored, plan.layout)
    if plan.bands.order is not None:
        view = view[plan.bands.order]
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes Inf, which counts as invalid
        cube = np.array(view, dtype=np.float32, order="C")
    if header.nodata is not None:
        cube[np.asarray(view == header.nodata)] = np.nan
    return cube if header.scale_factor == 1 else cube / np.float32(header.scale_factor)


def decode_mask(stored: Array, image_shape: Sequence[int], *, location: str) -> BoolArray:
    """Return a stored mask as bool ``(y, x)``.

    Raises:
        HsevalError: its shape is not that of the cube.
    """
    if tuple(stored.shape) != tuple(image_shape):
        shape, expected = (" x ".join(map(str, axes)) for axes in (stored.shape, image_shape))
        raise HsevalError(f"{location}: a mask of {shape} pixels, but the cube has {expected}")
    return np.asarray(stored > 0)


def _make_unique_ids(members: Sequence[tuple[Path, int]]) -> tuple[str, ...]:
    if len(members) > 1 and members[0][0] == members[1][0]:
        return tuple(f"{position:06d}" for _, position in members)
    stems = tuple(path.stem for path, _ in members)
    return stems if len(set(stems)) == len(stems) else tuple(path.name for path, _ in members)
