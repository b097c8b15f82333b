"""Images of cubes as uint8 arrays: gray by band, in color, in false color; one style for all cubes that are compared.

The scale of values is taken from the reference cubes only and is the same for every image, so that brighter samples
look brighter. Invalid pixels are NaN here and transparent in the image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.figure_data import RenderedCube, RenderStyle
from hseval.data.color import (
    XYZ_TO_SRGB,
    choose_composite_bands,
    compute_coverage,
    compute_xyz_weights,
    format_band_name,
    format_color_note,
    is_radiance,
    xyz_to_srgb,
)
from hseval.data.field_of_view import find_valid_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.floating[Any]]
    Bytes = NDArray[np.uint8]

LOW_PERCENTILE, HIGH_PERCENTILE = 1.0, 99.0  # percentiles of the reference's values that map to black and white
WHITE_PERCENTILE = 99.0  # percentile of the largest of red, green and blue that maps to full intensity
MAX_PIXELS = 820_000  # of all bands of one cube on a page (16 bands of 224 x 224 fit)
MAX_BANDS = 64  # steps of a slider
MAX_SIDE = 256  # px; larger images are downsampled


@dataclasses.dataclass(frozen=True, eq=False)
class CubeRenderer:
    """Renders cubes with one set of bands on a common scale.

    Attributes:
        wavelengths: ``(band,)``.
        wavelengths_known: they are nm.
        units: of the values.
        low, high: ``(band,)``, the values that map to black and white.
        weights: ``(3, band)`` to XYZ, scaled so that bright pixels just fit sRGB; None: the bands give no color.
        bands: indices of the bands that are rendered in gray.
        factor: divisor of width and height.
    """

    wavelengths: NDArray[Any]
    wavelengths_known: bool
    units: str | None
    low: FloatArray
    high: FloatArray
    weights: FloatArray | None
    bands: NDArray[np.intp]
    factor: int

    @classmethod
    def from_reference(
        cls,
        reference: Sequence[FloatArray],
        wavelengths: NDArray[Any],
        *,
        wavelengths_known: bool = True,
        units: str | None = None,
        shape: tuple[int, int] | None = None,
        max_side: int = MAX_SIDE,
    ) -> CubeRenderer:
        """Return a renderer scaled to cubes ``(band, y, x)``, NaN where invalid.

        Args:
            reference: cubes that set the scale.
            wavelengths: ``(band,)``.
            wavelengths_known: they are nm.
            units: of the values; radiance and counts include the light of the scene.
            shape: ``(y, x)`` of the largest cube to render; None: of the reference.
            max_side: largest width or height of an image in px.
        """
        pixels = np.concatenate([_select_valid_pixels(cube) for cube in reference], axis=1)
        low, high = (
            np.percentile(pixels, (LOW_PERCENTILE, HIGH_PERCENTILE), axis=1)
            if pixels.size
            else (0.0 * wavelengths, 1 + wavelengths)
        )
        weights = None
        if wavelengths_known and compute_coverage(wavelengths).has_color:
            weights = compute_xyz_weights(wavelengths, is_reflectance=not is_radiance(units))
            # The largest of red, green and blue, not luminance: otherwise bright red pixels would lose their hue.
            white = (
                float(np.percentile((XYZ_TO_SRGB @ weights @ pixels).max(axis=0), WHITE_PERCENTILE))
                if pixels.size
                else 1.0
            )
            weights = weights / white if white > 0 else weights
        height, width = shape or np.max([cube.shape[1:] for cube in reference], axis=0).tolist()
        bands, factor = choose_bands_and_factor(len(wavelengths), height, width, max_side=max_side)
        return cls(wavelengths, wavelengths_known, units, low, high, weights, bands, factor)

    def build_style(self, source: str = "real") -> RenderStyle:
        """Return a description of the rendering; ``source`` names the pixels that set the scale."""
        coverage = compute_coverage(self.wavelengths) if self.wavelengths_known else None
        names = [
            format_band_name(self.wavelengths[i], wavelengths_known=self.wavelengths_known)
            for i in self._composite_band_indices
        ]
        return RenderStyle(
            color_label=coverage.name if coverage is not None and self.weights is not None else None,
            color_note=format_color_note(self.wavelengths, wavelengths_known=self.wavelengths_known, units=self.units),
            composite=f"false color: red is {names[0]}, green {names[1]}, blue {names[2]}",
            band_centers=tuple(float(self.wavelengths[i]) for i in self.bands),
            band_count=len(self.wavelengths),
            stretch=(
                f"black and white are the {LOW_PERCENTILE:.0f}st and {HIGH_PERCENTILE:.0f}th percentile of {source} "
                "pixels, band by band"
            ),
            downsampling_factor=self.factor,
        )

    def render_cube(self, data: FloatArray, cube_id: str) -> RenderedCube:
        """Return the images and the mean spectrum of a cube ``(band, y, x)``, NaN where invalid."""
        pixels = _select_valid_pixels(data)
        spectrum = pixels.mean(axis=1, dtype=np.float64) if pixels.size else np.full(len(data), np.nan)
        downsampled = downsample(data, self.factor)
        return RenderedCube(
            cube_id,
            self.render_color(downsampled),
            self.render_composite(downsampled),
            self.render_gray(downsampled),
            find_valid_pixels(downsampled),
            spectrum,
        )

    def render_color(self, data: FloatArray) -> Bytes | None:
        """Return sRGB ``(y, x, 3)``, or None: the bands give no color."""
        if self.weights is None:
            return None
        return _to_bytes(np.moveaxis(xyz_to_srgb(np.tensordot(self.weights, np.nan_to_num(data), axes=1)), 0, -1))

    def render_composite(self, data: FloatArray) -> Bytes:
        """Return three bands as red, green and blue ``(y, x, 3)``."""
        return np.moveaxis(self._scale_to_bytes(data, list(self._composite_band_indices)), 0, -1)

    def render_gray(self, data: FloatArray) -> Bytes:
        """Return the rendered bands in gray ``(rendered band, y, x)``."""
        return self._scale_to_bytes(data, self.bands)

    @property
    def _composite_band_indices(self) -> tuple[int, int, int]:
        return choose_composite_bands(self.wavelengths, wavelengths_known=self.wavelengths_known)

    def _scale_to_bytes(self, data: FloatArray, bands: Any) -> Bytes:
        low, high = (np.asarray(end)[bands, None, None] for end in (self.low, self.high))
        span = np.where(high > low, high - low, 1.0)
        return _to_bytes((np.nan_to_num(data[bands]) - low) / span)


def mask_invalid(data: FloatArray, valid: NDArray[np.bool_]) -> FloatArray:
    """Return a cube ``(band, y, x)`` with its invalid pixels NaN."""
    return np.where(valid, data, np.float32(np.nan))


def downsample(data: FloatArray, factor: int) -> FloatArray:
    """Return a cube averaged over blocks of ``factor`` x ``factor`` pixels; NaN where most of a block is NaN."""
    if factor == 1:
        return data
    bands, height, width = data.shape
    padding = [(0, 0), (0, -height % factor), (0, -width % factor)]
    padded = np.pad(data, padding, constant_values=np.nan)
    blocks = padded.reshape(bands, padded.shape[1] // factor, factor, padded.shape[2] // factor, factor)
    finite = np.isfinite(blocks)
    count = finite.sum(axis=(2, 4))
    total = np.where(finite, blocks, 0.0).sum(axis=(2, 4), dtype=np.float64)
    mean = np.divide(total, count, out=np.full(count.shape, np.nan), where=2 * count >= factor**2)
    return np.asarray(mean, dtype=np.float32)


def choose_bands_and_factor(
    band_count: int, height: int, width: int, *, max_side: int = MAX_SIDE
) -> tuple[NDArray[np.intp], int]:
    """Return the bands to render and the divisor of width and height, so that the images of a cube fit a page.

    Images are downsampled to half of ``max_side`` at most, then bands are left out.
    """
    longest, max_bands = max(height, width), min(band_count, MAX_BANDS)
    factor = max(1, -(-longest // max_side))
    while (
        max_bands * _compute_reduced_area(height, width, factor) > MAX_PIXELS
        and longest // (factor + 1) >= max_side // 2
    ):
        factor += 1
    count = max(1, min(max_bands, MAX_PIXELS // _compute_reduced_area(height, width, factor)))
    return np.unique(np.linspace(0, band_count - 1, count).round().astype(np.intp)), factor


def _compute_reduced_area(height: int, width: int, factor: int) -> int:
    return -(-height // factor) * -(-width // factor)


def _select_valid_pixels(data: FloatArray) -> FloatArray:
    return data[:, find_valid_pixels(data)]


def _to_bytes(values: FloatArray) -> Bytes:
    return (np.clip(values, 0.0, 1.0) * 255).round().astype(np.uint8)
