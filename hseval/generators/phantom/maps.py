"""Tissues that vary slowly over a retina: pigments, the disc, nerve fibers, the choroid, and illumination."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from hseval.generators.phantom import camera
from hseval.generators.phantom.anatomy import Eye
from hseval.generators.phantom.texture import draw_choroidal_vessels, draw_mottling
from hseval.utils.arrays import BoolArray, FloatArray

CHOROID_SAMPLES_PER_MM = 20.0  # enough for bands of 0.15 mm
RIM_WIDTH_MM = 0.05  # of the soft edge of the disc


@dataclasses.dataclass(frozen=True)
class TissueMaps:
    """Float32 ``(pixel,)`` each, of the valid pixels.

    Attributes:
        macular_pigment: macular pigment, relative to its peak.
        rpe_melanin: path through the RPE's melanin, one way, mm.
        capillaries: path through capillary blood, one way, mm.
        choroid_vessel: share of large vessel in the choroid.
        disc: share of optic nerve head.
        cup: within it, share of cup.
        nerve_fiber: thickness of the nerve fiber layer, relative to its maximum.
        illumination: relative to the maximum.
    """

    macular_pigment: FloatArray
    rpe_melanin: FloatArray
    capillaries: FloatArray
    choroid_vessel: FloatArray
    disc: FloatArray
    cup: FloatArray
    nerve_fiber: FloatArray
    illumination: FloatArray


def draw_tissue_maps(eye: Eye, rng: np.random.Generator, *, size: int, oversampling: int) -> TissueMaps:
    """Draw an eye's tissue maps; only mottling and choroidal vessels depend on ``rng``."""
    valid = camera.compute_field_mask(size, oversampling)
    x, y = (axis[valid] for axis in camera.CameraView(eye, size).to_retina())
    from_fovea = np.hypot(x - eye.fovea[0], y - eye.fovea[1])
    from_disc = compute_disc_distance(eye, x, y)
    # Cells are taller at the fovea, with more melanin: the macula is dark even where macular pigment is transparent.
    pigment = (0.7 + 0.9 * np.exp(-((from_fovea / 1.1) ** 2))) * draw_mottling(rng, x, y)
    return TissueMaps(
        macular_pigment=np.exp(-from_fovea / 0.45),
        rpe_melanin=np.float32(eye.rpe_melanin_thickness) * pigment,
        capillaries=np.float32(eye.capillary_path_length) * (1.0 - np.exp(-((from_fovea / eye.avascular_radius) ** 2))),
        choroid_vessel=_draw_choroid_map(eye, rng, size=size, oversampling=oversampling)[valid],
        disc=_compute_soft_edge(from_disc, 1.0, RIM_WIDTH_MM / eye.disc_semi_axes[0]),
        cup=_compute_soft_edge(from_disc, eye.cup_to_disc_ratio, 0.12),
        nerve_fiber=_compute_nerve_fiber_thickness(x, y, from_fovea, from_disc),
        illumination=_compute_illumination(eye, size)[valid],
    )


def compute_disc_distance(eye: Eye, x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the distance from the disc's center in units of its rim (1: on the rim)."""
    return np.asarray(np.hypot(x / np.float32(eye.disc_semi_axes[0]), y / np.float32(eye.disc_semi_axes[1])))


def make_disc_mask(eye: Eye, *, size: int, oversampling: int) -> BoolArray:
    """Return the pixels at least half covered by the optic nerve head and vessels on it, bool ``(size, size)``."""
    inside = compute_disc_distance(eye, *camera.CameraView(eye, size * oversampling).to_retina()) < 1.0
    return camera.average_blocks(inside, oversampling) >= 0.5


def _draw_choroid_map(eye: Eye, rng: np.random.Generator, *, size: int, oversampling: int) -> FloatArray:
    """Return the share of large choroidal vessel, ``(size, size)``, sampled no finer than its bands need."""
    samples_per_pixel = math.ceil(CHOROID_SAMPLES_PER_MM / camera.CameraView(eye, size).samples_per_mm)
    samples_per_pixel = min(samples_per_pixel, oversampling)
    return camera.average_blocks(
        draw_choroidal_vessels(rng, *camera.CameraView(eye, size * samples_per_pixel).to_retina()), samples_per_pixel
    )


def _compute_illumination(eye: Eye, size: int) -> FloatArray:
    right, down = camera.compute_field_coordinates(size)
    off_axis = (right - np.float32(eye.illumination_offset[0])) ** 2 + (
        down - np.float32(eye.illumination_offset[1])
    ) ** 2
    return np.asarray(1.0 - np.float32(eye.illumination_falloff) * off_axis)


def _compute_nerve_fiber_thickness(
    x: FloatArray, y: FloatArray, distance_to_fovea: FloatArray, distance_to_disc: FloatArray
) -> FloatArray:
    """Return the nerve fiber layer: thickest at the disc's upper and lower pole, thin at the fovea and far away."""
    poles = (y / np.maximum(np.hypot(x, y), 1e-6)) ** 2
    decay = np.exp(-np.maximum(distance_to_disc - 1.0, 0.0) / 3.0)
    return np.asarray((0.35 + 0.65 * poles) * decay * (1.0 - 0.8 * np.exp(-((distance_to_fovea / 0.9) ** 2))))


def _compute_soft_edge(distance: FloatArray, position: float, width: float) -> FloatArray:
    """Return a step at ``position`` from 1 inside to 0 outside, softened over ``width``."""
    slope = np.clip((distance - np.float32(position)) / np.float32(0.5 * width), -30.0, 30.0)
    return np.asarray(1.0 / (1.0 + np.exp(slope)))
