"""From an eye to a cube: tissue maps in space times tissue spectra, sampled finely where vessels need it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hseval.generators.phantom.layers import TissueSpectra
from hseval.generators.phantom.maps import TissueMaps
from hseval.utils.arrays import FloatArray


def compute_reflectance(spectra: TissueSpectra, maps: TissueMaps, retinal_transmittance: FloatArray) -> FloatArray:
    """Return the light reflected at each pixel, float32 ``(band, pixel)``, without noise.

    Lens and other media are crossed twice. Nerve fibers reflect in front of the vessels. Behind the vessels lie
    capillaries, macular pigment and RPE, crossed twice, over the choroid; or the optic nerve head, which has none.

    Args:
        spectra: of the tissues.
        maps: of the tissues.
        retinal_transmittance: share of light that retinal vessels transmit, ``(band, pixel)``.
    """
    deep = _mix(spectra.stroma, spectra.choroid_vessel, maps.choroid_vessel)
    deep *= _double_pass_transmittance(
        (spectra.macular_pigment, spectra.rpe_melanin, spectra.capillaries),
        (maps.macular_pigment, maps.rpe_melanin, maps.capillaries),
    )
    deep += maps.disc * (_mix(spectra.rim, spectra.cup, maps.cup) - deep)
    deep *= retinal_transmittance
    deep += _to_column(spectra.nerve_fiber) * maps.nerve_fiber
    deep *= maps.illumination
    deep *= _to_column(spectra.media)
    return deep


def _double_pass_transmittance(densities: Sequence[FloatArray], paths: Sequence[FloatArray]) -> FloatArray:
    """Return Beer-Lambert's transmittance of layers, there and back: densities ``(band,)``, paths ``(pixel,)``."""
    optical_path = np.stack(densities, axis=1).astype(np.float32) @ np.stack(paths).astype(np.float32)
    return np.asarray(np.exp(-2.0 * optical_path))


def _mix(first: FloatArray, second: FloatArray, fraction: FloatArray) -> FloatArray:
    return _to_column(first) + _to_column(second - first) * fraction


def _to_column(spectrum: FloatArray) -> FloatArray:
    return spectrum.astype(np.float32)[:, None]
