"""Absorption in an eye: blood, melanin, water, macular pigment, lens. Lengths in mm, wavelengths in nm."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from hseval.data.absorption import HEMOGLOBIN_GRAMS_PER_MOLE, load_absorption_table
from hseval.utils.arrays import FloatArray
from hseval.utils.errors import HsevalError

Substance = Literal["hbo2", "hb", "melanin", "water"]

MACULAR_PIGMENT_PEAK_NM = 460.0
MM_PER_CM = 10.0


def check_wavelength_range(wavelengths: FloatArray) -> None:
    """Raise HsevalError unless every wavelength lies inside the absorption table."""
    low, high = load_absorption_table()["nm"][[0, -1]]
    outside = wavelengths[~((wavelengths >= low) & (wavelengths <= high))]  # NaN is outside
    if outside.size:
        raise HsevalError(
            f"phantom.wavelengths: {outside[0]:g} nm lies outside the absorption table, expected {low:g} to {high:g} nm"
        )


def interpolate_table(substance: Substance, wavelengths: FloatArray) -> FloatArray:
    """Return a column of the table at ``wavelengths``, in the table's own units, linear between its rows."""
    return np.interp(wavelengths, load_absorption_table()["nm"], load_absorption_table()[substance])


def blood_absorption(wavelengths: FloatArray, *, saturation: float, grams_per_liter: float = 150.0) -> FloatArray:
    """Return the absorption of whole blood in 1/mm, base e: a mixture of oxy- and deoxyhemoglobin.

    ``mu_a = ln(10) c (S eps_HbO2 + (1 - S) eps_Hb) / M``: Prahl's molar extinctions are to base 10.

    Args:
        wavelengths: nm.
        saturation: share S of hemoglobin that carries oxygen, 0 to 1.
        grams_per_liter: hemoglobin c in whole blood.
    """
    molar = saturation * interpolate_table("hbo2", wavelengths) + (1.0 - saturation) * interpolate_table(
        "hb", wavelengths
    )
    return math.log(10.0) * molar * (grams_per_liter / HEMOGLOBIN_GRAMS_PER_MOLE) / MM_PER_CM


def melanin_absorption(wavelengths: FloatArray) -> FloatArray:
    """Return the absorption of the inside of a melanosome in 1/mm, base e."""
    return interpolate_table("melanin", wavelengths) / MM_PER_CM


def water_absorption(wavelengths: FloatArray) -> FloatArray:
    """Return the absorption of water in 1/mm, base e."""
    return interpolate_table("water", wavelengths) / MM_PER_CM


def macular_pigment_density(wavelengths: FloatArray) -> FloatArray:
    """Return the shape of the macular pigment's optical density, 1 at 460 nm.

    The sum of four Gaussians of P. L. Walraven's template (report to CIE TC 1-36, 2003).
    """
    return _macular_pigment_template(wavelengths) / _macular_pigment_template(np.asarray(MACULAR_PIGMENT_PEAK_NM))


def _macular_pigment_template(wavelengths: FloatArray) -> FloatArray:
    gaussians = (0.32, 0.0012, 436.0), (0.32, 0.0012, 480.0), (-0.123, 0.0012, 458.0), (0.12042, 0.006, 457.0)
    terms = [height * np.exp(-slope * (center - wavelengths) ** 2) for height, slope, center in gaussians]
    return np.asarray(np.sum(terms, axis=0))


def lens_density(wavelengths: FloatArray, *, age: float) -> FloatArray:
    """Return the optical density (base 10, one way) of cornea, lens and vitreous at an age in years.

    J. van de Kraats and D. van Norren, J. Opt. Soc. Am. A 24:1842, 2007, with the constants of CIE 203:2012 (total
    transmittance, which includes light scattered forward).
    """
    square = age * age
    return np.asarray(
        (0.15 + 0.000031 * square) * (400.0 / wavelengths) ** 4
        + 14.19 * 10.68 * np.exp(-((0.057 * (wavelengths - 273.0)) ** 2))
        + (1.05 - 0.000063 * square) * 2.13 * np.exp(-((0.029 * (wavelengths - 370.0)) ** 2))
        + (0.059 + 0.000186 * square) * 11.95 * np.exp(-((0.021 * (wavelengths - 325.0)) ** 2))
        + (0.016 + 0.000132 * square) * 1.43 * np.exp(-((0.008 * (wavelengths - 325.0)) ** 2))
        + 0.06
    )
