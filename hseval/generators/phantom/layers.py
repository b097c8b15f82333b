"""The spectra of an eye's tissues, one vector over the bands each; the renderer mixes them in space."""

from __future__ import annotations

import dataclasses

import numpy as np

from hseval.generators.phantom import absorption as absorbs
from hseval.generators.phantom.anatomy import Eye
from hseval.generators.phantom.optics import reduced_scattering, slab_reflectance
from hseval.utils.arrays import FloatArray

CHOROID_SATURATION = 0.92  # blood leaves the choroid almost as saturated as it enters
SMALL_VESSEL_LAYER_MM = 0.08  # choriocapillaris and Sattler's layer: its blood hides what is deeper below 600 nm
SCLERA_REFLECTANCE = 0.6


@dataclasses.dataclass(frozen=True)
class TissueSpectra:
    """Float64 ``(band,)`` each.

    Attributes:
        media: transmittance of lens and other media, both ways.
        macular_pigment: macular pigment's density at its peak, base e, one way.
        rpe_melanin: absorption of the RPE's melanin, 1/mm.
        capillaries: absorption of capillary blood, 1/mm.
        artery: absorption of arterial blood, 1/mm.
        vein: absorption of venous blood, 1/mm.
        stroma: reflectance of the choroid between its large vessels.
        choroid_vessel: reflectance of the choroid where it is all large vessel.
        rim: reflectance of the optic nerve head's rim.
        cup: reflectance of its cup.
        nerve_fiber: reflectance of the thickest nerve fiber layer.
    """

    media: FloatArray
    macular_pigment: FloatArray
    rpe_melanin: FloatArray
    capillaries: FloatArray
    artery: FloatArray
    vein: FloatArray
    stroma: FloatArray
    choroid_vessel: FloatArray
    rim: FloatArray
    cup: FloatArray
    nerve_fiber: FloatArray


def compute_tissue_spectra(eye: Eye, wavelengths: FloatArray) -> TissueSpectra:
    """Compute an eye's tissue spectra at ``wavelengths`` (nm).

    Volume fractions of blood and relative scattering are the same in every eye, chosen so that the reflectance at
    555 nm is a few percent in the fundus and about twice that on the disc, and 20 to 40 % at 900 nm.
    """
    artery = _compute_blood_absorption(eye, wavelengths, eye.artery_saturation)
    vein = _compute_blood_absorption(eye, wavelengths, eye.vein_saturation)
    return TissueSpectra(
        media=10.0 ** (-2.0 * absorbs.lens_density(wavelengths, age=eye.age)),
        macular_pigment=np.log(10.0) * eye.macular_density * absorbs.macular_pigment_density(wavelengths),
        rpe_melanin=absorbs.melanin_absorption(wavelengths),
        capillaries=0.5 * (artery + vein),
        artery=artery,
        vein=vein,
        stroma=_compute_choroid_reflectance(
            eye, wavelengths, blood_fraction=0.1, melanin_fraction=eye.choroid_melanin_fraction, relative_scattering=1.0
        ),
        choroid_vessel=_compute_choroid_reflectance(
            eye,
            wavelengths,
            blood_fraction=0.6,
            melanin_fraction=0.15 * eye.choroid_melanin_fraction,
            relative_scattering=0.8,
        ),
        rim=_compute_disc_reflectance(eye, wavelengths, blood_fraction=0.11, scattering=1.7),
        cup=_compute_disc_reflectance(eye, wavelengths, blood_fraction=0.055, scattering=2.2),
        nerve_fiber=eye.nerve_fiber_reflectance * (wavelengths / 560.0) ** -1.0,
    )


def _compute_blood_absorption(eye: Eye, wavelengths: FloatArray, saturation: float) -> FloatArray:
    return absorbs.blood_absorption(wavelengths, saturation=saturation, grams_per_liter=eye.hemoglobin)


def _compute_choroid_reflectance(
    eye: Eye, wavelengths: FloatArray, *, blood_fraction: float, melanin_fraction: float, relative_scattering: float
) -> FloatArray:
    """Return the reflectance of two layers over the sclera: small vessels everywhere over large vessels or stroma."""
    scattering = reduced_scattering(wavelengths, scattering_at_560=eye.choroid_scattering, power=eye.scattering_power)
    blood = _compute_blood_absorption(eye, wavelengths, CHOROID_SATURATION)
    pigment, water = absorbs.melanin_absorption(wavelengths), absorbs.water_absorption(wavelengths)
    deep = slab_reflectance(
        blood_fraction * blood + melanin_fraction * pigment + 0.8 * water,
        relative_scattering * scattering,
        thickness=eye.choroid_thickness,
        background_reflectance=SCLERA_REFLECTANCE,
    )
    top = 0.28 * blood + 0.3 * eye.choroid_melanin_fraction * pigment + 0.8 * water
    return slab_reflectance(top, scattering, thickness=SMALL_VESSEL_LAYER_MM, background_reflectance=deep)


def _compute_disc_reflectance(
    eye: Eye, wavelengths: FloatArray, *, blood_fraction: float, scattering: float
) -> FloatArray:
    """Return the reflectance of nerve fibers with capillaries, without pigment, over a dark background."""
    absorbed = blood_fraction * _compute_blood_absorption(
        eye, wavelengths, 0.5 * (eye.artery_saturation + eye.vein_saturation)
    )
    reduced = reduced_scattering(wavelengths, scattering_at_560=scattering, power=0.8)
    return slab_reflectance(
        absorbed + 0.8 * absorbs.water_absorption(wavelengths), reduced, thickness=0.7, background_reflectance=0.45
    )
