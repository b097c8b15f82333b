"""An eye: every number that varies between eyes, drawn from the ranges of the literature.

Positions are on the retina, in mm: the disc's center is the origin, +x is temporal, +y superior. One degree of
visual angle is 0.29 mm there: the 17 mm from an eye's second nodal point, times pi / 180.
"""

from __future__ import annotations

import dataclasses

import numpy as np

MM_PER_DEGREE = 0.29


@dataclasses.dataclass(frozen=True)
class Eye:
    """One eye.

    Attributes:
        is_right: whether it is a right eye (the disc is on the image's right).
        torsion: rotation of the image in radians.
        center: of the field of view, mm.
        fovea: its position, mm.
        avascular_radius: of the foveal avascular zone, mm.
        disc_semi_axes: horizontal and vertical semi-axis of the optic nerve head, mm.
        cup_to_disc_ratio: cup-to-disc ratio.
        artery_radius: of the central artery, mm.
        vein_radius: of the central vein, mm.
        is_artery_in_front: whether arteries lie in front at crossings (about 70 % of them; here all or none of an eye).
        artery_saturation: share of arterial hemoglobin that carries oxygen.
        vein_saturation: the same in veins.
        hemoglobin: grams per liter of blood.
        bypass_fraction: share of the light over a vessel that did not cross it.
        capillary_path_length: blood in the retina's capillaries as a layer, mm.
        age: years; decides the lens.
        macular_density: macular pigment's peak optical density, base 10.
        rpe_melanin_thickness: melanosomes of the retinal pigment epithelium as a solid layer, mm.
        choroid_melanin_fraction: share of the choroid's stroma that is melanosome.
        choroid_thickness: of its layer of large vessels, mm.
        choroid_scattering: mu_s' at 560 nm, 1/mm.
        scattering_power: b of mu_s' ~ lambda^-b.
        nerve_fiber_reflectance: reflectance of the thickest nerve fiber layer at 560 nm.
        illumination_falloff: share of the light lost at the field's rim.
        illumination_offset: center of the illumination, in field radii (right, down).
    """

    is_right: bool
    torsion: float
    center: tuple[float, float]
    fovea: tuple[float, float]
    avascular_radius: float
    disc_semi_axes: tuple[float, float]
    cup_to_disc_ratio: float
    artery_radius: float
    vein_radius: float
    is_artery_in_front: bool
    artery_saturation: float
    vein_saturation: float
    hemoglobin: float
    bypass_fraction: float
    capillary_path_length: float
    age: float
    macular_density: float
    rpe_melanin_thickness: float
    choroid_melanin_fraction: float
    choroid_thickness: float
    choroid_scattering: float
    scattering_power: float
    nerve_fiber_reflectance: float
    illumination_falloff: float
    illumination_offset: tuple[float, float]


def draw_eye(rng: np.random.Generator) -> Eye:
    """Draw an eye. The order of draws is part of the version: a new parameter is drawn last."""
    uniform, normal = rng.uniform, rng.normal
    age = float(uniform(20.0, 80.0))
    pigmentation = float(rng.beta(1.6, 1.6))
    vein_radius = float(np.clip(normal(0.118, 0.007), 0.105, 0.135))
    disc = float(np.clip(normal(0.86, 0.06), 0.74, 1.02))
    return Eye(
        is_right=bool(rng.random() < 0.5),
        torsion=float(np.clip(normal(0.0, 0.07), -0.18, 0.18)),
        center=(float(uniform(2.0, 3.0)), float(uniform(-0.6, 0.3))),
        fovea=(float(np.clip(normal(4.5, 0.15), 4.1, 4.9)), float(np.clip(normal(-0.45, 0.15), -0.9, 0.0))),
        avascular_radius=float(uniform(0.3, 0.45)),
        disc_semi_axes=(disc, disc * float(uniform(1.03, 1.16))),
        cup_to_disc_ratio=float(np.clip(normal(0.42, 0.12), 0.15, 0.75)),
        artery_radius=vein_radius * float(np.clip(normal(0.68, 0.03), 0.6, 0.76)),
        vein_radius=vein_radius,
        is_artery_in_front=bool(rng.random() < 0.7),
        artery_saturation=float(np.clip(normal(0.955, 0.015), 0.9, 0.99)),
        vein_saturation=float(np.clip(normal(0.62, 0.05), 0.45, 0.75)),
        hemoglobin=float(np.clip(normal(145.0, 12.0), 115.0, 175.0)),
        bypass_fraction=float(uniform(0.25, 0.37)),
        capillary_path_length=float(uniform(0.001, 0.003)),
        age=age,
        macular_density=float(np.clip(normal(0.5, 0.16), 0.1, 0.95)),
        rpe_melanin_thickness=0.003 + 0.005 * pigmentation * float(uniform(0.8, 1.2)),
        choroid_melanin_fraction=0.03 + 0.06 * pigmentation**1.5 * float(uniform(0.8, 1.2)),
        choroid_thickness=float(uniform(0.14, 0.3)) - 0.0008 * (age - 50.0),
        choroid_scattering=float(uniform(4.5, 7.0)),
        scattering_power=float(uniform(1.0, 1.5)),
        nerve_fiber_reflectance=float(uniform(0.008, 0.016)) * (1.3 - 0.006 * age),
        illumination_falloff=float(uniform(0.25, 0.5)),
        illumination_offset=(float(uniform(-0.2, 0.2)), float(uniform(-0.2, 0.2))),
    )
