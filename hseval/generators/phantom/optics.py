"""Light in layers: Beer-Lambert for vessels, Kubelka and Munk for scattering layers. Lengths in mm."""

from __future__ import annotations

import numpy as np

from hseval.utils.arrays import FloatArray


def vessel_transmittance(
    optical_path: FloatArray, *, bypass_fraction: float, single_pass_fraction: float = 0.5
) -> FloatArray:
    """Return the share of light that a blood column transmits: Beer-Lambert for ``optical_path`` = sum of mu_a L.

    ``T = beta + (1 - beta) (s exp(-x) + (1 - s) exp(-2 x))``: the light paths of M. Hammer et al., "Light
    paths in retinal vessel oxymetry", IEEE Trans. Biomed. Eng. 48:592, 2001.

    Args:
        optical_path: x, absorption times length, of any shape.
        bypass_fraction: beta, the share that never crossed the blood (scattered sideways beneath it, or back from the
            wall and the cells), because of which vessels are never black.
        single_pass_fraction: s, the share of the rest that crossed the blood once, having diffused sideways before or
            after; the others crossed it twice.
    """
    transmitted = np.exp(-optical_path)
    return np.asarray(
        bypass_fraction
        + (1.0 - bypass_fraction) * transmitted * (single_pass_fraction + (1.0 - single_pass_fraction) * transmitted)
    )


def reduced_scattering(wavelengths: FloatArray, *, scattering_at_560: float, power: float) -> FloatArray:
    """Return ``mu_s' = scattering_at_560 (lambda / 560 nm)^-power`` in 1/mm."""
    return np.asarray(scattering_at_560 * (wavelengths / 560.0) ** -power)


def slab_reflectance(
    absorption: FloatArray,
    scattering: FloatArray,
    *,
    thickness: float,
    background_reflectance: FloatArray | float = 0.0,
) -> FloatArray:
    """Return the diffuse reflectance of a layer over a background, by Kubelka and Munk.

    ``R = (1 - Rg (a - b coth(b S d))) / (a - Rg + b coth(b S d))`` with ``K = 2 mu_a``, ``S = 3/4 mu_s'``,
    ``a = 1 + K / S`` and ``b = sqrt(a^2 - 1)`` (P. Kubelka, J. Opt. Soc. Am. 38:448, 1948). K and S for diffuse light
    after W. M. Star et al., Phys. Med. Biol. 33:437, 1988, less their term -mu_a / 4, which would turn S negative in
    blood.

    Args:
        absorption: mu_a in 1/mm, above 0.
        scattering: mu_s' in 1/mm, above 0.
        thickness: d in mm.
        background_reflectance: Rg, of the background.
    """
    strength = 0.75 * scattering
    a = 1.0 + 2.0 * absorption / strength
    b = np.sqrt(a * a - 1.0)
    coth = 1.0 / np.tanh(b * strength * thickness)
    return np.asarray((1.0 - background_reflectance * (a - b * coth)) / (a - background_reflectance + b * coth))
