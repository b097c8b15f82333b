"""Oxygen saturation of the blood in one structure: a change of spectra that has a place and a physical cause."""

from __future__ import annotations

import functools
import math
from importlib import resources
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hseval.degradations.base import Kind
from hseval.degradations.inside import spoiled, valid_pixels, zero_outside

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from hseval.core.cubes import Cube, CubeSet

    Doubles = NDArray[np.float64]

DIRECTIONS = {"vein": +1.0, "artery": -1.0}  # which way saturation has room to move; a vein where there is one
GRAMS_PER_LITRE = 150.0  # haemoglobin in whole blood
GRAMS_PER_MOLE = 64500.0
PATH_MM = 0.1  # of light through the vessel: about the mean chord of a vein of 0.12 mm


class Saturation:
    """More oxygen in the veins (in arteries, where veins are not marked: less), by Beer-Lambert."""

    name: ClassVar[str] = "saturation"
    summary: ClassVar[str] = "haemoglobin's oxygen saturation shifted in the veins alone (else in the arteries)"
    kind: ClassVar[Kind] = "spectral"
    unit: ClassVar[str] = "percentage points"
    doses: ClassVar[tuple[float, ...]] = (0.5, 1.0, 2.0, 4.0, 8.0, 12.0, 20.0, 30.0)
    shared: ClassVar[bool] = True

    def unfit(self, data: CubeSet) -> str | None:
        """Return which is missing: the structure, wavelengths, or a wavelength inside haemoglobin's table."""
        if structure_of(data.structures) is None:
            return f"needs a mask {' or '.join(map(repr, DIRECTIONS))}"
        if not data.info.wavelengths_known:
            return "needs wavelengths in nm (--wavelengths)"
        low, high = extinction()[0][[0, -1]]
        first, last = data.wavelengths[0], data.wavelengths[-1]
        if first < low or last > high:
            return f"knows haemoglobin from {low:g} to {high:g} nm, found bands from {first:g} to {last:g} nm"
        return None

    def degrade(self, cube: Cube, dose: float, *, wavelengths: Doubles, rng: np.random.Generator) -> Cube:
        """Return the cube with the structure's pixels times :func:`transmission_ratio`; others are left alone."""
        structure = structure_of(cube.masks)
        if structure is None:
            return cube
        valid = valid_pixels(cube)
        ratio = transmission_ratio(wavelengths, DIRECTIONS[structure] * dose / 100).astype(np.float32)
        inside = valid & cube.masks[structure]
        return spoiled(cube, zero_outside(cube, valid) * ratio[:, None, None], inside)


def transmission_ratio(wavelengths: Doubles, change: float) -> Doubles:
    """Return by what blood's transmission is multiplied when its saturation rises by ``change`` (1: from 0 to 100 %).

    ``exp(-ln(10) c (eps_HbO2 - eps_Hb) L change)`` with c = 150 g/l and a path L of 0.1 mm for all pixels.
    """
    nm, oxygenated, deoxygenated = extinction()
    difference = np.interp(wavelengths, nm, oxygenated - deoxygenated)
    molar = GRAMS_PER_LITRE / GRAMS_PER_MOLE
    ratio: Doubles = np.exp(-math.log(10) * molar * difference * PATH_MM / 10 * change)
    return ratio


@functools.cache
def extinction() -> tuple[Doubles, Doubles, Doubles]:
    """Return nm and the molar extinction, 1/(cm M) base 10, of oxy- and deoxyhaemoglobin (S. Prahl's table)."""
    text = resources.files("hseval").joinpath("resources/absorption.csv").read_text(encoding="utf-8")
    header, *rows = (line.split(",") for line in text.splitlines() if not line.startswith("#"))
    table = dict(zip(header, np.asarray(rows, dtype=np.float64).T, strict=True))
    return table["nm"], table["hbo2"], table["hb"]


def structure_of(names: Iterable[str]) -> str | None:
    """Return which structure is changed: ``vein``, else ``artery``, else None."""
    return next((name for name in DIRECTIONS if name in set(names)), None)
