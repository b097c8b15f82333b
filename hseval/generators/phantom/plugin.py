"""The generator that draws eyes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hseval.core.cubes import FIELD
from hseval.core.hookspecs import Sample
from hseval.core.options import option
from hseval.data.wavelengths import parse_wavelengths
from hseval.generators.phantom import blood, camera, maps
from hseval.generators.phantom.absorption import check_range
from hseval.generators.phantom.anatomy import Eye, draw_eye
from hseval.generators.phantom.arcades import Arcades
from hseval.generators.phantom.layers import spectra
from hseval.generators.phantom.render import reflectance
from hseval.generators.phantom.sensor import exposed
from hseval.generators.phantom.vessels import Tree
from hseval.utils.errors import HsevalError
from hseval.utils.random_streams import stream

SMALL_VESSEL_RADIUS_MM = 0.035
ANATOMY, VEINS, ARTERIES, TEXTURE, NOISE = range(5)  # an eye's streams of random numbers


@dataclasses.dataclass(frozen=True)
class PhantomOptions:
    """What can be set."""

    size: int = option(224, "side of the picture in pixels")
    wavelengths: str = option("450:905:16", "band centres in nm: start:stop:count, or a list with commas")
    oversampling: int = option(4, "samples per pixel and axis; vessels are drawn on these and averaged")
    noise: float = option(1.0, "shot and read noise relative to the camera's own (0: none)")
    small_vessels: bool = option(True, "draw vessels thinner than 70 micrometres")
    artery_saturation_shift: float = option(0.0, "added to the oxygen saturation of arteries (-0.1: ten points less)")
    vein_saturation_shift: float = option(0.0, "added to the oxygen saturation of veins")


class Phantom:
    """Draws eyes; there is nothing to fit.

    Each part of an eye has its own stream of random numbers, so that an option changes that part and no other.
    """

    name: ClassVar[str] = "phantom"
    version: ClassVar[str] = "1"
    units: ClassVar[str] = "reflectance"
    summary: ClassVar[str] = "synthetic retinas by published optics and anatomy, with true masks"
    Options = PhantomOptions

    def __init__(self, options: PhantomOptions | None = None) -> None:
        self.options = options or PhantomOptions()
        self.wavelengths: NDArray[Any] = _wavelengths(self.options.wavelengths)
        _check(self.options)
        check_range(self.wavelengths)

    def load(self, path: Path | None = None, device: str | None = None) -> None:
        """Do nothing: an eye needs no file and no device.

        Raises:
            HsevalError: a checkpoint was given.
        """
        if path is not None:
            raise HsevalError(f"{path}: generator 'phantom' reads no checkpoint; leave --checkpoint out")

    def sample(self, n: int, *, seed: int, start: int = 0) -> Iterator[Sample]:
        """Yield eyes ``start`` to ``n - 1``: cubes of reflectance, 0 outside the field, with four masks."""
        for index in range(start, n):
            yield self.draw(seed, index)

    def draw(self, seed: int, index: int) -> Sample:
        """Return eye ``index`` of ``seed``."""
        size, fine = self.options.size, self.options.oversampling
        eye = self.eye(seed, index)
        thinnest = 0.0 if self.options.small_vessels else SMALL_VESSEL_RADIUS_MM
        artery, vein = (
            blood.draw_vessels(eye, tree, size=size, oversampling=fine, thinnest=thinnest)
            for tree in grow_trees(eye, seed, index)
        )
        masks = blood.masks(eye, artery, vein, oversampling=fine)
        masks["onh"] = maps.disc_mask(eye, size=size, oversampling=fine)
        valid = camera.field(size, fine)
        colours = spectra(eye, self.wavelengths)
        shade = blood.shade(eye, colours, artery, vein, valid=valid, oversampling=fine)
        tissue = maps.draw_maps(eye, stream(seed, "phantom", index, TEXTURE), size=size, oversampling=fine)
        clean = reflectance(colours, tissue, shade)
        cube = np.zeros((len(self.wavelengths), size, size), dtype=np.float32)
        cube[:, valid] = exposed(clean, stream(seed, "phantom", index, NOISE), level=self.options.noise)
        masks = {name: mask & valid for name, mask in masks.items()} | {FIELD: valid.copy()}
        return Sample(cube, masks, f"phantom-{seed}-{index:06d}")

    def eye(self, seed: int, index: int) -> Eye:
        """Return the anatomy of eye ``index``, with the options' shifts."""
        eye = draw_eye(stream(seed, "phantom", index, ANATOMY))
        return dataclasses.replace(
            eye,
            artery_saturation=_shifted(eye.artery_saturation, self.options.artery_saturation_shift),
            vein_saturation=_shifted(eye.vein_saturation, self.options.vein_saturation_shift),
        )


def grow_trees(eye: Eye, seed: int, index: int) -> tuple[Tree, Tree]:
    """Grow an eye's arteries and veins."""
    veins = Arcades(eye, stream(seed, "phantom", index, VEINS), field_radius=camera.FIELD_MM)
    grown = veins.grow(eye.vein_radius, spread=1.1, shift=0.06)
    arteries = Arcades(eye, stream(seed, "phantom", index, ARTERIES), field_radius=camera.FIELD_MM, beside=grown)
    return arteries.grow(eye.artery_radius, spread=0.95, shift=-0.12).tree(), grown.tree()


def _shifted(saturation: float, shift: float) -> float:
    return min(1.0, max(0.0, saturation + shift))


def _check(options: PhantomOptions) -> None:
    for name, least, most in (("size", 16, 4096), ("oversampling", 1, 16), ("noise", 0, 1000)):
        if not least <= getattr(options, name) <= most:  # NaN is neither
            raise HsevalError(f"phantom.{name}: {getattr(options, name)} is out of range; {least} to {most} will do")


def _wavelengths(spec: str) -> NDArray[Any]:
    """Return the band centres of a list with commas, or of what every other command takes (a range, a file)."""
    try:
        centres = np.array([float(word) for word in spec.split(",")]) if ":" not in spec else parse_wavelengths(spec)
    except ValueError:
        centres = parse_wavelengths(spec)
    if (np.diff(centres) <= 0.0).any():
        raise HsevalError(f"phantom.wavelengths: {spec!r} is not in ascending order")
    return centres
