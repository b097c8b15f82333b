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

    Floats = NDArray[np.float64]

TABLE = "resources/cie1931_d65.csv"
# CIE XYZ (D65 white, Y = 1) to linear sRGB: IEC 61966-2-1:1999.
TO_SRGB = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])
COVERED = 0.5  # share of each of X, Y and Z that has to be measured for a colour to be called one
FEWEST_BANDS = 3  # in the visible range
DENSE_NM = 60.0  # bands further apart than this give a rough colour
INFRARED = (850.0, 650.0, 550.0)  # nm shown as red, green and blue: the usual colour-infrared composite
NEAR_NM = 40.0  # a band this near stands for one of these
OWN_LIGHT = ("radian", "count", "digital number")  # units of values that hold the light of the scene


class Observer(NamedTuple):
    """The table: wavelengths ``(81,)``, colour-matching functions ``(3, 81)``, D65 ``(81,)``."""

    nm: Floats
    matching: Floats
    daylight: Floats


class Coverage(NamedTuple):
    """How much of a colour is measured.

    Attributes:
        shares: of the weight of X, Y and Z, what lies between the first band and the last.
        bands: in the visible range, 380 to 780 nm.
        gap: widest distance between neighbours that meets the visible range, nm; infinite with fewer than two bands.
    """

    shares: tuple[float, float, float]
    bands: int
    gap: float

    @property
    def colour(self) -> bool:
        """Whether there is enough for a colour; else only false colour is honest."""
        return min(self.shares) >= COVERED and self.bands >= FEWEST_BANDS

    @property
    def name(self) -> str:
        """What a picture made of it may be called."""
        if not self.colour:
            return "false colour"
        return "true colour" if self.gap <= DENSE_NM else "rough colour"


@functools.cache
def observer() -> Observer:
    """Return the CIE 1931 2 degree observer and D65, 380 to 780 nm by 5 nm."""
    text = resources.files("hseval").joinpath(TABLE).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    table = np.array([[float(field) for field in line.split(",")] for line in lines[1:]]).T
    return Observer(table[0], table[1:4], table[4])


def coverage(wavelengths: NDArray[Any]) -> Coverage:
    """Return how much of what the eye weighs lies within the bands' centres (``(band,)`` nm, ascending)."""
    nm, matching, daylight = observer()
    seen = matching * daylight
    within = (nm >= wavelengths[0]) & (nm <= wavelengths[-1])
    x, y, z = (seen[:, within].sum(axis=1) / seen.sum(axis=1)).tolist()
    low, high = wavelengths[:-1], wavelengths[1:]
    apart = (high - low)[(high > nm[0]) & (low < nm[-1])]
    visible = int(((wavelengths >= nm[0]) & (wavelengths <= nm[-1])).sum())
    return Coverage((x, y, z), visible, float(apart.max()) if len(apart) else float("inf"))


def xyz_weights(wavelengths: NDArray[Any], *, lit: bool = True) -> Floats:
    """Return the matrix ``(3, band)`` that takes a spectrum to XYZ; Y = 1 for a perfect reflector.

    Args:
        wavelengths: ``(band,)`` nm, ascending.
        lit: values are reflectances, lit by D65; else they hold their own light (radiance).
    """
    nm, matching, daylight = observer()
    seen = matching * daylight if lit else matching
    spread = np.stack([np.interp(nm, wavelengths, one) for one in np.eye(len(wavelengths))], axis=1)
    return np.asarray(seen @ spread / seen[1].sum())


def srgb(xyz: NDArray[Any]) -> Floats:
    """Return sRGB in 0 to 1 ``(3, ...)`` for XYZ ``(3, ...)``; what the gamut lacks is clipped."""
    linear = np.clip(np.tensordot(TO_SRGB, xyz, axes=1), 0.0, 1.0)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def own_light(units: str | None) -> bool:
    """Return whether values of these units hold the light of the scene, so that none is to be added."""
    return units is not None and any(word in units.lower() for word in OWN_LIGHT)


def composite_bands(wavelengths: NDArray[Any], *, known: bool = True) -> tuple[int, int, int]:
    """Return the bands to show as red, green and blue in false colour.

    Those nearest 850, 650 and 550 nm (plants are red) where there are such; else three spread over all bands, the
    longest as red.
    """
    nearest = [int(np.abs(wavelengths - nm).argmin()) for nm in INFRARED]
    close = all(abs(wavelengths[i] - nm) <= NEAR_NM for i, nm in zip(nearest, INFRARED, strict=True))
    if known and close and len(set(nearest)) == len(nearest):
        return nearest[0], nearest[1], nearest[2]
    last = len(wavelengths) - 1
    red, green, blue = (round(last * part) for part in (5 / 6, 1 / 2, 1 / 6))
    return red, green, blue


def band_name(centre: float, *, known: bool = True) -> str:
    """Return what a band is called: ``"560 nm"``, or ``"band 3"`` where wavelengths are unknown."""
    return f"{centre:.0f} nm" if known else f"band {centre:.0f}"


def colour_told(wavelengths: NDArray[Any], *, known: bool, units: str | None) -> str:
    """Return in a sentence or two how a colour picture came about, and what of it is not measured."""
    if not known:
        return "Wavelengths are unknown, so there is no true colour."
    found = coverage(wavelengths)
    ends = f"{wavelengths[0]:.0f} to {wavelengths[-1]:.0f} nm"
    x, y, z = (f"{100 * share:.0f} %" for share in found.shares)
    if not found.colour:
        told = f"{found.bands} bands in the visible range, {x} of X, {y} of Y and {z} of Z measured"
        return f"No true colour: the bands ({ends}) do not tell what an eye would see ({told})."
    light = "with the light that they hold" if own_light(units) else "as reflectance under daylight (D65)"
    told = f"{found.name.capitalize()} by the CIE 1931 observer, {light}."
    if min(found.shares) < 0.99:
        told += f" The bands ({ends}) measure {x} of X, {y} of Y and {z} of Z; beyond them the end bands stand in."
    if found.gap > DENSE_NM:
        told += f" Visible bands are up to {found.gap:.0f} nm apart, and what lies between is interpolated."
    return told
