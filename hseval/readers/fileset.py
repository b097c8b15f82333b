"""A set of cubes in files of one format: many files with one cube each, or one file with one or many."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hseval.core.cubes import Cube, CubeSet, IndexIds, SetInfo
from hseval.data.axis_order import Layout, check_layout, choose_layout, move_bands_first, to_byx_shape
from hseval.data.wavelengths import BandAxis, has_same_wavelengths, order_bands
from hseval.readers.formats import get_format
from hseval.readers.header import Format, Header, check_real, wrap_errors
from hseval.readers.mask_arrays import add_mask_arrays
from hseval.readers.sidecar_files import SidecarFiles, check_mask_shape, read_mask_image
from hseval.utils.arrays import Array, BoolArray, Float32Array
from hseval.utils.errors import HsevalError
from hseval.utils.input_files import check_regular_file, check_unchanged, identify_file
from hseval.utils.plural import format_count

MIN_SCALE_FACTOR = 1e-30  # as divisor of float32 values; beyond it all would be zero or infinite
MAX_EAGER_HEADERS = 256  # read at opening, evenly spaced; other headers are read with their cube


@dataclasses.dataclass(frozen=True)
class ReadPlan:
    """How the cubes of one file are read: its header, axis order and band order, and the state of all its files."""

    header: Header
    layout: Layout
    bands: BandAxis
    identities: tuple[tuple[int, ...] | None, ...]

    def check_unchanged(self) -> None:
        """Raise HsevalError if a file was written to since the header was read: its pixels may be a mixture."""
        for path, identity in zip(self.header.files, self.identities, strict=True):
            check_unchanged(path, identity, identify_file(path))


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
        self._files = tuple(files)
        self._structures = self._collect_structures(self._first_plan)
        self.info = self._build_info(location, notes)
        self._check_others(files[1:])

    def read(self, index: int) -> Cube:
        """Return one cube: float32, bands first, in ascending order of wavelength."""
        path, position = self._locate(index)
        plan = self._get_plan(path)
        with wrap_errors(path, f"cube {index} ({self.ids[index]}) can't be read"):
            data = decode_cube(self._format.read_pixels(path, plan.header, position), plan)
        plan.check_unchanged()
        group = self.groups[index] if self.groups is not None else None
        return Cube(data, self.read_masks(index), self.ids[index], group)

    def read_masks(self, index: int) -> Mapping[str, Array]:
        """Return the masks of one cube, from its file and from mask images."""
        path, position = self._locate(index)
        plan, (_, *size) = self._get_plan(path), self.shape(index)
        stored: Mapping[str, Array] = {}
        if plan.header.masks:
            with wrap_errors(path, f"masks of cube {index} can't be read"):
                stored = self._format.read_masks(path, plan.header, position)
            plan.check_unchanged()
        masks = {name: decode_mask(mask, size, location=f"{path}: mask {name!r}") for name, mask in stored.items()}
        for name, image_path in self._get_mask_images(index).items():
            masks[name] = read_mask_image(image_path, size)
        return masks

    def shape(self, index: int) -> tuple[int, int, int]:
        """Return ``(band, y, x)`` from the file's header."""
        plan = self._get_plan(self._locate(index)[0])
        return to_byx_shape(plan.header.cube_shape, plan.layout)

    def sources(self, index: int) -> tuple[Path, ...]:
        """Return the cube's files, its mask images and the folder's sidecar files."""
        header = self._get_plan(self._locate(index)[0]).header
        return (*header.files, *self._get_mask_images(index).values(), *self._sidecars.files)

    def recipe(self, index: int) -> str:
        """Return position, array, axis order, band order, missing value, scale and masks."""
        path, position = self._locate(index)
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
        header, identities = self._read_header(self._first_path)
        wavelengths, notes = self._choose_wavelengths(header)
        location = str(self._first_path)
        count = None if wavelengths is None else len(wavelengths)
        layout, layout_note = choose_layout(
            header.cube_shape, location=location, declared=header.declared_layout, requested=requested, bands=count
        )
        count, *size = to_byx_shape(header.cube_shape, layout)
        bands = order_bands(wavelengths, count, location=location)
        header = add_mask_arrays(header, size)
        plan = ReadPlan(header, layout, bands, identities)
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
        (header, identities), first = self._read_header(path), self._first_plan
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
        return ReadPlan(add_mask_arrays(header, size), layout, bands, identities)

    def _read_header(self, path: Path) -> tuple[Header, tuple[tuple[int, ...] | None, ...]]:
        """Return a header, and the state of its files when it was read."""
        check_regular_file(path)
        identity = identify_file(path)
        with wrap_errors(path, f"can't be read as {self._format_name}"):
            header = self._format.read_header(path)
        if not MIN_SCALE_FACTOR <= abs(header.scale_factor) <= 1 / MIN_SCALE_FACTOR:
            expected = f"a number from {MIN_SCALE_FACTOR:g} to {1 / MIN_SCALE_FACTOR:g} expected"
            raise HsevalError(f"{path}: a scale factor of {header.scale_factor}; {expected}")
        return header, tuple(identity if file == path else identify_file(file) for file in header.files)

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
            ids=self._make_ids(),
            wavelengths=bands.wavelengths,
            wavelengths_known=bands.wavelengths_known,
            structures=tuple(sorted(self._structures)),
            groups=self._sidecars.groups,
            labels=self._sidecars.labels,
            units=self._first_plan.header.units,
            notes=(*notes, *self._sidecars.notes),
        )

    def _locate(self, index: int) -> tuple[Path, int]:
        """Return the file of a cube and its position there; a single file may hold millions."""
        return (self._files[index], 0) if len(self._files) > 1 else (self._first_path, index)

    def _make_ids(self) -> Sequence[str]:
        if self._first_plan.header.count > 1:
            return IndexIds(self._first_plan.header.count)
        stems = tuple(path.stem for path in self._files)
        return stems if len(set(stems)) == len(stems) else tuple(path.name for path in self._files)

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
        return {*self._get_plan(self._locate(index)[0]).header.masks, *self._get_mask_images(index)}

    def _get_mask_images(self, index: int) -> dict[str, Path]:
        stem = self._locate(index)[0].stem
        return {name: images[stem] for name, images in self._sidecars.masks.items() if stem in images}


def decode_cube(stored: Array, plan: ReadPlan) -> Float32Array:
    """Return a stored cube as float32 ``(band, y, x)`` in memory, missing values NaN, scaled."""
    header = plan.header
    check_real(stored.dtype, location=str(header.files[0]))  # of MATLAB's arrays only now is it known
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
    check_mask_shape(stored.shape, image_shape, location=location)
    check_real(stored.dtype, location=location)
    return np.asarray(stored > 0)
