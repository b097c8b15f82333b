"""Retinal vessels in the field of view: paths through blood on the fine grid, transmittance, and masks."""

from __future__ import annotations

import dataclasses

import numpy as np

from hseval.generators.phantom import camera
from hseval.generators.phantom.anatomy import Eye
from hseval.generators.phantom.layers import TissueSpectra
from hseval.generators.phantom.optics import vessel_transmittance
from hseval.generators.phantom.raster import compute_path_lengths
from hseval.generators.phantom.vessels import VesselTree
from hseval.utils.arrays import BoolArray, FloatArray


@dataclasses.dataclass(frozen=True)
class VesselRaster:
    """One tree on the fine grid.

    Attributes:
        path_length: through its blood, mm, float32 ``(fine, fine)``.
        wide_mask: True where a vessel at least half a pixel wide lies, bool ``(fine, fine)``.
    """

    path_length: FloatArray
    wide_mask: BoolArray


def rasterize_vessels(
    eye: Eye, tree: VesselTree, *, size: int, oversampling: int, min_radius: float = 0.0
) -> VesselRaster:
    """Rasterize a tree's vessels of at least ``min_radius`` mm.

    A vessel narrower than half a pixel covers half of no pixel: it darkens the image, but is in no mask.
    """
    view = camera.CameraView(eye, size * oversampling)
    half_pixel = 0.25 * oversampling / view.samples_per_mm
    wide = _rasterize_path_lengths(view, tree, max(min_radius, half_pixel), np.inf)
    narrow = _rasterize_path_lengths(view, tree, min_radius, half_pixel)
    return VesselRaster(np.maximum(wide, narrow), wide > 0.0)


def make_vessel_masks(eye: Eye, artery: VesselRaster, vein: VesselRaster, *, oversampling: int) -> dict[str, BoolArray]:
    """Return the masks ``artery`` and ``vein``: pixels at least half covered; at crossings only the vessel in front."""
    names = ("artery", "vein") if eye.is_artery_in_front else ("vein", "artery")
    front, back = (artery.wide_mask, vein.wide_mask) if eye.is_artery_in_front else (vein.wide_mask, artery.wide_mask)
    in_front = camera.average_blocks(front, oversampling) >= 0.5
    behind = camera.average_blocks(back & ~front, oversampling) >= 0.5
    return {names[0]: in_front, names[1]: behind & ~in_front}


def compute_retinal_transmittance(
    eye: Eye, spectra: TissueSpectra, artery: VesselRaster, vein: VesselRaster, *, valid: BoolArray, oversampling: int
) -> FloatArray:
    """Return the share of light that vessels transmit, averaged over each valid pixel, float32 ``(band, pixel)``."""
    size = valid.shape[0]
    rows, columns = np.nonzero((artery.path_length > 0.0) | (vein.path_length > 0.0))
    pixel = (rows // oversampling) * size + columns // oversampling
    arterial, venous = artery.path_length[rows, columns], vein.path_length[rows, columns]
    absorbed_share = np.empty((len(spectra.artery), size * size), dtype=np.float32)
    for band, (mu_artery, mu_vein) in enumerate(zip(spectra.artery, spectra.vein, strict=True)):
        optical_path = np.float32(mu_artery) * arterial + np.float32(mu_vein) * venous
        absorbed = 1.0 - vessel_transmittance(optical_path, bypass_fraction=eye.bypass_fraction)
        absorbed_share[band] = np.bincount(pixel, weights=absorbed, minlength=size * size)
    return 1.0 - absorbed_share[:, valid.ravel()] / np.float32(oversampling**2)


def _rasterize_path_lengths(
    view: camera.CameraView, tree: VesselTree, min_radius: float, max_radius: float
) -> FloatArray:
    starts, ends, radii = tree.select_segments(min_radius, max_radius)
    samples = compute_path_lengths(
        view.to_samples(starts), view.to_samples(ends), radii * view.samples_per_mm, grid_size=view.grid_size
    )
    return samples / np.float32(view.samples_per_mm)
