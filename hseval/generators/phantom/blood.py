"""Retinal vessels before the camera: paths through blood on the fine grid, the light they leave, and their masks."""

from __future__ import annotations

import dataclasses

import numpy as np

from hseval.generators.phantom import camera
from hseval.generators.phantom.anatomy import Eye
from hseval.generators.phantom.arrays import BoolArray, FloatArray
from hseval.generators.phantom.layers import Spectra
from hseval.generators.phantom.optics import vessel_transmittance
from hseval.generators.phantom.raster import path_lengths
from hseval.generators.phantom.vessels import Tree


@dataclasses.dataclass(frozen=True)
class Vessels:
    """One tree on the fine grid.

    Attributes:
        path: through its blood, mm, float32 ``(fine, fine)``.
        wide: where a vessel is that is at least half a pixel wide, bool ``(fine, fine)``.
    """

    path: FloatArray
    wide: BoolArray


def draw_vessels(eye: Eye, tree: Tree, *, size: int, oversampling: int, thinnest: float = 0.0) -> Vessels:
    """Draw a tree's vessels from a radius of ``thinnest`` mm on.

    A vessel narrower than half a pixel covers half of no pixel: it shades the picture, but is in no mask.
    """
    view = camera.View(eye, size * oversampling)
    half_pixel = 0.25 * oversampling / view.scale
    wide = _paths(view, tree, max(thinnest, half_pixel), np.inf)
    narrow = _paths(view, tree, thinnest, half_pixel)
    return Vessels(np.maximum(wide, narrow), wide > 0.0)


def masks(eye: Eye, artery: Vessels, vein: Vessels, *, oversampling: int) -> dict[str, BoolArray]:
    """Return the masks ``artery`` and ``vein``: half covered, none in both; a crossing belongs to what is in front."""
    names = ("artery", "vein") if eye.artery_on_top else ("vein", "artery")
    front, back = (artery.wide, vein.wide) if eye.artery_on_top else (vein.wide, artery.wide)
    in_front = camera.coverage(front, oversampling) >= 0.5
    behind = camera.coverage(back & ~front, oversampling) >= 0.5
    return {names[0]: in_front, names[1]: behind & ~in_front}


def shade(
    eye: Eye, spectra: Spectra, artery: Vessels, vein: Vessels, *, valid: BoolArray, oversampling: int
) -> FloatArray:
    """Return the share of light that vessels leave, averaged over each valid pixel, float32 ``(band, pixel)``."""
    size = valid.shape[0]
    rows, columns = np.nonzero((artery.path > 0.0) | (vein.path > 0.0))
    pixel = (rows // oversampling) * size + columns // oversampling
    arterial, venous = artery.path[rows, columns], vein.path[rows, columns]
    lost = np.empty((len(spectra.artery), size * size), dtype=np.float32)
    for band, (mu_artery, mu_vein) in enumerate(zip(spectra.artery, spectra.vein, strict=True)):
        optical_path = np.float32(mu_artery) * arterial + np.float32(mu_vein) * venous
        taken = 1.0 - vessel_transmittance(optical_path, bypass=eye.bypass)
        lost[band] = np.bincount(pixel, weights=taken, minlength=size * size)
    return 1.0 - lost[:, valid.ravel()] / np.float32(oversampling**2)


def _paths(view: camera.View, tree: Tree, least: float, most: float) -> FloatArray:
    starts, ends, radii = tree.between(least, most)
    samples = path_lengths(view.to_samples(starts), view.to_samples(ends), radii * view.scale, side=view.side)
    return samples / np.float32(view.scale)
