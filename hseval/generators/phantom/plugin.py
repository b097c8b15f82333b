"""The generator ``phantom``, which draws synthetic eyes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from hseval.core.cubes import FOV
from hseval.core.options import check_ranges, option
from hseval.core.protocols import Sample
from hseval.data.wavelengths import parse_wavelengths
from hseval.generators.phantom import blood, camera, maps
from hseval.generators.phantom.absorption import check_wavelength_range
from hseval.generators.phantom.anatomy import Eye, draw_eye
from hseval.generators.phantom.arcades import ArcadeGrower
from hseval.generators.phantom.layers import compute_tissue_spectra
from hseval.generators.phantom.render import compute_reflectance
from hseval.generators.phantom.sensor import add_sensor_noise
from hseval.generators.phantom.vessels import VesselTree
from hseval.utils.arrays import Array
from hseval.utils.errors import HsevalError
from hseval.utils.random_streams import create_rng

SMALL_VESSEL_RADIUS_MM = 0.035
ANATOMY, VEINS, ARTERIES, TEXTURE, NOISE = range(5)  # random streams of an eye


@dataclasses.dataclass(frozen=True)
class PhantomOptions:
    """Options of the phantom."""

    size: int = option(224, "side of the image in pixels")
    wavelengths: str = option("450:905:16", "band centers in nm: start:stop:count, or a list with commas")
    oversampling: int = option(4, "samples per pixel and axis; vessels are drawn on these and averaged")
    noise: float = option(1.0, "shot and read noise relative to the camera's own (0: none)")
    small_vessels: bool = option(True, "draw vessels thinner than 70 micrometers")
    artery_saturation_shift: float = option(0.0, "added to the oxygen saturation of arteries (-0.1: ten points less)")
    vein_saturation_shift: float = option(0.0, "added to the oxygen saturation of veins")


class Phantom:
    """Draws eyes; there is nothing to fit.

    Each part of an eye has a random stream of its own, so that an option changes that part alone.
    """

    name: ClassVar[str] = "phantom"
    version: ClassVar[str] = "1"
    units: ClassVar[str] = "reflectance"
    summary: ClassVar[str] = "synthetic retinas by published optics and anatomy, with exact masks"
    Options = PhantomOptions

    def __init__(self, options: PhantomOptions | None = None) -> None:
        self.options = options or PhantomOptions()
        self.wavelengths: Array = _parse_band_centers(self.options.wavelengths)
        ranges = {"size": (16, 4096), "oversampling": (1, 16), "noise": (0, 1000)}
        check_ranges(self.options, ranges, owner="phantom")
        check_wavelength_range(self.wavelengths)

    def load(self, path: Path | None = None, device: str | None = None) -> None:
        """Do nothing: eyes need no file and no device.

        Raises:
            HsevalError: ``path`` names a checkpoint.
        """
        if path is not None:
            raise HsevalError(f"{path}: generator 'phantom' reads no checkpoint; leave --checkpoint out")

    def sample(self, n: int, *, seed: int, start: int = 0) -> Iterator[Sample]:
        """Yield eyes ``start`` to ``n - 1``: cubes of reflectance, 0 outside the field, with four masks."""
        for index in range(start, n):
            yield self.draw_sample(seed, index)

    def draw_sample(self, seed: int, index: int) -> Sample:
        """Return eye ``index`` of ``seed``."""
        size, fine = self.options.size, self.options.oversampling
        eye = self.draw_anatomy(seed, index)
        min_radius = 0.0 if self.options.small_vessels else SMALL_VESSEL_RADIUS_MM
        artery, vein = (
            blood.rasterize_vessels(eye, tree, size=size, oversampling=fine, min_radius=min_radius)
            for tree in grow_trees(eye, seed, index)
        )
        masks = blood.make_vessel_masks(eye, artery, vein, oversampling=fine)
        masks["onh"] = maps.make_disc_mask(eye, size=size, oversampling=fine)
        valid = camera.compute_field_mask(size, fine)
        spectra = compute_tissue_spectra(eye, self.wavelengths)
        transmittance = blood.compute_retinal_transmittance(eye, spectra, artery, vein, valid=valid, oversampling=fine)
        tissue = maps.draw_tissue_maps(eye, create_rng(seed, "phantom", index, TEXTURE), size=size, oversampling=fine)
        clean = compute_reflectance(spectra, tissue, transmittance)
        cube = np.zeros((len(self.wavelengths), size, size), dtype=np.float32)
        cube[:, valid] = add_sensor_noise(
            clean, create_rng(seed, "phantom", index, NOISE), noise_level=self.options.noise
        )
        masks = {name: mask & valid for name, mask in masks.items()} | {FOV: valid.copy()}
        return Sample(cube, masks, f"phantom-{seed}-{index:06d}")

    def draw_anatomy(self, seed: int, index: int) -> Eye:
        """Return the anatomy of eye ``index``, with the options' shifts."""
        eye = draw_eye(create_rng(seed, "phantom", index, ANATOMY))
        return dataclasses.replace(
            eye,
            artery_saturation=_shift_saturation(eye.artery_saturation, self.options.artery_saturation_shift),
            vein_saturation=_shift_saturation(eye.vein_saturation, self.options.vein_saturation_shift),
        )


def grow_trees(eye: Eye, seed: int, index: int) -> tuple[VesselTree, VesselTree]:
    """Grow an eye's arteries and veins."""
    veins = ArcadeGrower(eye, create_rng(seed, "phantom", index, VEINS), field_radius=camera.FIELD_RADIUS_MM)
    vein_tree = veins.grow(eye.vein_radius, width_factor=1.1, temporal_shift=0.06)
    arteries = ArcadeGrower(
        eye, create_rng(seed, "phantom", index, ARTERIES), field_radius=camera.FIELD_RADIUS_MM, other_tree=vein_tree
    )
    return arteries.grow(eye.artery_radius, width_factor=0.95, temporal_shift=-0.12).build(), vein_tree.build()


def _shift_saturation(saturation: float, shift: float) -> float:
    return min(1.0, max(0.0, saturation + shift))


def _parse_band_centers(spec: str) -> Array:
    """Return the band centers of a list with commas, or of a range or file as in other commands."""
    try:
        centers = np.array([float(word) for word in spec.split(",")]) if ":" not in spec else parse_wavelengths(spec)
    except ValueError:
        centers = parse_wavelengths(spec)
    if (np.diff(centers) <= 0.0).any():
        raise HsevalError(
            f"phantom.wavelengths: {spec!r} is not in ascending order; expected band centers such as 450,550,650"
        )
    return centers
