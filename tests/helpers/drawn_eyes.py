"""Toy eyes made by a few lines of numpy, and the maps that ``authenticity`` compares."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from hseval.core.cubes import Cube
from hseval.data.preprocessing import preprocess_cube
from hseval.extractors.maps import LowresMaps

Array = NDArray[Any]
SIZE = 64
WAVELENGTHS = np.linspace(450, 905, 5)
YY, XX = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
FIELD = np.hypot(YY, XX) < 0.48 * SIZE


def make_eye(seed: int, index: int) -> Array:
    """Return a toy eye ``(band, y, x)``: random winding vessels, falloff, brightness, sensor noise."""
    rng = np.random.default_rng([seed, index])
    turns = np.cumsum(rng.normal(0, 0.12, (8, 80)), axis=1) + rng.uniform(0, 2 * np.pi, (8, 1))
    start = np.stack([rng.normal(0, 3, 8), rng.choice([-9.0, 9.0], 8)])
    path = start[..., None] + 0.5 * np.stack([np.sin(turns), np.cos(turns)]).cumsum(axis=-1)
    rows, columns = np.clip(path + SIZE / 2, 0, SIZE - 1).astype(int)
    vessels = np.zeros((SIZE, SIZE))
    vessels[rows, columns] = 1
    vessels = np.clip(1.5 * gaussian_filter(vessels, 0.6), 0, 1)
    falloff = 1 - 0.4 * (YY**2 + XX**2) / (SIZE / 2) ** 2
    cube = falloff * (1 - np.linspace(0.6, 0.02, 5)[:, None, None] * vessels) * rng.uniform(0.7, 1.3)
    cube *= np.exp(0.2 * rng.normal() * np.linspace(-1, 1, 5))[:, None, None]
    return np.asarray(cube + 0.01 * rng.normal(size=cube.shape), dtype=np.float32)


def make_eyes(count: int, seed: int) -> list[Array]:
    return [make_eye(seed, index) for index in range(count)]


def compute_maps(cubes: list[Array], fields: list[Array] | None = None, **options: int) -> Array:
    """Return the cubes' maps, preprocessed as the core does: cropped to their field, NaN outside."""
    extractor = LowresMaps(LowresMaps.Options(**options))
    maps = []
    for cube, field in zip(cubes, fields or [FIELD] * len(cubes), strict=True):
        prepared = preprocess_cube(Cube(cube, {"fov": field}), ("fov",))
        assert prepared is not None
        masks = {name: mask[None] for name, mask in prepared.masks.items()}
        maps.append(extractor(prepared.data[None], wavelengths=WAVELENGTHS[: len(cube)], masks=masks)[""][0])
    return np.stack(maps)
