"""Apply degradations by name, for their tests."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from hseval.core.cubes import Cube
from hseval.degradations import find_degradation, list_degradation_names
from hseval.degradations.base import CopyDegradation, CubeDegradation
from hseval.utils.random_streams import create_rng
from tests.helpers.sets import make_texture_set

Array = NDArray[Any]
NM = np.linspace(450.0, 905.0, 6)

COPY_NAMES = list(list_degradation_names("copies"))


def make_textured_cube(size: int = 48, *, seed: int = 0) -> Cube:
    """Return a cube with a round field, a black surround, and 'vein', which crosses the field."""
    cube = make_texture_set(1, size=size, seed=seed)[0]
    vein = np.zeros((size, size), dtype=bool)
    vein[size // 2 : size // 2 + 2] = True
    data = np.where(vein, 0.6 * cube.data, cube.data).astype(np.float32)
    return Cube(data, {"fov": cube.masks["fov"], "vein": vein & cube.masks["fov"]}, "eye")


def degrade_cube(name: str, cube: Cube, severity: float, *, nm: Array = NM, seed: int = 0) -> Cube:
    degradation = cast("CubeDegradation", find_degradation(name))
    return degradation.degrade(cube, severity, wavelengths=nm, rng=create_rng(seed, name))


def copy_cube(name: str, cube: Cube, *, seed: int = 0) -> Cube:
    return cast("CopyDegradation", find_degradation(name)).copy(cube, wavelengths=NM, rng=create_rng(seed, name))
