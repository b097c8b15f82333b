"""What the pixel classifier knows of a pixel: its spectrum, its surroundings, and whether it lies on a line."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.segmenters.inputs import SpectralScaler, get_valid_mask
from hseval.segmenters.line_filters import FourierImage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float32Array = NDArray[np.float32]

MAX_DIRECTIONS = 6  # directions in the space of spectra that are looked at in space too
SMOOTHING_SIGMAS = (1.0, 2.0, 4.0, 8.0, 16.0)  # px
RIDGE_SIGMAS = (1.0, 2.0, 4.0)  # px: lines of about 2 to 12 px
RIDGE_CHANNELS = 4  # channels whose lines are looked at
COVARIANCE_SHRINKAGE = 1e-3  # of the mean variance, added to the within-class covariance


@dataclasses.dataclass(frozen=True)
class PixelFeatures:
    """Maps a cube to one row of features a valid pixel.

    Attributes:
        scaler: how spectra become numbers.
        directions: ``(channel, window)``; spectra along them are smoothed and searched for lines.
    """

    scaler: SpectralScaler
    directions: Float32Array

    def __call__(self, cube: Float32Array) -> Float32Array:
        """Return float32 ``(pixel, feature)`` of the valid pixels of ``cube`` (band, y, x), row by row."""
        absolute, relative = self.scaler(cube)
        valid = get_valid_mask(cube)
        channels = np.einsum("cw,wyx->cyx", self.directions, relative)
        canvas = FourierImage(channels, valid, max_sigma=max(SMOOTHING_SIGMAS))
        maps = [absolute, relative, channels]
        maps += [canvas.smooth(sigma) for sigma in SMOOTHING_SIGMAS]
        maps += [canvas.compute_ridges(sigma, RIDGE_CHANNELS) for sigma in RIDGE_SIGMAS]
        return np.concatenate([each[:, valid] for each in maps]).T


def compute_directions(spectra: Float32Array, labels: NDArray[np.bool_]) -> Float32Array:
    """Return up to ``MAX_DIRECTIONS`` directions in which structures differ most, then those of largest variance.

    Linear discriminants (Fisher 1936): of the structures' means, every structure of equal weight, after the
    covariance of the rest is made white.

    Args:
        spectra: ``(window, pixel)``, each cube's median spectrum subtracted.
        labels: bool ``(structure, pixel)``.

    Returns:
        float32 ``(channel, window)``, each of deviation 1 over ``spectra``.
    """
    wide = spectra.astype(np.float64)
    rest = ~labels.any(axis=0)
    classes = [rest, *labels] if rest.any() else list(labels)
    means = np.stack([wide[:, each].mean(axis=1) for each in classes if each.any()])
    within = np.cov(_center_classes(wide, classes))
    within = np.atleast_2d(within) + COVARIANCE_SHRINKAGE * np.trace(np.atleast_2d(within)) / len(wide) * np.eye(
        len(wide)
    )
    values, vectors = np.linalg.eigh(within)
    white = vectors / np.sqrt(values)  # (window, window): columns make the covariance the identity
    spread = (means - means.mean(axis=0)) @ white
    _, strengths, turned = np.linalg.svd(spread, full_matrices=False)
    kept = turned[strengths > 1e-6 * max(strengths.max(), 1e-300)]
    found = np.concatenate([kept @ white.T, vectors.T[::-1]])[: min(MAX_DIRECTIONS, len(wide))]
    deviation = (found @ wide).std(axis=1)
    return np.asarray(found / np.maximum(deviation, 1e-12)[:, None], dtype=np.float32)


def _center_classes(spectra: NDArray[Any], classes: Sequence[NDArray[np.bool_]]) -> NDArray[Any]:
    """Return the spectra less the mean of the class that they are in (the last one, where classes overlap)."""
    left = spectra.copy()
    for each in classes:
        if each.any():
            left[:, each] = spectra[:, each] - spectra[:, each].mean(axis=1, keepdims=True)
    return left
