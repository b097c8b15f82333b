"""From an eye to a cube: tissue maps in space times tissue spectra, sampled finely where vessels need it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.generators.phantom import camera
from hseval.generators.phantom.anatomy import Eye
from hseval.generators.phantom.layers import Spectra
from hseval.generators.phantom.optics import vessel_transmittance
from hseval.generators.phantom.raster import path_lengths
from hseval.generators.phantom.texture import choroidal_vessels, mottling
from hseval.generators.phantom.vessels import Tree

FloatArray = NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Tissue:
    """What varies slowly over the retina: float32 ``(pixel,)`` each, of the valid pixels.

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


@dataclasses.dataclass(frozen=True)
class BloodPaths:
    """Paths through retinal vessels at those fine samples that have one.

    Attributes:
        pixel: which pixel a sample lies in, int ``(sample,)``.
        artery: mm of arterial blood, float32 ``(sample,)``.
        vein: mm of venous blood.
    """

    pixel: FloatArray
    artery: FloatArray
    vein: FloatArray


def tissue(eye: Eye, rng: np.random.Generator, *, size: int, valid: FloatArray) -> Tissue:
    """Draw an eye's slow maps at its valid pixels."""
    x, y = (axis[valid] for axis in camera.View(eye, size).to_retina())
    right, down = (axis[valid] for axis in camera.radius_map(size))
    from_fovea = np.hypot(x - eye.fovea[0], y - eye.fovea[1])
    from_disc = disc_distance(eye, x, y)
    pigment = (0.8 + 0.55 * np.exp(-((from_fovea / 1.1) ** 2))) * mottling(rng, x, y)
    off_axis = (right - eye.light_offset[0]) ** 2 + (down - eye.light_offset[1]) ** 2
    return Tissue(
        macular=np.exp(-from_fovea / 0.45),
        pigment=eye.rpe_melanin * pigment,
        capillaries=eye.capillary_path * (1.0 - np.exp(-((from_fovea / eye.avascular_radius) ** 2))),
        choroid=choroidal_vessels(rng, x, y),
        disc=_edge(from_disc, 1.0, 0.05),
        cup=_edge(from_disc, eye.cup, 0.12),
        nerve_fibre=_nerve_fibre(eye, x, y, from_fovea, from_disc),
        light=1.0 - eye.falloff * off_axis,
    )


def disc_distance(eye: Eye, x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the distance from the disc's centre in units of its rim (1: on the rim)."""
    return np.hypot(x / eye.disc[0], y / eye.disc[1])


def blood_paths(
    eye: Eye, artery: Tree, vein: Tree, *, size: int, oversampling: int, thinnest: float
) -> tuple[FloatArray, FloatArray]:
    """Return paths through arterial and through venous blood in mm, float32 ``(fine, fine)`` each."""
    view = camera.View(eye, size * oversampling)
    return _path(view, artery, thinnest), _path(view, vein, thinnest)


def vessel_masks(eye: Eye, artery: FloatArray, vein: FloatArray, *, oversampling: int) -> dict[str, FloatArray]:
    """Return the masks of vessels from their fine paths: half covered, and a crossing belongs to what lies in front."""
    in_artery, in_vein = artery > 0.0, vein > 0.0
    if eye.artery_on_top:
        in_vein &= ~in_artery
    else:
        in_artery &= ~in_vein
    arteries, veins = (camera.coverage(each, oversampling) for each in (in_artery, in_vein))
    front, back = (arteries, veins) if eye.artery_on_top else (veins, arteries)
    masks = front >= 0.5, (back >= 0.5) & (front < 0.5)
    return dict(zip(("artery", "vein") if eye.artery_on_top else ("vein", "artery"), masks, strict=True))


def disc_mask(eye: Eye, *, size: int, oversampling: int) -> FloatArray:
    """Return the optic nerve head's mask, vessels on it included."""
    inside = disc_distance(eye, *camera.View(eye, size * oversampling).to_retina()) < 1.0
    return camera.coverage(inside, oversampling) >= 0.5


def vessel_shade(
    eye: Eye, spectra: Spectra, artery: FloatArray, vein: FloatArray, *, valid: FloatArray, oversampling: int
) -> FloatArray:
    """Return the light that vessels leave, averaged over each valid pixel's samples, float32 ``(band, pixel)``."""
    rows, columns = np.nonzero((artery > 0.0) | (vein > 0.0))
    size = valid.shape[0]
    pixel = (rows // oversampling) * size + columns // oversampling
    through_artery, through_vein = artery[rows, columns], vein[rows, columns]
    taken = np.empty((len(spectra.artery), size * size), dtype=np.float32)
    for band, (mu_artery, mu_vein) in enumerate(zip(spectra.artery, spectra.vein, strict=True)):
        optical = np.float32(mu_artery) * through_artery + np.float32(mu_vein) * through_vein
        lost = 1.0 - vessel_transmittance(optical, bypass=eye.bypass)
        taken[band] = np.bincount(pixel, weights=lost, minlength=size * size)
    return 1.0 - taken[:, valid.ravel()] / np.float32(oversampling**2)


def reflectance(spectra: Spectra, maps: Tissue, shade: FloatArray) -> FloatArray:
    """Return the light that comes back from each pixel, float32 ``(band, pixel)``, without noise.

    Media twice; nerve fibres reflect in front; behind them vessels, then capillaries, macular pigment and RPE
    twice over the choroid, or the optic nerve head, which has none of these.
    """
    deep = _mix(spectra.stroma, spectra.choroid_vessel, maps.choroid)
    densities = np.stack([spectra.macular, spectra.pigment, spectra.capillaries], axis=1).astype(np.float32)
    deep *= np.exp(-2.0 * densities @ np.stack([maps.macular, maps.pigment, maps.capillaries]))
    deep += maps.disc * (_mix(spectra.rim, spectra.cup, maps.cup) - deep)
    deep *= shade
    deep += _column(spectra.nerve_fibre) * maps.nerve_fibre
    deep *= maps.light
    deep *= _column(spectra.media)
    return deep


def _mix(first: FloatArray, second: FloatArray, share: FloatArray) -> FloatArray:
    return _column(first) + _column(second - first) * share


def _column(spectrum: FloatArray) -> FloatArray:
    return spectrum.astype(np.float32)[:, None]


def _edge(distance: FloatArray, at: float, width: float) -> FloatArray:
    """Return a step from 1 inside ``at`` to 0 outside, softened over ``width``."""
    return 1.0 / (1.0 + np.exp(np.clip((distance - at) / (0.5 * width), -30.0, 30.0)))


def _nerve_fibre(eye: Eye, x: FloatArray, y: FloatArray, from_fovea: FloatArray, from_disc: FloatArray) -> FloatArray:
    """Return the nerve fibre layer: thickest beside the disc's upper and lower pole, thin at the fovea and far away."""
    poles = (y / np.maximum(np.hypot(x, y), 1e-6)) ** 2
    spread = np.exp(-np.maximum(from_disc - 1.0, 0.0) / 3.0)
    return (0.35 + 0.65 * poles) * spread * (1.0 - 0.8 * np.exp(-((from_fovea / 0.9) ** 2)))


def _path(view: camera.View, tree: Tree, thinnest: float) -> FloatArray:
    starts, ends, radii = tree.without(below=thinnest)
    samples = path_lengths(view.to_samples(starts), view.to_samples(ends), radii * view.scale, side=view.side)
    return samples / np.float32(view.scale)
