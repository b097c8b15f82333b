"""Colour from spectra: what a person would see, by the CIE 1931 observer, and false colour where nobody sees anything.

Reflectance is lit by D65, weighed by the colour-matching functions over all bands (never three of them) and turned into
sRGB. Between bands values are interpolated linearly. Where the bands end inside the visible range, the nearest
measured value stands in for what is missing, as CIE 167:2005 (section 10) advises, and :class:`Coverage` tells how
much of each weight that is.
"""

from __future__ import annotations

import functools
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64Array = NDArray[np.float64]

OBSERVER_TABLE = "resources/cie1931_d65.csv"
# CIE XYZ (D65 white, Y = 1) to linear sRGB: IEC 61966-2-1:1999.
XYZ_TO_SRGB = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])
MIN_COVERAGE = 0.5  # share of each of X, Y and Z that has to be measured for a colour to be called one
MIN_VISIBLE_BANDS = 3  # in the visible range
MAX_GAP_NM = 60.0  # bands further apart than this give a rough colour
COLOR_INFRARED_NM = (850.0, 650.0, 550.0)  # nm shown as red, green and blue: the usual colour-infrared composite
INFRARED_TOLERANCE_NM = 40.0  # a band this near stands for one of these
RADIANCE_UNITS = ("radian", "count", "digital number")  # units of values that hold the light of the scene


class StandardObserver(NamedTuple):
    """The table: wavelengths ``(81,)``, colour-matching functions ``(3, 81)``, D65 ``(81,)``."""

    wavelengths: Float64Array
    color_matching: Float64Array
    illuminant: Float64Array


class Coverage(NamedTuple):
    """How much of a colour is measured.

    Attributes:
        fractions: of the weight of X, Y and Z, what lies between the first band and the last.
        visible_bands: in the visible range, 380 to 780 nm.
        max_gap: widest distance between neighbours that meets the visible range, nm; infinite with fewer than two bands.
    """

    fractions: tuple[float, float, float]
    visible_bands: int
    max_gap: float

    @property
    def has_color(self) -> bool:
        """Whether there is enough for a colour; else only false colour is honest."""
        return min(self.fractions) >= MIN_COVERAGE and self.visible_bands >= MIN_VISIBLE_BANDS

    @property
    def name(self) -> str:
        """What a picture made of it may be called."""
        if not self.has_color:
            return "false colour"
        return "true colour" if self.max_gap <= MAX_GAP_NM else "rough colour"


@functools.cache
def load_observer() -> StandardObserver:
    """Return the CIE 1931 2 degree observer and D65, 380 to 780 nm by 5 nm."""
    text = resources.files("hseval").joinpath(OBSERVER_TABLE).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    table = np.array([[float(field) for field in line.split(",")] for line in lines[1:]]).T
    return StandardObserver(table[0], table[1:4], table[4])


def compute_coverage(wavelengths: NDArray[Any]) -> Coverage:
    """Return how much of what the eye weighs lies within the bands' centres (``(band,)`` nm, ascending)."""
    nm, matching, daylight = load_observer()
    seen = matching * daylight
    within = (nm >= wavelengths[0]) & (nm <= wavelengths[-1])
    x, y, z = (seen[:, within].sum(axis=1) / seen.sum(axis=1)).tolist()
    low, high = wavelengths[:-1], wavelengths[1:]
    apart = (high - low)[(high > nm[0]) & (low < nm[-1])]
    visible = int(((wavelengths >= nm[0]) & (wavelengths <= nm[-1])).sum())
    return Coverage((x, y, z), visible, float(apart.max()) if len(apart) else float("inf"))


def compute_xyz_weights(wavelengths: NDArray[Any], *, is_reflectance: bool = True) -> Float64Array:
    """Return the matrix ``(3, band)`` that takes a spectrum to XYZ; Y = 1 for a perfect reflector.

    Args:
        wavelengths: ``(band,)`` nm, ascending.
        is_reflectance: values are reflectances, lit by D65; else they hold their own light (radiance).
    """
    nm, matching, daylight = load_observer()
    seen = matching * daylight if is_reflectance else matching
    spread = np.stack([np.interp(nm, wavelengths, one) for one in np.eye(len(wavelengths))], axis=1)
    return np.asarray(seen @ spread / seen[1].sum())


def xyz_to_srgb(xyz: NDArray[Any]) -> Float64Array:
    """Return sRGB in 0 to 1 ``(3, ...)`` for XYZ ``(3, ...)``; what the gamut lacks is clipped."""
    linear = np.clip(np.tensordot(XYZ_TO_SRGB, xyz, axes=1), 0.0, 1.0)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def is_radiance(units: str | None) -> bool:
    """Return whether values of these units hold the light of the scene, so that none is to be added."""
    return units is not None and any(word in units.lower() for word in RADIANCE_UNITS)


def choose_composite_bands(wavelengths: NDArray[Any], *, wavelengths_known: bool = True) -> tuple[int, int, int]:
    """Return the bands to show as red, green and blue in false colour.

    Those nearest 850, 650 and 550 nm (plants are red) where there are such; else three spread over all bands, the
    longest as red.
    """
    nearest = [int(np.abs(wavelengths - nm).argmin()) for nm in COLOR_INFRARED_NM]
    close = all(
        abs(wavelengths[i] - nm) <= INFRARED_TOLERANCE_NM for i, nm in zip(nearest, COLOR_INFRARED_NM, strict=True)
    )
    if wavelengths_known and close and len(set(nearest)) == len(nearest):
        return nearest[0], nearest[1], nearest[2]
    last = len(wavelengths) - 1
    red, green, blue = (round(last * part) for part in (5 / 6, 1 / 2, 1 / 6))
    return red, green, blue


def format_band_name(center: float, *, wavelengths_known: bool = True) -> str:
    """Return what a band is called: ``"560 nm"``, or ``"band 3"`` where wavelengths are unknown."""
    return f"{center:.0f} nm" if wavelengths_known else f"band {center:.0f}"


def format_color_note(wavelengths: NDArray[Any], *, wavelengths_known: bool, units: str | None) -> str:
    """Return in a sentence or two how a colour picture came about, and what of it is not measured."""
    if not wavelengths_known:
        return "Wavelengths are unknown, so there is no true colour."
    found = compute_coverage(wavelengths)
    ends = f"{wavelengths[0]:.0f} to {wavelengths[-1]:.0f} nm"
    x, y, z = (f"{100 * share:.0f} %" for share in found.fractions)
    if not found.has_color:
        told = f"{found.visible_bands} bands in the visible range, {x} of X, {y} of Y and {z} of Z measured"
        return f"No true colour: the bands ({ends}) do not tell what an eye would see ({told})."
    light = "with the light that they hold" if is_radiance(units) else "as reflectance under daylight (D65)"
    told = f"{found.name.capitalize()} by the CIE 1931 observer, {light}."
    if min(found.fractions) < 0.99:
        told += f" The bands ({ends}) measure {x} of X, {y} of Y and {z} of Z; beyond them the end bands stand in."
    if found.max_gap > MAX_GAP_NM:
        told += f" Visible bands are up to {found.max_gap:.0f} nm apart, and what lies between is interpolated."
    return told
