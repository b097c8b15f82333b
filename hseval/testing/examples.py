"""Small sets for the checks: smooth cubes with a round field of view, a hole in it and a disc."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.core.cubes import FOV, ArraySet
from hseval.utils.random_streams import create_rng


def make_example_set(count: int = 12, *, seed: int = 0, size: int = 48, bands: int = 6) -> ArraySet:
    """Return cubes float32 ``(count, bands, size, size)`` over 450 to 905 nm, black outside ``fov``.

    Every cube has the structures ``fov`` (round, with a small hole like that of an instrument's stop) and ``disc``
    (brighter, at another position in each cube), smooth texture and a little noise.
    """
    rng = create_rng(seed, "example set")
    y, x = np.mgrid[:size, :size] / size - 0.5
    radius = np.hypot(y, x)
    field = np.broadcast_to((radius < 0.46) & (radius > 0.05), (count, size, size))
    centers = rng.uniform(0.18, 0.24, count), rng.uniform(0, 2 * np.pi, count)
    disc = np.stack([np.hypot(y - r * np.sin(a), x - r * np.cos(a)) < 0.09 for r, a in zip(*centers, strict=True)])
    cubes = 0.3 + 0.05 * _make_waves(rng, count, bands, y, x) + 0.2 * disc[:, None]
    cubes += 0.01 * rng.standard_normal(cubes.shape)
    masks = {FOV: field, "disc": disc & field}
    wavelengths = np.linspace(450.0, 905.0, bands)
    return ArraySet(np.where(field[:, None], cubes, 0.0), wavelengths=wavelengths, masks=masks, location="example set")


def _make_waves(rng: np.random.Generator, count: int, bands: int, y: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
    """Return ``(count, bands, y, x)``: six plane waves per cube, whose strength changes smoothly over the bands."""
    frequency = rng.normal(0, 4, (2, count, 6, 1, 1))
    phase = rng.uniform(0, 2 * np.pi, (count, 6, 1, 1))
    waves = np.sin(2 * np.pi * (frequency[0] * y + frequency[1] * x) + phase)
    strength = rng.normal(1, 0.5, (count, 6, 1)) + rng.normal(0, 0.5, (count, 6, 1)) * np.linspace(-1, 1, bands)
    total: NDArray[Any] = np.einsum("nwb,nwyx->nbyx", strength, waves)
    return total
