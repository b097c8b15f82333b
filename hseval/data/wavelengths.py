"""Wavelengths: parsing, sorting with the bands, comparing, and resampling a set to other band centres."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.core.cubes import WAVELENGTH_TOLERANCE_NM, Cube, CubeSet
from hseval.utils.errors import HsevalError

BANDS_SORTED_NOTE = "wavelengths out of order: bands sorted by wavelength"
_ROUNDING_TOLERANCE = 1e-9  # so that a difference of exactly the tolerance, in binary, still passes

MAX_BANDS = 10_000


@dataclasses.dataclass(frozen=True)
class BandAxis:
    """The bands of a cube as they are served.

    Attributes:
        wavelengths: float64 ``(band,)``, ascending; the band index where nothing is known.
        wavelengths_known: False where the band index stands in.
        order: stored index of each served band, or None where the stored order stays.
        notes: what had to be assumed or mended.
    """

    wavelengths: NDArray[np.float64]
    wavelengths_known: bool
    order: NDArray[np.intp] | None
    notes: tuple[str, ...]


def parse_wavelengths(text: str) -> NDArray[np.float64]:
    """Return the band centres in nm that a user names: ``450:905:16`` (first, last, count) or a file of numbers.

    Raises:
        HsevalError: neither a range nor a readable file of numbers.
    """
    path = Path(text).expanduser()
    if path.exists() or text.count(":") != 2:
        return read_wavelengths(path)
    first, last, count = text.split(":")
    try:
        centres = np.linspace(float(first), float(last), min(int(count), MAX_BANDS + 1))
    except ValueError:
        raise HsevalError(f"wavelengths: {text!r} is no range; expected FIRST:LAST:COUNT such as 450:905:16") from None
    if len(centres) > MAX_BANDS:
        raise HsevalError(f"wavelengths: {text!r} names {count} bands; at most {MAX_BANDS} are read")
    if len(centres) == 0 or not np.isfinite(centres).all():
        raise HsevalError(f"wavelengths: {text!r} names no band; expected FIRST:LAST:COUNT such as 450:905:16")
    return centres


def read_wavelengths(path: Path) -> NDArray[np.float64]:
    """Return the numbers of a text file: nm, separated by white space, commas or semicolons; ``#`` starts a comment.

    Raises:
        HsevalError: no such file, or something in it is no number.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        told = error.strerror if isinstance(error, OSError) else "not a text file"
        raise HsevalError(f"{path}: wavelengths can't be read: {told}; expected a file or 450:905:16") from None
    numbers: list[float] = []
    for number, line in enumerate(lines, start=1):
        for word in line.split("#")[0].replace(",", " ").replace(";", " ").split():
            try:
                numbers.append(float(word))
            except ValueError:
                raise HsevalError(f"{path}: line {number}: {word!r} is no wavelength in nm") from None
    if not numbers:
        raise HsevalError(f"{path}: holds no wavelengths; expected one number in nm a band")
    return np.asarray(numbers)


def order_bands(wavelengths: NDArray[Any] | None, count: int, *, location: str) -> BandAxis:
    """Return the bands in ascending order of wavelength.

    Args:
        wavelengths: ``(band,)`` nm in stored order, or None where nothing is known.
        count: number of bands.
        location: what messages name.

    Raises:
        HsevalError: another number of wavelengths than bands, or one that is not finite.
    """
    if wavelengths is None:
        note = "no wavelengths: the band index stands in; metrics that need nm can't be computed (--wavelengths)"
        return BandAxis(np.arange(count, dtype=np.float64), False, None, (note,))
    centres = np.asarray(wavelengths, dtype=np.float64).ravel()
    if len(centres) != count:
        raise HsevalError(f"{location}: {len(centres)} wavelengths, but {count} bands: one wavelength a band expected")
    if not np.isfinite(centres).all():
        bad = int(np.flatnonzero(~np.isfinite(centres))[0])
        raise HsevalError(f"{location}: the wavelength of band {bad} is {centres[bad]}: a finite number in nm expected")
    order = np.argsort(centres, kind="stable")
    in_order = bool((order == np.arange(count)).all())
    return BandAxis(centres[order], True, None if in_order else order, _format_band_notes(centres, in_order))


def has_same_wavelengths(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Say whether two lists of band centres agree within 0.1 nm, band by band."""
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return first.shape == second.shape and bool(
        np.all(np.abs(first - second) <= WAVELENGTH_TOLERANCE_NM + _ROUNDING_TOLERANCE)
    )


def interpolate_bands(cube: NDArray[Any], *, source: NDArray[Any], target: NDArray[Any]) -> NDArray[np.float32]:
    """Return a cube at other band centres by linear interpolation along the wavelength.

    Args:
        cube: ``(band, y, x)``.
        source: ``(band,)``, ascending.
        target: ``(new band,)``, within the range of ``source`` (beyond it the outer band is repeated).
    """
    lower, upper, weight = _compute_interpolation_weights(
        np.asarray(source, np.float64), np.asarray(target, np.float64)
    )
    share = weight[:, None, None].astype(np.float32)
    # An exact hit takes that band alone: 0 x NaN from the neighbour would spoil it.
    lower, upper = np.where(weight == 1, upper, lower), np.where(weight == 0, lower, upper)
    return np.asarray(cube[lower] * (1 - share) + cube[upper] * share, dtype=np.float32)


class ResampledSet(CubeSet):
    """Another set, its bands interpolated linearly to given wavelengths (``--resample``).

    Args:
        base: the set to resample.
        wavelengths: the band centres wanted, nm, ascending.

    Raises:
        HsevalError: the set has no wavelengths, or they do not reach as far (both ranges are named).
    """

    def __init__(self, base: CubeSet, wavelengths: NDArray[Any]) -> None:
        self.base = base
        wanted = np.asarray(wavelengths, dtype=np.float64)
        _check_range(base, wanted)
        digest = hashlib.sha256(np.concatenate([base.wavelengths, wanted]).tobytes()).hexdigest()[:16]
        self._recipe = f"linear {len(base.wavelengths)}->{len(wanted)} bands {digest}"
        note = (
            f"bands resampled from {_format_range(base.wavelengths)} to {_format_range(wanted)} by linear interpolation"
        )
        self.info = dataclasses.replace(base.info, wavelengths=wanted, notes=(*base.info.notes, note))

    def read(self, index: int) -> Cube:
        cube = self.base.read(index)
        data = interpolate_bands(cube.data, source=self.base.wavelengths, target=self.wavelengths)
        return dataclasses.replace(cube, data=data)

    def read_masks(self, index: int) -> Mapping[str, NDArray[Any]]:
        return self.base.read_masks(index)

    def shape(self, index: int) -> tuple[int, int, int]:
        _, height, width = self.base.shape(index)
        return len(self.wavelengths), height, width

    def sources(self, index: int) -> tuple[Path, ...]:
        return self.base.sources(index)

    def recipe(self, index: int) -> str:
        return f"{self.base.recipe(index)} | {self._recipe}"


def _format_band_notes(centers: NDArray[np.float64], in_order: bool) -> tuple[str, ...]:
    notes = [] if in_order else [BANDS_SORTED_NOTE]
    repeated = len(centers) - len(np.unique(centers))
    if repeated:
        notes.append(f"{repeated} wavelengths occur twice: those bands keep the order in which they are stored")
    if centers.max() < 30:
        notes.append(f"wavelengths of {centers.min():g} to {centers.max():g} nm: are these micrometres?")
    return tuple(notes)


def _compute_interpolation_weights(
    source: NDArray[np.float64], target: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    # Indices of the neighbours below and above each wanted centre, and the share of the one above.
    upper = np.clip(np.searchsorted(source, target, side="right"), 1, max(len(source) - 1, 1))
    lower = upper - 1
    upper = np.minimum(upper, len(source) - 1)
    gap = source[upper] - source[lower]
    weight = np.divide(target - source[lower], gap, out=np.zeros_like(target), where=gap > 0)
    return lower, upper, np.clip(weight, 0.0, 1.0)


def _check_range(base: CubeSet, target: NDArray[np.float64]) -> None:
    location, stored = base.info.location, base.wavelengths
    if not base.info.wavelengths_known:
        raise HsevalError(f"{location}: can't be resampled: its wavelengths are not known (--wavelengths)")
    reach = WAVELENGTH_TOLERANCE_NM + _ROUNDING_TOLERANCE
    if target.min() < stored.min() - reach or target.max() > stored.max() + reach:
        raise HsevalError(
            f"{location}: has {_format_range(stored)}, which does not reach {_format_range(target)}: --resample interpolates only"
        )


def _format_range(wavelengths: NDArray[Any]) -> str:
    return f"{len(wavelengths)} bands over {wavelengths.min():g} to {wavelengths.max():g} nm"
