"""What varies slowly over a retina: pigments, the disc, nerve fibres, the choroid, the light."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from hseval.generators.phantom import camera
from hseval.generators.phantom.anatomy import Eye
from hseval.generators.phantom.arrays import BoolArray, FloatArray
from hseval.generators.phantom.texture import choroidal_vessels, mottling

CHOROID_SAMPLES_PER_MM = 20.0  # what bands of 0.15 mm need
RIM_MM = 0.05  # over which the disc's edge softens


@dataclasses.dataclass(frozen=True)
class Maps:
    """Float32 ``(pixel,)`` each, of the valid pixels.

    Attributes:
        macular: macular pigment, relative to its peak.
        pigment: path through the RPE's melanin, one way, mm.
        capillaries: path through capillary blood, one way, mm.
        choroid: share of large vessel in the choroid.
        disc: share of optic nerve head.
        cup: within it, share of cup.
        nerve_fibre: thickness of the nerve fibre layer, relative to its thickest.
        light: illumination.
    """

    macular: FloatArray
    pigment: FloatArray
    capillaries: FloatArray
    choroid: FloatArray
    disc: FloatArray
    cup: FloatArray
    nerve_fibre: FloatArray
    light: FloatArray


def draw_maps(eye: Eye, rng: np.random.Generator, *, size: int, oversampling: int) -> Maps:
    """Draw an eye's slow maps; ``rng`` decides mottling and choroidal vessels alone."""
    valid = camera.field(size, oversampling)
    x, y = (axis[valid] for axis in camera.View(eye, size).to_retina())
    from_fovea = np.hypot(x - eye.fovea[0], y - eye.fovea[1])
    from_disc = disc_distance(eye, x, y)
    # Taller cells with more melanin at the fovea: the macula is dark even where macular pigment is clear.
    pigment = (0.7 + 0.9 * np.exp(-((from_fovea / 1.1) ** 2))) * mottling(rng, x, y)
    return Maps(
        macular=np.exp(-from_fovea / 0.45),
        pigment=np.float32(eye.rpe_melanin) * pigment,
        capillaries=np.float32(eye.capillary_path) * (1.0 - np.exp(-((from_fovea / eye.avascular_radius) ** 2))),
        choroid=_choroid(eye, rng, size=size, oversampling=oversampling)[valid],
        disc=_edge(from_disc, 1.0, RIM_MM / eye.disc[0]),
        cup=_edge(from_disc, eye.cup, 0.12),
        nerve_fibre=_nerve_fibre(x, y, from_fovea, from_disc),
        light=_light(eye, size)[valid],
    )


def disc_distance(eye: Eye, x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the distance from the disc's centre in units of its rim (1: on the rim)."""
    return np.asarray(np.hypot(x / np.float32(eye.disc[0]), y / np.float32(eye.disc[1])))


def disc_mask(eye: Eye, *, size: int, oversampling: int) -> BoolArray:
    """Return where the optic nerve head covers half a pixel, vessels on it included, bool ``(size, size)``."""
    inside = disc_distance(eye, *camera.View(eye, size * oversampling).to_retina()) < 1.0
    return camera.coverage(inside, oversampling) >= 0.5


def _choroid(eye: Eye, rng: np.random.Generator, *, size: int, oversampling: int) -> FloatArray:
    """Return the share of large choroidal vessel, ``(size, size)``, sampled no finer than its bands need."""
    finer = math.ceil(CHOROID_SAMPLES_PER_MM / camera.View(eye, size).scale)
    finer = min(finer, oversampling)
    return camera.coverage(choroidal_vessels(rng, *camera.View(eye, size * finer).to_retina()), finer)


def _light(eye: Eye, size: int) -> FloatArray:
    right, down = camera.field_position(size)
    off_axis = (right - np.float32(eye.light_offset[0])) ** 2 + (down - np.float32(eye.light_offset[1])) ** 2
    return np.asarray(1.0 - np.float32(eye.falloff) * off_axis)


def _nerve_fibre(x: FloatArray, y: FloatArray, from_fovea: FloatArray, from_disc: FloatArray) -> FloatArray:
    """Return the nerve fibre layer: thickest beside the disc's upper and lower pole, thin at the fovea and far away."""
    poles = (y / np.maximum(np.hypot(x, y), 1e-6)) ** 2
    spread = np.exp(-np.maximum(from_disc - 1.0, 0.0) / 3.0)
    return np.asarray((0.35 + 0.65 * poles) * spread * (1.0 - 0.8 * np.exp(-((from_fovea / 0.9) ** 2))))


def _edge(distance: FloatArray, at: float, width: float) -> FloatArray:
    """Return a step from 1 inside ``at`` to 0 outside, softened over ``width``."""
    slope = np.clip((distance - np.float32(at)) / np.float32(0.5 * width), -30.0, 30.0)
    return np.asarray(1.0 / (1.0 + np.exp(slope)))
