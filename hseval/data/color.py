"""Color from spectra by the CIE 1931 observer, and false color where the bands do not determine a color.

Reflectance is multiplied by D65, weighted by the color-matching functions over all bands (not just three) and converted
to sRGB. Values between bands are interpolated linearly. Where the bands end inside the visible range, the nearest
measured value replaces missing ones, as CIE 167:2005 (section 10) advises, and :class:`Coverage` reports how much of
each weight that affects.
"""

from __future__ import annotations

import functools
from importlib import resources
from typing import NamedTuple

import numpy as np

from hseval.utils.arrays import Array, Float64Array
from hseval.utils.plural import format_count

OBSERVER_TABLE = "resources/cie1931_d65.csv"
# CIE XYZ (D65 white, Y = 1) to linear sRGB: IEC 61966-2-1:1999.
XYZ_TO_SRGB = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])
MIN_COVERAGE = 0.5  # share of each of X, Y and Z that has to be measured for a color
MIN_VISIBLE_BANDS = 3  # in the visible range
MAX_GAP_NM = 60.0  # larger gaps between visible bands make a rough color
COLOR_INFRARED_NM = (850.0, 650.0, 550.0)  # nm shown as red, green and blue: the usual color-infrared composite
INFRARED_TOLERANCE_NM = 40.0  # largest distance of a band from one of these
RADIANCE_UNITS = ("radian", "count", "digital number")  # units of values that include the illumination


class StandardObserver(NamedTuple):
    """Wavelengths ``(81,)``, color-matching functions ``(3, 81)``, D65 ``(81,)``."""

    wavelengths: Float64Array
    color_matching: Float64Array
    illuminant: Float64Array


class Coverage(NamedTuple):
    """How much of a color is measured.

    Attributes:
        fractions: shares of the weights of X, Y and Z between the first and the last band.
        visible_bands: number of bands in the visible range, 380 to 780 nm.
        max_gap: largest gap between neighboring bands within the visible range, nm; infinite with fewer than two bands.
    """

    fractions: tuple[float, float, float]
    visible_bands: int
    max_gap: float

    @property
    def has_color(self) -> bool:
        """Whether enough is measured for a color; else only false color is shown."""
        return min(self.fractions) >= MIN_COVERAGE and self.visible_bands >= MIN_VISIBLE_BANDS

    @property
    def name(self) -> str:
        """The name of a picture in these colors."""
        if not self.has_color:
            return "false color"
        return "true color" if self.max_gap <= MAX_GAP_NM else "rough color"


@functools.cache
def load_observer() -> StandardObserver:
    """Return the CIE 1931 2 degree observer and D65, 380 to 780 nm by 5 nm."""
    text = resources.files("hseval").joinpath(OBSERVER_TABLE).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    table = np.array([[float(field) for field in line.split(",")] for line in lines[1:]]).T
    return StandardObserver(table[0], table[1:4], table[4])


def compute_coverage(wavelengths: Array) -> Coverage:
    """Return how much of the observer's weights lies between the outer band centers (``(band,)`` nm, ascending)."""
    nm, matching, daylight = load_observer()
    weights = matching * daylight
    within = (nm >= wavelengths[0]) & (nm <= wavelengths[-1])
    x, y, z = (weights[:, within].sum(axis=1) / weights.sum(axis=1)).tolist()
    low, high = wavelengths[:-1], wavelengths[1:]
    gaps = (high - low)[(high > nm[0]) & (low < nm[-1])]
    visible = int(((wavelengths >= nm[0]) & (wavelengths <= nm[-1])).sum())
    return Coverage((x, y, z), visible, float(gaps.max()) if len(gaps) else float("inf"))


def compute_xyz_weights(wavelengths: Array, *, is_reflectance: bool = True) -> Float64Array:
    """Return the matrix ``(3, band)`` from spectra to XYZ; Y = 1 for a perfect reflector.

    Args:
        wavelengths: ``(band,)`` nm, ascending.
        is_reflectance: values are reflectances, to be multiplied by D65; else radiances.
    """
    nm, matching, daylight = load_observer()
    weights = matching * daylight if is_reflectance else matching
    interpolation = np.stack([np.interp(nm, wavelengths, unit) for unit in np.eye(len(wavelengths))], axis=1)
    return np.asarray(weights @ interpolation / weights[1].sum())


def xyz_to_srgb(xyz: Array) -> Float64Array:
    """Return sRGB in 0 to 1 ``(3, ...)`` for XYZ ``(3, ...)``; colors outside the gamut are clipped."""
    linear = np.clip(np.tensordot(XYZ_TO_SRGB, xyz, axes=1), 0.0, 1.0)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def is_radiance(units: str | None) -> bool:
    """Return whether values of these units include the illumination, so that none is to be added."""
    return units is not None and any(word in units.lower() for word in RADIANCE_UNITS)


def choose_composite_bands(wavelengths: Array, *, wavelengths_known: bool = True) -> tuple[int, int, int]:
    """Return the bands to show as red, green and blue in false color.

    Those nearest 850, 650 and 550 nm (plants are red) where there are such; else three evenly spaced ones, the longest
    as red.
    """
    nearest = [int(np.abs(wavelengths - nm).argmin()) for nm in COLOR_INFRARED_NM]
    within_tolerance = all(
        abs(wavelengths[i] - nm) <= INFRARED_TOLERANCE_NM for i, nm in zip(nearest, COLOR_INFRARED_NM, strict=True)
    )
    if wavelengths_known and within_tolerance and len(set(nearest)) == len(nearest):
        return nearest[0], nearest[1], nearest[2]
    last = len(wavelengths) - 1
    red, green, blue = (round(last * fraction) for fraction in (5 / 6, 1 / 2, 1 / 6))
    return red, green, blue


def format_band_name(center: float, *, wavelengths_known: bool = True) -> str:
    """Return the name of a band: ``"560 nm"``, or ``"band 3"`` where wavelengths are unknown."""
    return f"{center:.0f} nm" if wavelengths_known else f"band {center:.0f}"


def format_color_note(wavelengths: Array, *, wavelengths_known: bool, units: str | None) -> str:
    """Return one or two sentences on how colors were computed, and which part of them is not measured."""
    if not wavelengths_known:
        return "Wavelengths are unknown, so there is no true color."
    coverage = compute_coverage(wavelengths)
    ends = f"{wavelengths[0]:.0f} to {wavelengths[-1]:.0f} nm"
    x, y, z = (f"{100 * share:.0f} %" for share in coverage.fractions)
    if not coverage.has_color:
        bands = format_count(coverage.visible_bands, "band")
        measured = f"{bands} in the visible range, {x} of X, {y} of Y and {z} of Z measured"
        return f"No true color: the bands ({ends}) do not determine the visible color ({measured})."
    light = "as radiance, without added light" if is_radiance(units) else "as reflectance under daylight (D65)"
    note = f"{coverage.name.capitalize()} by the CIE 1931 observer, {light}."
    if min(coverage.fractions) < 0.99:
        measured = f"{x} of X, {y} of Y and {z} of Z"
        note += f" The bands ({ends}) measure {measured}; beyond them the outer bands are repeated."
    if coverage.max_gap > MAX_GAP_NM:
        note += f" Gaps of up to {coverage.max_gap:.0f} nm between visible bands are interpolated."
    return note
