"""Wavelengths: parsing, sorting the bands, comparing, and resampling a set to other band centers."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hseval.core.cubes import WAVELENGTH_TOLERANCE_NM, Cube, CubeSet, DerivedSet
from hseval.data.limits import MAX_BANDS, check_count
from hseval.utils.arrays import Array, Float32Array, Float64Array
from hseval.utils.errors import HsevalError, format_reason
from hseval.utils.input_files import read_text
from hseval.utils.plural import format_count

BANDS_SORTED_NOTE = "wavelengths out of order: bands sorted by wavelength"
_ROUNDING_TOLERANCE = 1e-9  # so that a difference of exactly the tolerance passes despite binary rounding

MAX_WAVELENGTHS_BYTES = 2**20  # of a file of wavelengths: 100 bytes a band
RANGE_HINT = "expected FIRST:LAST:COUNT such as 450:905:16"


@dataclasses.dataclass(frozen=True)
class BandAxis:
    """The bands of a cube in ascending order.

    Attributes:
        wavelengths: float64 ``(band,)``, ascending; band indices where wavelengths are unknown.
        wavelengths_known: False where ``wavelengths`` holds band indices.
        order: stored index of each band, or None where the stored order is ascending.
        notes: what was assumed or fixed.
    """

    wavelengths: Float64Array
    wavelengths_known: bool
    order: NDArray[np.intp] | None
    notes: tuple[str, ...]


def parse_wavelengths(text: str) -> Float64Array:
    """Return the band centers in nm of a user's argument: ``450:905:16`` (first, last, count) or a file of numbers.

    Raises:
        HsevalError: neither a range nor a readable file of numbers.
    """
    path = Path(text).expanduser()
    if path.exists() or text.count(":") != 2:
        return read_wavelengths(path)
    first, last, count = text.split(":")
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused below
            centers = np.linspace(float(first), float(last), min(int(count), MAX_BANDS + 1))
    except ValueError:
        raise HsevalError(f"wavelengths: {text!r} is not a range; {RANGE_HINT}") from None
    if len(centers) > MAX_BANDS:
        raise HsevalError(f"wavelengths: {text!r} names {count} bands; expected at most {MAX_BANDS}")
    if len(centers) == 0 or not np.isfinite(centers).all():
        raise HsevalError(f"wavelengths: {text!r} names no band; {RANGE_HINT}")
    return centers


def read_wavelengths(path: Path) -> Float64Array:
    """Return the numbers of a text file: nm, separated by white space, commas or semicolons; ``#`` starts a comment.

    Raises:
        HsevalError: there is no such file, or it holds something else than numbers.
    """
    try:
        lines = read_text(path, max_bytes=MAX_WAVELENGTHS_BYTES).splitlines()
    except (OSError, ValueError) as error:
        reason = f"{format_reason(error)}; expected a file or 450:905:16"
        raise HsevalError(f"{path}: wavelengths can't be read: {reason}") from None
    numbers: list[float] = []
    for number, line in enumerate(lines, start=1):
        for word in line.split("#")[0].replace(",", " ").replace(";", " ").split():
            try:
                numbers.append(float(word))
            except ValueError:
                raise HsevalError(f"{path}: line {number}: {word!r:.40} is not a wavelength in nm") from None
    if not numbers:
        raise HsevalError(f"{path}: holds no wavelengths; expected one number in nm a band")
    return np.asarray(numbers)


def order_bands(wavelengths: Array | None, count: int, *, location: str) -> BandAxis:
    """Return the bands in ascending order of wavelength.

    Args:
        wavelengths: ``(band,)`` nm in stored order, or None where unknown.
        count: number of bands.
        location: the path, for messages.

    Raises:
        HsevalError: there are too many bands, another number of wavelengths, or one of them is not finite.
    """
    check_count(count, MAX_BANDS, "bands", location=location)
    if wavelengths is None:
        note = "no wavelengths: using band indices; metrics that need nm can't be computed (--wavelengths)"
        return BandAxis(np.arange(count, dtype=np.float64), False, None, (note,))
    centers = np.asarray(wavelengths, dtype=np.float64).ravel()
    if len(centers) != count:
        counts = f"{format_count(len(centers), 'wavelength')}, but {format_count(count, 'band')}"
        raise HsevalError(f"{location}: {counts}; one wavelength a band expected")
    if not np.isfinite(centers).all():
        band = int(np.flatnonzero(~np.isfinite(centers))[0])
        value = f"the wavelength of band {band} is {centers[band]}"
        raise HsevalError(f"{location}: {value}: a finite number in nm expected")
    order = np.argsort(centers, kind="stable")
    is_ascending = bool((order == np.arange(count)).all())
    return BandAxis(centers[order], True, None if is_ascending else order, _format_band_notes(centers, is_ascending))


def has_same_wavelengths(a: Array, b: Array) -> bool:
    """Return whether two lists of band centers agree within 0.1 nm, band by band."""
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    tolerance = WAVELENGTH_TOLERANCE_NM + _ROUNDING_TOLERANCE
    return first.shape == second.shape and bool(np.all(np.abs(first - second) <= tolerance))


def interpolate_bands(cube: Array, *, source: Array, target: Array) -> Float32Array:
    """Return a cube at other band centers by linear interpolation along the wavelength.

    Args:
        cube: ``(band, y, x)``.
        source: ``(band,)``, ascending.
        target: ``(new band,)``, within the range of ``source`` (beyond it the outermost band is repeated).
    """
    centers, targets = np.asarray(source, np.float64), np.asarray(target, np.float64)
    lower, upper, weight = _compute_interpolation_weights(centers, targets)
    weights = weight[:, None, None].astype(np.float32)
    # At an exact match use that band alone: 0 x NaN of its neighbor would be NaN.
    lower, upper = np.where(weight == 1, upper, lower), np.where(weight == 0, lower, upper)
    return np.asarray(cube[lower] * (1 - weights) + cube[upper] * weights, dtype=np.float32)


class ResampledSet(DerivedSet):
    """A set with its bands interpolated linearly to other wavelengths (``--resample``).

    Args:
        base: the set to resample.
        wavelengths: requested band centers, nm, ascending.

    Raises:
        HsevalError: the set has no wavelengths, or they do not cover the requested range (the message names both).
    """

    def __init__(self, base: CubeSet, wavelengths: Array) -> None:
        self.base = base
        requested = np.asarray(wavelengths, dtype=np.float64)
        _check_range(base, requested)
        digest = hashlib.sha256(np.concatenate([base.wavelengths, requested]).tobytes()).hexdigest()[:16]
        self._recipe = f"linear {len(base.wavelengths)}->{len(requested)} bands {digest}"
        stored_range, requested_range = _format_range(base.wavelengths), _format_range(requested)
        note = f"bands resampled from {stored_range} to {requested_range} by linear interpolation"
        self.info = dataclasses.replace(base.info, wavelengths=requested, notes=(*base.info.notes, note))

    def read(self, index: int) -> Cube:
        cube = self.base.read(index)
        data = interpolate_bands(cube.data, source=self.base.wavelengths, target=self.wavelengths)
        return dataclasses.replace(cube, data=data)

    def read_masks(self, index: int) -> Mapping[str, Array]:
        return self.base.read_masks(index)

    def shape(self, index: int) -> tuple[int, int, int]:
        _, height, width = self.base.shape(index)
        return len(self.wavelengths), height, width

    def recipe(self, index: int) -> str:
        return f"{self.base.recipe(index)} | {self._recipe}"


def _format_band_notes(centers: Float64Array, is_ascending: bool) -> tuple[str, ...]:
    notes = [] if is_ascending else [BANDS_SORTED_NOTE]
    repeated = len(centers) - len(np.unique(centers))
    if repeated:
        notes.append(f"{format_count(repeated, 'wavelength')} occurring twice: those bands stay in stored order")
    if centers.max() < 30:
        notes.append(f"wavelengths of {centers.min():g} to {centers.max():g} nm: are these micrometers?")
    return tuple(notes)


def _compute_interpolation_weights(
    source: Float64Array, target: Float64Array
) -> tuple[NDArray[np.intp], NDArray[np.intp], Float64Array]:
    # Indices of the bands below and above each target center, and the weight of the upper one.
    upper = np.clip(np.searchsorted(source, target, side="right"), 1, max(len(source) - 1, 1))
    lower = upper - 1
    upper = np.minimum(upper, len(source) - 1)
    gap = source[upper] - source[lower]
    weight = np.divide(target - source[lower], gap, out=np.zeros_like(target), where=gap > 0)
    return lower, upper, np.clip(weight, 0.0, 1.0)


def _check_range(base: CubeSet, target: Float64Array) -> None:
    location, stored = base.info.location, base.wavelengths
    if not base.info.wavelengths_known:
        raise HsevalError(f"{location}: can't be resampled: its wavelengths are unknown (--wavelengths)")
    tolerance = WAVELENGTH_TOLERANCE_NM + _ROUNDING_TOLERANCE
    if target.min() < stored.min() - tolerance or target.max() > stored.max() + tolerance:
        ranges = f"has {_format_range(stored)}, which does not cover {_format_range(target)}"
        raise HsevalError(f"{location}: {ranges}: --resample only interpolates")


def _format_range(wavelengths: Array) -> str:
    return f"{format_count(len(wavelengths), 'band')} over {wavelengths.min():g} to {wavelengths.max():g} nm"
