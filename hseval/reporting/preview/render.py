"""Pictures of cubes as arrays of bytes: grey by band, in colour, in false colour; one look for all that are compared.

What scales values is taken from the reference cubes alone and is the same for every picture, so that brighter samples
look brighter. Invalid pixels are NaN here and stay empty in the picture.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.figure_data import Look, Shown
from hseval.data.color import (
    TO_SRGB,
    band_name,
    colour_told,
    composite_bands,
    coverage,
    own_light,
    srgb,
    xyz_weights,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]
    Bytes = NDArray[np.uint8]

LOW, HIGH = 1.0, 99.0  # percentiles of the reference's values that become black and white
WHITE = 99.0  # percentile of the largest of red, green and blue that becomes full
PIXELS = 820_000  # of all bands of a cube: what one cube may take in a page (16 bands of 224 x 224 do)
MOST_BANDS = 64  # that a slider has steps for
SIDE = 256  # px; pictures are reduced to no more


@dataclasses.dataclass(frozen=True, eq=False)
class Painter:
    """Paints cubes of one set of bands, all alike.

    Attributes:
        wavelengths: ``(band,)``.
        known: they are nm.
        units: of the values.
        low, high: ``(band,)`` the values that become black and white.
        weights: ``(3, band)`` to XYZ, scaled so that bright pixels just fit sRGB; None where bands do not tell colour.
        bands: places of the bands that are shown in grey.
        factor: how many times a side is divided.
    """

    wavelengths: NDArray[Any]
    known: bool
    units: str | None
    low: Floats
    high: Floats
    weights: Floats | None
    bands: NDArray[np.intp]
    factor: int

    @classmethod
    def of(
        cls,
        reference: Sequence[Floats],
        wavelengths: NDArray[Any],
        *,
        known: bool = True,
        units: str | None = None,
        shape: tuple[int, int] | None = None,
        side: int = SIDE,
    ) -> Painter:
        """Return the painter whose scales fit some cubes ``(band, y, x)``, NaN where invalid.

        Args:
            reference: cubes that scale the pictures.
            wavelengths: ``(band,)``.
            known: they are nm.
            units: of the values; radiance and counts hold their own light.
            shape: ``(y, x)`` of the largest cube that will be painted; None: of these.
            side: px that a picture may be wide or high.
        """
        pixels = np.concatenate([_pixels(cube) for cube in reference], axis=1)
        low, high = np.percentile(pixels, (LOW, HIGH), axis=1) if pixels.size else (0.0 * wavelengths, 1 + wavelengths)
        weights = None
        if known and coverage(wavelengths).colour:
            weights = xyz_weights(wavelengths, lit=not own_light(units))
            # The largest of red, green and blue, not luminance: or what is red would lose its hue where it is bright.
            bright = float(np.percentile((TO_SRGB @ weights @ pixels).max(axis=0), WHITE)) if pixels.size else 1.0
            weights = weights / bright if bright > 0 else weights
        height, width = shape or np.max([cube.shape[1:] for cube in reference], axis=0).tolist()
        bands, factor = fitting(len(wavelengths), height, width, side=side)
        return cls(wavelengths, known, units, low, high, weights, bands, factor)

    def look(self, whose: str = "real") -> Look:
        """Return how pictures are made, in words; ``whose`` pixels scale them."""
        found = coverage(self.wavelengths) if self.known else None
        names = [band_name(self.wavelengths[i], known=self.known) for i in self._composite]
        return Look(
            colour=found.name if found is not None and self.weights is not None else None,
            colour_told=colour_told(self.wavelengths, known=self.known, units=self.units),
            composite=f"false colour: red is {names[0]}, green {names[1]}, blue {names[2]}",
            bands=tuple(float(self.wavelengths[i]) for i in self.bands),
            all_bands=len(self.wavelengths),
            stretch=f"black and white are the {LOW:.0f}st and {HIGH:.0f}th percentile of {whose} pixels, band by band",
            reduced=self.factor,
        )

    def shown(self, data: Floats, id: str) -> Shown:
        """Return a cube ``(band, y, x)``, NaN where invalid, as it is shown."""
        pixels = _pixels(data)
        spectrum = pixels.mean(axis=1, dtype=np.float64) if pixels.size else np.full(len(data), np.nan)
        small = reduced(data, self.factor)
        return Shown(id, self.colour(small), self.composite(small), self.grey(small), valid_of(small), spectrum)

    def colour(self, data: Floats) -> Bytes | None:
        """Return sRGB ``(y, x, 3)``, or None where the bands do not tell colour."""
        if self.weights is None:
            return None
        return _bytes(np.moveaxis(srgb(np.tensordot(self.weights, np.nan_to_num(data), axes=1)), 0, -1))

    def composite(self, data: Floats) -> Bytes:
        """Return three bands as red, green and blue ``(y, x, 3)``."""
        return np.moveaxis(self._scaled(data, list(self._composite)), 0, -1)

    def grey(self, data: Floats) -> Bytes:
        """Return the shown bands in grey ``(shown band, y, x)``."""
        return self._scaled(data, self.bands)

    @property
    def _composite(self) -> tuple[int, int, int]:
        return composite_bands(self.wavelengths, known=self.known)

    def _scaled(self, data: Floats, bands: Any) -> Bytes:
        low, high = (np.asarray(end)[bands, None, None] for end in (self.low, self.high))
        span = np.where(high > low, high - low, 1.0)
        return _bytes((np.nan_to_num(data[bands]) - low) / span)


def masked(data: Floats, valid: NDArray[np.bool_]) -> Floats:
    """Return a cube ``(band, y, x)`` with its invalid pixels NaN."""
    return np.where(valid, data, np.float32(np.nan))


def valid_of(data: Floats) -> NDArray[np.bool_]:
    """Return bool ``(y, x)``: where a cube is finite in every band."""
    return np.asarray(np.isfinite(data).all(axis=0))


def reduced(data: Floats, factor: int) -> Floats:
    """Return a cube with ``factor`` x ``factor`` pixels averaged into one; NaN where most of them are."""
    if factor == 1:
        return data
    bands, height, width = data.shape
    padding = [(0, 0), (0, -height % factor), (0, -width % factor)]
    padded = np.pad(data, padding, constant_values=np.nan)
    blocks = padded.reshape(bands, padded.shape[1] // factor, factor, padded.shape[2] // factor, factor)
    there = np.isfinite(blocks)
    count = there.sum(axis=(2, 4))
    total = np.where(there, blocks, 0.0).sum(axis=(2, 4), dtype=np.float64)
    mean = np.divide(total, count, out=np.full(count.shape, np.nan), where=2 * count >= factor**2)
    return np.asarray(mean, dtype=np.float32)


def fitting(bands: int, height: int, width: int, *, side: int = SIDE) -> tuple[NDArray[np.intp], int]:
    """Return which bands to show of a cube, and by how much to divide its sides, so that a page can hold it.

    Pictures are made smaller down to half of ``side``, then bands are left out.
    """
    longest, wanted = max(height, width), min(bands, MOST_BANDS)
    factor = max(1, -(-longest // side))
    while wanted * _area(height, width, factor) > PIXELS and longest // (factor + 1) >= side // 2:
        factor += 1
    count = max(1, min(wanted, PIXELS // _area(height, width, factor)))
    return np.unique(np.linspace(0, bands - 1, count).round().astype(np.intp)), factor


def _area(height: int, width: int, factor: int) -> int:
    return -(-height // factor) * -(-width // factor)


def _pixels(data: Floats) -> Floats:
    return data[:, valid_of(data)]


def _bytes(values: Floats) -> Bytes:
    return (np.clip(values, 0.0, 1.0) * 255).round().astype(np.uint8)
