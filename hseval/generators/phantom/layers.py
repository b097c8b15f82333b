"""The spectra of an eye's tissues: one vector over the bands for each, mixed in space by the renderer."""

from __future__ import annotations

import dataclasses

import numpy as np

from hseval.generators.phantom import absorption as absorbs
from hseval.generators.phantom.anatomy import Eye
from hseval.generators.phantom.arrays import FloatArray
from hseval.generators.phantom.optics import reduced_scattering, slab

CHOROID_SATURATION = 0.92  # blood leaves the choroid almost as it came
SMALL_VESSEL_LAYER_MM = 0.08  # choriocapillaris and Sattler's layer: its blood hides what is deeper below 600 nm
SCLERA_REFLECTANCE = 0.6


@dataclasses.dataclass(frozen=True)
class Spectra:
    """Float64 ``(band,)`` each.

    Attributes:
        media: transmittance of lens and other media, both ways.
        macular: macular pigment's density at its peak, base e, one way.
        pigment: absorption of the RPE's melanin, 1/mm.
        capillaries: absorption of capillary blood, 1/mm.
        artery: absorption of arterial blood, 1/mm.
        vein: absorption of venous blood, 1/mm.
        stroma: reflectance of the choroid between its large vessels.
        choroid_vessel: reflectance of the choroid where it is all large vessel.
        rim: reflectance of the optic nerve head's rim.
        cup: reflectance of its cup.
        nerve_fibre: reflectance of the thickest nerve fibre layer.
    """

    media: FloatArray
    macular: FloatArray
    pigment: FloatArray
    capillaries: FloatArray
    artery: FloatArray
    vein: FloatArray
    stroma: FloatArray
    choroid_vessel: FloatArray
    rim: FloatArray
    cup: FloatArray
    nerve_fibre: FloatArray


def spectra(eye: Eye, wavelengths: FloatArray) -> Spectra:
    """Compute an eye's tissue spectra at ``wavelengths`` (nm).

    Volume fractions of blood and relative scattering are the same in every eye; they were chosen so that reflectance
    at 555 nm comes to a few per cent in the fundus and about twice that on the disc, and to 20 to 40 % at 900 nm.
    """
    artery = _blood(eye, wavelengths, eye.artery_saturation)
    vein = _blood(eye, wavelengths, eye.vein_saturation)
    return Spectra(
        media=10.0 ** (-2.0 * absorbs.lens_density(wavelengths, age=eye.age)),
        macular=np.log(10.0) * eye.macular_density * absorbs.macular_pigment(wavelengths),
        pigment=absorbs.melanin(wavelengths),
        capillaries=0.5 * (artery + vein),
        artery=artery,
        vein=vein,
        stroma=_choroid(eye, wavelengths, blood=0.1, melanin=eye.choroid_melanin, scattering=1.0),
        choroid_vessel=_choroid(eye, wavelengths, blood=0.6, melanin=0.15 * eye.choroid_melanin, scattering=0.8),
        rim=_disc(eye, wavelengths, blood=0.11, scattering=1.7),
        cup=_disc(eye, wavelengths, blood=0.055, scattering=2.2),
        nerve_fibre=eye.nerve_fibre * (wavelengths / 560.0) ** -1.0,
    )


def _blood(eye: Eye, wavelengths: FloatArray, saturation: float) -> FloatArray:
    return absorbs.blood(wavelengths, saturation=saturation, grams_per_litre=eye.haemoglobin)


def _choroid(eye: Eye, wavelengths: FloatArray, *, blood: float, melanin: float, scattering: float) -> FloatArray:
    """Two layers over the sclera: large vessels or stroma beneath, the same small vessels everywhere on top."""
    own = reduced_scattering(wavelengths, at_560=eye.choroid_scattering, power=eye.scattering_power)
    whole = _blood(eye, wavelengths, CHOROID_SATURATION)
    pigment, water = absorbs.melanin(wavelengths), absorbs.water(wavelengths)
    deep = slab(
        blood * whole + melanin * pigment + 0.8 * water,
        scattering * own,
        thickness=eye.choroid_thickness,
        ground=SCLERA_REFLECTANCE,
    )
    top = 0.28 * whole + 0.3 * eye.choroid_melanin * pigment + 0.8 * water
    return slab(top, own, thickness=SMALL_VESSEL_LAYER_MM, ground=deep)


def _disc(eye: Eye, wavelengths: FloatArray, *, blood: float, scattering: float) -> FloatArray:
    """Nerve fibres with capillaries, without pigment, over a dark depth."""
    absorbed = blood * _blood(eye, wavelengths, 0.5 * (eye.artery_saturation + eye.vein_saturation))
    own = reduced_scattering(wavelengths, at_560=scattering, power=0.8)
    return slab(absorbed + 0.8 * absorbs.water(wavelengths), own, thickness=0.7, ground=0.45)
