"""A small U-Net as a segmenter: trained on crops of the reference's cubes in a minute or two on a CPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hseval.core.cubes import CubeSet
from hseval.core.options import option
from hseval.data.field_of_view import find_valid_pixels
from hseval.segmenters.dice import ProbabilityHistogram
from hseval.segmenters.inputs import SpectralScaler, average_windows, get_labels, select_structures
from hseval.utils.arrays import Array, BoolArray, Float32Array
from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    from hseval.segmenters.network import TrainingExample

SPECTRA_PER_CUBE = 2000  # pixels of a cube from which the scale is found
THRESHOLD_CUBES = 12  # cubes on which thresholds are chosen


class UNetSegmenter:
    """Finds structures with one output each, so that they may overlap."""

    name: ClassVar[str] = "unet"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "a small U-Net on spectra and their surroundings"
    device: str = "cpu"

    @dataclasses.dataclass(frozen=True)
    class Options:
        """Options of the segmenter."""

        steps: int = option(200, "training steps")

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()
        if not 1 <= self.options.steps <= 1_000_000:
            raise ValueError(f"steps is {self.options.steps}, expected 1 to 1000000")
        self.structures: tuple[str, ...] = ()
        self._network: Any = None

    def fingerprint(self) -> str:
        """Return the library and the kind of device that train it: both decide the last digits of the weights."""
        import torch

        return f"torch {torch.__version__} on {torch.device(self.device).type}"

    def fit(self, data: CubeSet) -> None:
        """Fit to cubes with masks, for every structure except ``fov``."""
        from hseval.segmenters import network

        self.structures = select_structures(data.structures)
        self.scaler = _fit_scaler(data)
        examples = [self._make_example(cube.data, get_labels(cube, self.structures)) for cube in data]
        channels, crops = 2 * len(self.scaler.mean) + 1, network.CropSampler.from_examples(examples)
        self._network = network.build_seeded_network(channels, len(self.structures)).to(self.device)
        network.train(self._network, crops, steps=self.options.steps, device=self.device)
        self.weights = network.get_weights(self._network)
        histogram = ProbabilityHistogram(len(self.structures))
        for i in np.unique(np.linspace(0, len(examples) - 1, THRESHOLD_CUBES).astype(int)):
            cube, valid = data[int(i)].data, examples[i].valid
            histogram.add_cube(self._predict_probabilities(cube)[:, valid], examples[i].labels[:, valid])
        self.thresholds = histogram.find_best_thresholds()

    def segment(self, cubes: Array, *, wavelengths: Array) -> Mapping[str, BoolArray]:
        """Return bool ``(n, y, x)`` by structure; False where a cube is not valid."""
        if not self.structures:
            raise HsevalError("segmenter 'unet' has not been fitted: call fit with cubes that have masks")
        masks = np.zeros((len(self.structures), len(cubes), *cubes.shape[2:]), dtype=bool)
        for i, cube in enumerate(cubes):
            is_inside = self._predict_probabilities(cube) >= self.thresholds[:, None, None]
            masks[:, i] = is_inside & find_valid_pixels(cube)
        return dict(zip(self.structures, masks, strict=True))

    def state(self) -> dict[str, Array]:
        """Return the fitted state as arrays."""
        weights = {f"weights.{name}": array for name, array in self.weights.items()}
        return {**weights, **self.scaler.to_state(), "thresholds": self.thresholds}

    def restore(self, state: Mapping[str, Array], structures: tuple[str, ...]) -> None:
        """Restore the fitted state that :meth:`state` returned."""
        self.structures, self._network = structures, None
        self.scaler, self.thresholds = SpectralScaler.from_state(state), state["thresholds"]
        self.weights = {name[len("weights.") :]: array for name, array in state.items() if name.startswith("weights.")}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_network": None}  # a worker process builds its own

    def _make_example(self, cube: Float32Array, labels: BoolArray) -> TrainingExample:
        from hseval.segmenters.network import TrainingExample

        absolute, relative = self.scaler(cube)
        valid = find_valid_pixels(cube)
        return TrainingExample(
            relative.astype(np.float16), _compute_median_spectrum(absolute, relative, valid), valid, labels
        )

    def _predict_probabilities(self, cube: Float32Array) -> Float32Array:
        """Return float32 ``(structure, y, x)``."""
        from hseval.segmenters import network

        if self._network is None:
            self._network = network.restore_network(self.weights, self.device)
        absolute, relative = self.scaler(cube)
        valid = find_valid_pixels(cube)
        images = network.stack_channels(relative, _compute_median_spectrum(absolute, relative, valid), valid)
        return network.predict_probabilities(self._network, images, self.device)


def _compute_median_spectrum(absolute: Float32Array, relative: Float32Array, valid: BoolArray) -> Float32Array:
    """Return ``(window,)``: a cube's scaled median spectrum, by which the two differ in every valid pixel."""
    if not valid.any():
        return np.zeros(len(absolute), dtype=np.float32)
    return np.asarray(np.median((absolute - relative)[:, valid], axis=1))


def _fit_scaler(data: CubeSet) -> SpectralScaler:
    """Fit the scaler to evenly spaced pixels of every cube."""
    spectra = []
    for cube in data:
        inside = average_windows(cube.data)[:, find_valid_pixels(cube.data)]
        spectra.append(inside[:, :: max(inside.shape[1] // SPECTRA_PER_CUBE, 1)])
    return SpectralScaler.fit(np.concatenate(spectra, axis=1))
