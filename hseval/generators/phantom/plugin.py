"""The generator that draws eyes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hseval.errors import HsevalError
from hseval.generators.phantom import camera, render, sensor
from hseval.generators.phantom.absorption import check_range
from hseval.generators.phantom.anatomy import Eye, draw_eye
from hseval.generators.phantom.arcades import Arcades
from hseval.generators.phantom.layers import spectra
from hseval.generators.phantom.vessels import Tree
from hseval.hookspecs import Sample
from hseval.options import option
from hseval.seeds import stream

SMALL_VESSEL_RADIUS_MM = 0.035


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
        options, size, fine = self.options, self.options.size, self.options.oversampling
        eye = self.eye(seed, index)
        artery, vein = trees(eye, seed, index)
        thinnest = 0.0 if options.small_vessels else SMALL_VESSEL_RADIUS_MM
        paths = render.blood_paths(eye, artery, vein, size=size, oversampling=fine, thinnest=thinnest)
        valid = camera.field(size, fine)
        light = spectra(eye, self.wavelengths)
        shade = render.vessel_shade(eye, light, *paths, valid=valid, oversampling=fine)
        maps = render.tissue(eye, stream(seed, "phantom", index, 3), size=size, valid=valid)
        pixels = sensor.exposed(
            render.reflectance(light, maps, shade), stream(seed, "phantom", index, 4), level=options.noise
        )
        cube = np.zeros((len(self.wavelengths), size, size), dtype=np.float32)
        cube[:, valid] = pixels
        masks = render.vessel_masks(eye, *paths, oversampling=fine)
        masks["onh"] = render.disc_mask(eye, size=size, oversampling=fine)
        masks = {name: mask & valid for name, mask in masks.items()} | {"fov": valid.copy()}
        return Sample(cube, masks, f"phantom-{index:06d}")

    def eye(self, seed: int, index: int) -> Eye:
        """Return the anatomy of eye ``index``, with the options' shifts."""
        eye = draw_eye(stream(seed, "phantom", index, 0))
        return dataclasses.replace(
            eye,
            artery_saturation=_shifted(eye.artery_saturation, self.options.artery_saturation_shift),
            vein_saturation=_shifted(eye.vein_saturation, self.options.vein_saturation_shift),
        )


def trees(eye: Eye, seed: int, index: int) -> tuple[Tree, Tree]:
    """Grow an eye's arteries and veins."""
    veins = Arcades(eye, stream(seed, "phantom", index, 1), field_radius=camera.FIELD_MM)
    grown = veins.grow(eye.vein_radius, spread=1.1, shift=0.06)
    arteries = Arcades(eye, stream(seed, "phantom", index, 2), field_radius=camera.FIELD_MM, beside=grown)
    return arteries.grow(eye.artery_radius, spread=0.95, shift=-0.12).tree(), grown.tree()


def _shifted(saturation: float, shift: float) -> float:
    return min(1.0, max(0.0, saturation + shift))


def _check(options: PhantomOptions) -> None:
    for name, least in (("size", 16), ("oversampling", 1), ("noise", 0)):
        if getattr(options, name) < least:
            raise HsevalError(f"phantom.{name}: {getattr(options, name)} is too small; the least is {least}")


def _wavelengths(spec: str) -> NDArray[Any]:
    try:
        if ":" in spec:
            start, stop, count = spec.split(":")
            return np.linspace(float(start), float(stop), int(count))
        return np.array([float(word) for word in spec.split(",")])
    except ValueError as error:
        raise HsevalError(f"phantom.wavelengths: {spec!r}: expected start:stop:count or a list with commas") from error
