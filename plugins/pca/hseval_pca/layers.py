"""Conversion between a cube with masks and layers: its bands, then a soft layer for each mask."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.plugin import FOV, Cube, CubeSet, HsevalError

Array = NDArray[Any]
BLUR_PX = 1.0  # so that vessels of different eyes overlap and can be averaged


@dataclasses.dataclass(frozen=True)
class LayerLayout:
    """``pixel_mask``, bool ``(y, x)``, marks the modeled pixels: those in the field of view of some cube."""

    bands: int
    structures: tuple[str, ...]
    pixel_mask: Array

    @classmethod
    def from_cubes(cls, data: CubeSet) -> LayerLayout:
        """Return the layers of a set.

        Raises:
            HsevalError: its cubes differ in shape, or all fields of view are empty.
        """
        shape = data.shape(0)
        visible = np.zeros(shape[1:], dtype=bool)
        for index, name in enumerate(data.ids):
            if data.shape(index) != shape:
                message = f"cube {name!r} has shape {data.shape(index)}, cube {data.ids[0]!r} has {shape}"
                raise HsevalError(f"{data.info.location}: {message}; pca needs cubes of one shape")
            visible |= data.read_masks(index).get(FOV, True)
        if not visible.any():
            raise HsevalError(f"{data.info.location}: the 'fov' masks of all {len(data)} cubes are empty")
        return cls(shape[0], data.structures, visible)

    def flatten(self, cube: Cube) -> Array:
        """Return float32 ``(layer, pixel)``, NaN where the cube has no data: outside its field, or without a mask."""
        values = cube.data[:, self.pixel_mask]
        known = np.isfinite(values) & cube.masks.get(FOV, self.pixel_mask)[self.pixel_mask]
        bands = np.where(known, values, np.nan)
        unknown = np.full(values.shape[1], np.nan)
        masks = [smooth_mask(cube.masks[s])[self.pixel_mask] if s in cube.masks else unknown for s in self.structures]
        return np.vstack([bands, *masks], dtype=np.float32)

    def unflatten(self, flat: Array, thresholds: Array) -> tuple[Array, Mapping[str, Array]]:
        """Return the cube float32 ``(band, y, x)``, 0 outside its own field of view, and its masks."""
        layers = np.full((len(flat), *self.pixel_mask.shape), -np.inf, dtype=np.float32)
        layers[:, self.pixel_mask] = flat
        inside = layers[self.bands :] > thresholds[:, None, None]
        masks = dict(zip(self.structures, inside, strict=True))
        field = masks.get(FOV, self.pixel_mask) & self.pixel_mask
        return np.where(field, layers[: self.bands], 0), {name: mask & field for name, mask in masks.items()}


def smooth_mask(mask: Array) -> Array:
    """Return a mask ``(y, x)`` as smooth values that a Gaussian can model: above 1 inside, up to 1 outside."""
    from scipy.ndimage import gaussian_filter

    hard = mask.astype(np.float32)
    return np.asarray(hard + gaussian_filter(hard, BLUR_PX))
