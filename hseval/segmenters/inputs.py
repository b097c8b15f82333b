"""Inputs of both built-in segmenters: spectra in a few windows, on a scale that was fixed when they were fitted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from hseval.core.cubes import FOV, Cube
from hseval.data.field_of_view import find_valid_pixels
from hseval.utils.arrays import Array, BoolArray, Float32Array

MAX_WINDOWS = 16  # spectral windows at most: 200 bands add little information, and take more than ten times as long
MIN_POSITIVE_SHARE = 0.999  # share of values above 0 from which spectra are reflectance or radiance: use the logarithm
MIN_RELATIVE_VALUE = 1e-3  # of the typical value: darker values are noise, whose logarithm would be arbitrary


def average_windows(cube: Float32Array) -> Float32Array:
    """Return ``(window, y, x)``: means of adjacent bands of ``cube`` (band, y, x), at most ``MAX_WINDOWS`` of them."""
    if len(cube) <= MAX_WINDOWS:
        return cube
    return np.stack([bands.mean(axis=0) for bands in np.array_split(cube, MAX_WINDOWS)])


def get_labels(cube: Cube, structures: Sequence[str]) -> BoolArray:
    """Return bool ``(structure, y, x)``; a cube without a mask has none of that structure."""
    nowhere = np.zeros(cube.data.shape[1:], dtype=bool)
    return np.stack([np.asarray(cube.masks.get(name, nowhere), dtype=bool) for name in structures])


def select_structures(names: Sequence[str]) -> tuple[str, ...]:
    """Return the structures to learn: all but the field of view, sorted."""
    return tuple(sorted(set(names) - {FOV}))


@dataclasses.dataclass(frozen=True)
class SpectralScaler:
    """Standardizes spectra, if they are positive by logarithm.

    Attributes:
        is_logarithmic: whether values are taken by logarithm, so that a gain is an offset.
        min_value: smaller values are raised to it before the logarithm.
        mean: ``(window,)`` of the pixels it was fitted on, after the logarithm.
        std: ``(window,)``.
    """

    is_logarithmic: bool
    min_value: float
    mean: Float32Array
    std: Float32Array

    @classmethod
    def fit(cls, spectra: Float32Array) -> SpectralScaler:
        """Fit to spectra ``(window, pixel)``."""
        logarithmic = bool((spectra > 0).mean() >= MIN_POSITIVE_SHARE)
        min_value = MIN_RELATIVE_VALUE * float(np.median(np.abs(spectra))) or 1.0
        values = np.log(np.maximum(spectra, min_value)) if logarithmic else spectra
        std = values.std(axis=1, dtype=np.float64)
        median_std = float(np.median(std)) or 1.0
        mean = values.mean(axis=1, dtype=np.float64).astype(np.float32)
        return cls(logarithmic, min_value, mean, np.maximum(std, 0.01 * median_std).astype(np.float32))

    def transform(self, spectra: Float32Array) -> Float32Array:
        """Return spectra ``(window, pixel)`` on this scale."""
        values = np.log(np.maximum(spectra, self.min_value)) if self.is_logarithmic else spectra
        return (values - self.mean[:, None]) / self.std[:, None]

    def __call__(self, cube: Float32Array) -> tuple[Float32Array, Float32Array]:
        """Return a cube ``(band, y, x)`` scaled, and scaled minus its own median spectrum: ``(window, y, x)`` each.

        The first distinguishes cubes of different subjects; the second does not depend on a cube's own brightness.
        Both are 0 where the cube is not valid.
        """
        valid = find_valid_pixels(cube)
        scaled = self.transform(average_windows(cube).reshape(len(self.mean), -1)).reshape(-1, *valid.shape)
        median = np.median(scaled[:, valid], axis=1)[:, None, None] if valid.any() else np.float32(0)
        absolute, relative = (np.where(valid, spectra, 0).astype(np.float32) for spectra in (scaled, scaled - median))
        return absolute, relative

    def to_state(self) -> dict[str, Array]:
        """Return the fitted numbers as arrays."""
        return {
            "scale.mean": self.mean,
            "scale.deviation": self.std,
            "scale.dark": np.array([self.min_value], dtype=np.float64),
            "scale.logarithmic": np.array([self.is_logarithmic]),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Array]) -> SpectralScaler:
        """Return the scaler whose arrays :meth:`to_state` returned."""
        settings = bool(state["scale.logarithmic"][0]), float(state["scale.dark"][0])
        return cls(*settings, state["scale.mean"], state["scale.deviation"])
