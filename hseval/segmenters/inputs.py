"""What both built-in segmenters see of a cube: spectra in a few windows, on a scale fixed when they were fitted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.cubes import FOV, Cube

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float32Array = NDArray[np.float32]
    Bools = NDArray[np.bool_]

MAX_WINDOWS = 16  # spectral windows at most: 200 bands say little more about a structure, and cost more than ten times
MIN_POSITIVE_SHARE = (
    0.999  # share of values above 0 from which spectra are taken as reflectance or radiance, by logarithm
)
MIN_RELATIVE_VALUE = 1e-3  # of the typical value: what is darker is noise, whose logarithm would be anything


def average_windows(cube: Float32Array) -> Float32Array:
    """Return ``(window, y, x)``: means of adjacent bands of ``cube`` (band, y, x), at most ``MAX_WINDOWS`` of them."""
    if len(cube) <= MAX_WINDOWS:
        return cube
    return np.stack([part.mean(axis=0) for part in np.array_split(cube, MAX_WINDOWS)])


def get_valid_mask(cube: Float32Array) -> Bools:
    """Return bool ``(y, x)``: where a cube has values (invalid pixels come as NaN in every band)."""
    return np.asarray(np.isfinite(cube).all(axis=0))


def get_labels(cube: Cube, structures: Sequence[str]) -> Bools:
    """Return bool ``(structure, y, x)``; a cube without a mask has none of that structure."""
    nowhere = np.zeros(cube.data.shape[1:], dtype=bool)
    return np.stack([np.asarray(cube.masks.get(name, nowhere), dtype=bool) for name in structures])


def select_structures(names: Sequence[str]) -> tuple[str, ...]:
    """Return the structures to learn: all but the field of view, sorted."""
    return tuple(sorted(set(names) - {FOV}))


@dataclasses.dataclass(frozen=True)
class SpectralScaler:
    """How spectra become numbers of order 1.

    Attributes:
        is_logarithmic: whether values are taken by logarithm, so that a gain is an offset.
        min_value: what smaller values are raised to before the logarithm.
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
        dark = MIN_RELATIVE_VALUE * float(np.median(np.abs(spectra))) or 1.0
        values = np.log(np.maximum(spectra, dark)) if logarithmic else spectra
        deviation = values.std(axis=1, dtype=np.float64)
        typical = float(np.median(deviation)) or 1.0
        mean = values.mean(axis=1, dtype=np.float64).astype(np.float32)
        return cls(logarithmic, dark, mean, np.maximum(deviation, 0.01 * typical).astype(np.float32))

    def transform(self, spectra: Float32Array) -> Float32Array:
        """Return spectra ``(window, pixel)`` on this scale."""
        values = np.log(np.maximum(spectra, self.min_value)) if self.is_logarithmic else spectra
        return (values - self.mean[:, None]) / self.std[:, None]

    def __call__(self, cube: Float32Array) -> tuple[Float32Array, Float32Array]:
        """Return a cube ``(band, y, x)`` scaled, and scaled less its own median spectrum: ``(window, y, x)`` each.

        The first tells a cube of one crop from a cube of another; the second is free of a cube's own brightness.
        Both are 0 where the cube is not valid.
        """
        valid = get_valid_mask(cube)
        scaled = self.transform(average_windows(cube).reshape(len(self.mean), -1)).reshape(-1, *valid.shape)
        own = np.median(scaled[:, valid], axis=1)[:, None, None] if valid.any() else np.float32(0)
        absolute, relative = (np.where(valid, each, 0).astype(np.float32) for each in (scaled, scaled - own))
        return absolute, relative

    def to_state(self) -> dict[str, NDArray[Any]]:
        """Return the fitted numbers as arrays."""
        return {
            "scale.mean": self.mean,
            "scale.deviation": self.std,
            "scale.dark": np.array([self.min_value], dtype=np.float64),
            "scale.logarithmic": np.array([self.is_logarithmic]),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> SpectralScaler:
        """Return the scale that :meth:`to_state` described."""
        flags = bool(state["scale.logarithmic"][0]), float(state["scale.dark"][0])
        return cls(*flags, state["scale.mean"], state["scale.deviation"])
