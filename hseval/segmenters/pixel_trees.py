"""The pixel classifier: boosted trees on spectra, their surroundings and lines at several scales."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from hseval.core.cubes import CubeSet
from hseval.core.options import option
from hseval.data.field_of_view import find_valid_pixels
from hseval.segmenters.dice import ProbabilityHistogram
from hseval.segmenters.inputs import SpectralScaler, average_windows, get_labels, select_structures
from hseval.segmenters.pixel_features import PixelFeatures, compute_directions
from hseval.segmenters.pixel_sampling import draw_pixels
from hseval.utils.arrays import Array, BoolArray, Float32Array
from hseval.utils.errors import HsevalError
from hseval.utils.random_streams import create_rng

SPECTRA_PER_STRATUM = 400  # pixels a stratum and cube from which scale and directions are found
MAX_BINS = 127  # of a feature, between which trees split
THRESHOLD_CUBES = 12  # cubes on which thresholds are chosen


class PixelTreeSegmenter:
    """Classifies every pixel independently, with one model a structure, so that structures may overlap."""

    name: ClassVar[str] = "pixels"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "boosted trees on each pixel's spectrum, surroundings and lines through it"

    @dataclasses.dataclass(frozen=True)
    class Options:
        """Options of the segmenter."""

        trees: int = option(50, "rounds of boosting")
        pixels: int = option(100_000, "pixels to learn from, at most, drawn by structure")

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()
        if not 1 <= self.options.trees <= 10_000:
            raise ValueError(f"trees is {self.options.trees}, expected 1 to 10000")
        if self.options.pixels < 100:
            raise ValueError(f"pixels is {self.options.pixels}, expected at least 100")
        self.structures: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """Return the library that grows the trees."""
        import sklearn

        return f"scikit-learn {sklearn.__version__}"

    def fit(self, data: CubeSet) -> None:
        """Fit to cubes with masks, for every structure except ``fov``."""
        with _limit_threads():
            self._fit(data)

    def _fit(self, data: CubeSet) -> None:
        self.structures = select_structures(data.structures)
        self.features = _fit_features(data, self.structures)
        features, labels, weights = self._draw_training_pixels(data)
        features = bin_features(features, MAX_BINS)
        self.models = [
            _fit_trees(features, structure_labels, weights, rounds=self.options.trees) for structure_labels in labels
        ]
        self.thresholds = self._find_thresholds(data)

    def segment(self, cubes: Array, *, wavelengths: Array) -> Mapping[str, BoolArray]:
        """Return bool ``(n, y, x)`` by structure; False where a cube is not valid."""
        if not self.structures:
            raise HsevalError("segmenter 'pixels' has not been fitted: call fit with cubes that have masks")
        masks = np.zeros((len(self.structures), len(cubes), *cubes.shape[2:]), dtype=bool)
        with _limit_threads():
            for i, cube in enumerate(cubes):
                masks[:, i, find_valid_pixels(cube)] = self._predict_probabilities(cube) >= self.thresholds[:, None]
        return dict(zip(self.structures, masks, strict=True))

    def _draw_training_pixels(self, data: CubeSet) -> tuple[Float32Array, BoolArray, Float32Array]:
        """Return features ``(pixel, feature)``, labels ``(structure, pixel)`` and weights of the sampled pixels."""
        strata = 3 + len(self.structures)
        quota = max(self.options.pixels // (strata * len(data)), 4)
        features, labels, weights = [], [], []
        for i, cube in enumerate(data):
            masks, valid = get_labels(cube, self.structures), find_valid_pixels(cube.data)
            indices, pixel_weights = draw_pixels(masks, valid, quota, create_rng(0, "pixels", i))
            features.append(self.features(cube.data)[indices])
            labels.append(masks[:, valid][:, indices])
            weights.append(pixel_weights)
        return np.concatenate(features), np.concatenate(labels, axis=1), np.concatenate(weights)

    def _find_thresholds(self, data: CubeSet) -> Float32Array:
        """Return ``(structure,)`` thresholds that maximize Dice on some whole cubes, evenly spaced in the set."""
        histogram = ProbabilityHistogram(len(self.structures))
        for i in np.unique(np.linspace(0, len(data) - 1, THRESHOLD_CUBES).astype(int)):
            cube = data[int(i)]
            labels = get_labels(cube, self.structures)[:, find_valid_pixels(cube.data)]
            histogram.add_cube(self._predict_probabilities(cube.data), labels)
        return histogram.find_best_thresholds()

    def _predict_probabilities(self, cube: Float32Array) -> Float32Array:
        """Return float32 ``(structure, pixel)`` of a cube's valid pixels; 0 for structures without training pixels."""
        features = self.features(cube)
        if not len(features):
            return np.zeros((len(self.models), 0), dtype=np.float32)
        zeros = np.zeros(len(features), dtype=np.float32)
        probabilities = [zeros if model is None else model.predict_proba(features)[:, 1] for model in self.models]
        return np.stack(probabilities).astype(np.float32)


@functools.cache
def _get_thread_controller() -> Any:
    import sklearn.ensemble  # noqa: F401 - its thread pools exist once it is imported
    import threadpoolctl
    import torch  # noqa: F401

    return threadpoolctl.ThreadpoolController()


def _limit_threads() -> contextlib.AbstractContextManager[Any]:
    """Limit scikit-learn and torch to one thread.

    Sums then run in one order, and no threads wait for each other on a busy machine, which takes ten times as long.
    """
    limits: contextlib.AbstractContextManager[Any] = _get_thread_controller().limit(limits=1)
    return limits


def _fit_features(data: CubeSet, structures: Sequence[str]) -> PixelFeatures:
    """Fit the scaler and the directions to some pixels of every cube."""
    spectra, medians, labels = [], [], []
    for i, cube in enumerate(data):
        valid = find_valid_pixels(cube.data)
        masks = get_labels(cube, structures)
        inside = average_windows(cube.data)[:, valid]
        indices, _ = draw_pixels(masks, valid, SPECTRA_PER_STRATUM, create_rng(0, "pixels spectra", i))
        spectra.append(inside[:, indices])
        medians.append(np.repeat(np.median(inside, axis=1, keepdims=True), len(indices), axis=1))
        labels.append(masks[:, valid][:, indices])
    scaler = SpectralScaler.fit(np.concatenate(spectra, axis=1))
    relative = scaler.transform(np.concatenate(spectra, axis=1)) - scaler.transform(np.concatenate(medians, axis=1))
    return PixelFeatures(scaler, compute_directions(relative, np.concatenate(labels, axis=1)))


def _fit_trees(features: Float32Array, labels: BoolArray, weights: Float32Array, *, rounds: int) -> Any:
    """Return boosted trees for one structure against everything else; None where no pixel, or every pixel, is in it."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    if labels.all() or not labels.any():
        return None
    model = HistGradientBoostingClassifier(
        max_iter=rounds, learning_rate=0.2, min_samples_leaf=20, l2_regularization=1.0, max_bins=MAX_BINS,
        early_stopping=False, random_state=0,
    )  # fmt: skip
    return model.fit(features, labels, sample_weight=weights)


def bin_features(features: Array, levels: int) -> Array:
    """Return features ``(pixel, feature)`` rounded to the nearest of at most ``levels`` quantiles of each feature.

    scikit-learn's histogram trees split midway between values if a feature has no more of them than there are bins, so
    that trees grown on the result classify the original features in the same way. Its own binning by weighted
    quantiles sorts once a bin, a feature and a model, which takes ten times as long as growing the trees.
    """
    columns = np.asarray(features).T
    return np.stack([_bin_column(np.ascontiguousarray(column), levels) for column in columns], axis=1)


def _bin_column(column: Array, levels: int) -> Array:
    indices = np.linspace(0, len(column) - 1, levels).round().astype(np.int64)
    quantiles = np.unique(np.sort(column)[indices])
    middles = (quantiles[1:].astype(np.float64) + quantiles[:-1]) / 2
    return np.asarray(quantiles[np.searchsorted(middles, column, side="left")])
