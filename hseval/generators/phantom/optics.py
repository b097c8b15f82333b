"""How light goes through layers: Beer-Lambert for vessels, Kubelka and Munk for what scatters. Lengths in mm."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[Any]


def transmittance(absorption: FloatArray, path: FloatArray) -> FloatArray:
    """Return Beer and Lambert's ``exp(-mu_a L)``; arguments broadcast."""
    return np.exp(-absorption * path)


def vessel_transmittance(optical_path: FloatArray, *, bypass: float) -> FloatArray:
    """Return the share of light that a blood column leaves, for ``optical_path`` = sum of mu_a L.

    Light that reaches the camera over a vessel has partly not crossed it (scattered sideways beneath it, or back from
    its wall and its cells): that share, ``bypass``, is why vessels are never black (M. Hammer et al., "Light paths in
    retinal vessel oxymetry", IEEE Trans. Biomed. Eng. 48:592, 2001). What crosses does so once: it has diffused sideways by more than a vessel's width before it
    comes back.
    """
    return bypass + (1.0 - bypass) * np.exp(-optical_path)


def reduced_scattering(wavelengths: FloatArray, *, at_560: float, power: float) -> FloatArray:
    """Return ``mu_s' = at_560 (lambda / 560 nm)^-power`` in 1/mm."""
    return np.asarray(at_560 * (wavelengths / 560.0) ** -power)


def slab(
    absorption: FloatArray, scattering: FloatArray, *, thickness: float, ground: FloatArray | float = 0.0
) -> FloatArray:
    """Return the diffuse reflectance of a layer over a ground, by Kubelka and Munk.

    ``R = (1 - Rg (a - b coth(b S d))) / (a - Rg + b coth(b S d))`` with ``K = 2 mu_a``, ``S = 3/4 mu_s'``,
    ``a = 1 + K / S`` and ``b = sqrt(a^2 - 1)`` (P. Kubelka, J. Opt. Soc. Am. 38:448, 1948). K and S for diffuse light
    after W. M. Star et al., Phys. Med. Biol. 33:437, 1988, less their term -mu_a / 4, which would turn S negative in
    blood.

    Args:
        absorption: mu_a in 1/mm, above 0.
        scattering: mu_s' in 1/mm, above 0.
        thickness: d in mm.
        ground: reflectance Rg of what lies beneath.
    """
    strength = 0.75 * scattering
    a = 1.0 + 2.0 * absorption / strength
    b = np.sqrt(a * a - 1.0)
    coth = 1.0 / np.tanh(b * strength * thickness)
    return np.asarray((1.0 - ground * (a - b * coth)) / (a - ground + b * coth))
