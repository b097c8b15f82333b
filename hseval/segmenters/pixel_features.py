"""Features of the pixel classifier: a pixel's spectrum, its surroundings, and lines through it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from hseval.data.field_of_view import find_valid_pixels
from hseval.segmenters.inputs import SpectralScaler
from hseval.segmenters.line_filters import FourierImage
from hseval.utils.arrays import Array, BoolArray, Float32Array

MAX_DIRECTIONS = 6  # directions in spectral space whose spatial surroundings are features too
SMOOTHING_SIGMAS = (1.0, 2.0, 4.0, 8.0, 16.0)  # px
RIDGE_SIGMAS = (1.0, 2.0, 4.0)  # px: lines of about 2 to 12 px
RIDGE_CHANNELS = 4  # channels that ridge filters are applied to
COVARIANCE_SHRINKAGE = 1e-3  # of the mean variance, added to the within-class covariance


@dataclasses.dataclass(frozen=True)
class PixelFeatures:
    """Maps a cube to one feature vector a valid pixel.

    Attributes:
        scaler: standardizes spectra.
        directions: ``(channel, window)``; spectra along them are smoothed and searched for lines.
    """

    scaler: SpectralScaler
    directions: Float32Array

    def __call__(self, cube: Float32Array) -> Float32Array:
        """Return float32 ``(pixel, feature)`` of the valid pixels of ``cube`` (band, y, x), row by row."""
        absolute, relative = self.scaler(cube)
        valid = find_valid_pixels(cube)
        channels = np.einsum("cw,wyx->cyx", self.directions, relative)
        canvas = FourierImage(channels, valid, max_sigma=max(SMOOTHING_SIGMAS))
        maps = [absolute, relative, channels]
        maps += [canvas.smooth(sigma) for sigma in SMOOTHING_SIGMAS]
        maps += [canvas.compute_ridges(sigma, RIDGE_CHANNELS) for sigma in RIDGE_SIGMAS]
        return np.concatenate([channel_map[:, valid] for channel_map in maps]).T


def compute_directions(spectra: Float32Array, labels: BoolArray) -> Float32Array:
    """Return up to ``MAX_DIRECTIONS`` directions in which structures differ most, then those of largest variance.

    Linear discriminants (Fisher 1936): principal axes of the structures' means, every structure with equal weight,
    after whitening by the within-class covariance.

    Args:
        spectra: ``(window, pixel)``, each cube's median spectrum subtracted.
        labels: bool ``(structure, pixel)``.

    Returns:
        float32 ``(channel, window)``; projections of ``spectra`` have standard deviation 1.
    """
    spectra64 = spectra.astype(np.float64)
    background = ~labels.any(axis=0)
    classes = [background, *labels] if background.any() else list(labels)
    means = np.stack([spectra64[:, members].mean(axis=1) for members in classes if members.any()])
    within = np.atleast_2d(np.cov(_center_classes(spectra64, classes)))
    windows = len(within)
    within = within + COVARIANCE_SHRINKAGE * np.trace(within) / windows * np.eye(windows)
    values, vectors = np.linalg.eigh(within)
    whitening = vectors / np.sqrt(values)  # (window, window): columns make the covariance the identity
    centered_means = (means - means.mean(axis=0)) @ whitening
    _, strengths, axes = np.linalg.svd(centered_means, full_matrices=False)
    discriminants = axes[strengths > 1e-6 * max(strengths.max(), 1e-300)]
    directions = np.concatenate([discriminants @ whitening.T, vectors.T[::-1]])[: min(MAX_DIRECTIONS, windows)]
    std = (directions @ spectra64).std(axis=1)
    return np.asarray(directions / np.maximum(std, 1e-12)[:, None], dtype=np.float32)


def _center_classes(spectra: Array, classes: Sequence[BoolArray]) -> Array:
    """Return the spectra minus the mean of their class (the last one, where classes overlap)."""
    centered = spectra.copy()
    for members in classes:
        if members.any():
            centered[:, members] = spectra[:, members] - spectra[:, members].mean(axis=1, keepdims=True)
    return centered
