"""Oxygen saturation of the blood in one structure: a localized change of spectra with a physical cause."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from hseval.data.absorption import HEMOGLOBIN_GRAMS_PER_MOLE, load_absorption_table
from hseval.degradations.base import CubeDegradation
from hseval.degradations.inside import replace_valid_pixels, split_valid_pixels

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hseval.core.cubes import Cube, CubeSet
    from hseval.utils.arrays import Array
    from hseval.utils.random_streams import Rng

SATURATION_SIGNS = {"vein": +1.0, "artery": -1.0}  # the direction with room to move; the vein is preferred
HEMOGLOBIN_GRAMS_PER_LITER = 150.0  # hemoglobin in whole blood
PATH_LENGTH_MM = 0.1  # of light through the vessel: about the mean chord of a vein of 0.12 mm


class OxygenSaturation(CubeDegradation):
    """More oxygen in the veins (in arteries, where veins are not marked: less), by Beer-Lambert."""

    name = "saturation"
    summary = "hemoglobin's oxygen saturation shifted in the veins alone (else in the arteries)"
    kind = "spectral"
    unit = "percentage points"
    severities = (0.5, 1.0, 2.0, 4.0, 8.0, 12.0, 20.0, 30.0)
    is_set_wide = True

    def explain_unmet_need(self, data: CubeSet) -> str | None:
        """Return why it can't degrade a set: no structure, no wavelengths, or some outside hemoglobin's table."""
        if find_blood_structure(data.structures) is None:
            return f"needs a mask {' or '.join(map(repr, SATURATION_SIGNS))}"
        if not data.info.wavelengths_known:
            return "needs wavelengths in nm (--wavelengths)"
        low, high = load_absorption_table()["nm"][[0, -1]]
        first, last = data.wavelengths[0], data.wavelengths[-1]
        if first < low or last > high:
            return f"needs bands within {low:g} to {high:g} nm (hemoglobin's table), found {first:g} to {last:g} nm"
        return None

    def degrade(self, cube: Cube, severity: float, *, wavelengths: Array, rng: Rng) -> Cube:
        """Return the cube with the structure's pixels times :func:`transmittance_ratio`; others are unchanged."""
        structure = find_blood_structure(cube.masks)
        if structure is None:
            return cube
        values, valid = split_valid_pixels(cube)
        ratio = transmittance_ratio(wavelengths, SATURATION_SIGNS[structure] * severity / 100).astype(np.float32)
        return replace_valid_pixels(cube, values * ratio[:, None, None], valid & cube.masks[structure])


def transmittance_ratio(wavelengths: Array, saturation_change: float) -> Array:
    """Return the ratio of blood's transmittances after and before a saturation change (1: from 0 to 100 %).

    ``exp(-ln(10) c (eps_HbO2 - eps_Hb) L change)`` with c = 150 g/L and a path L of 0.1 mm for all pixels.
    """
    table = load_absorption_table()
    difference = np.interp(wavelengths, table["nm"], table["hbo2"] - table["hb"])
    molar = HEMOGLOBIN_GRAMS_PER_LITER / HEMOGLOBIN_GRAMS_PER_MOLE
    return np.asarray(np.exp(-math.log(10) * molar * difference * PATH_LENGTH_MM / 10 * saturation_change))


def find_blood_structure(structures: Iterable[str]) -> str | None:
    """Return the structure that is changed: ``vein``, else ``artery``, else None."""
    return next((name for name in SATURATION_SIGNS if name in set(structures)), None)
