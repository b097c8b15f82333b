"""A small U-Net as a segmenter: trained on crops of the reference's cubes in a minute or two on a CPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hseval.core.cubes import CubeSet
from hseval.core.options import option
from hseval.segmenters.dice import ProbabilityHistogram
from hseval.segmenters.inputs import SpectralScaler, average_windows, get_labels, get_valid_mask, select_structures
from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.segmenters.network import TrainingExample

    Float32Array = NDArray[np.float32]
    Bools = NDArray[np.bool_]

SPECTRA_PER_CUBE = 2000  # pixels of a cube from which the scale is found
THRESHOLD_CUBES = 12  # cubes on which thresholds are chosen


class UNetSegmenter:
    """Finds each structure by an output of its own, so structures may overlap."""

    name: ClassVar[str] = "unet"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "a small U-Net on spectra and their surroundings"
    device: str = "cpu"

    @dataclasses.dataclass(frozen=True)
    class Options:
        """What can be set."""

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
        """Learn from cubes with masks; every structure but ``fov``."""
        from hseval.segmenters import network

        self.structures = select_structures(data.structures)
        self.scaler = _fit_scaler(data)
        examples = [self._make_example(cube.data, get_labels(cube, self.structures)) for cube in data]
        self._network = network.build_seeded_network(2 * len(self.scaler.mean) + 1, len(self.structures)).to(
            self.device
        )
        network.train(
            self._network, network.CropSampler.from_examples(examples), steps=self.options.steps, device=self.device
        )
        self.weights = network.get_weights(self._network)
        tally = ProbabilityHistogram(len(self.structures))
        for i in np.unique(np.linspace(0, len(examples) - 1, THRESHOLD_CUBES).astype(int)):
            cube, valid = data[int(i)].data, examples[i].valid
            tally.add_cube(self._predict_probabilities(cube)[:, valid], examples[i].labels[:, valid])
        self.thresholds = tally.find_best_thresholds()

    def segment(self, cubes: NDArray[Any], *, wavelengths: NDArray[Any]) -> Mapping[str, Bools]:
        """Return bool ``(n, y, x)`` by structure; False where a cube is not valid."""
        if not self.structures:
            raise HsevalError("segmenter 'unet' has not been fitted: call fit with cubes that have masks")
        found = [
            (self._predict_probabilities(cube) >= self.thresholds[:, None, None]) & get_valid_mask(cube)
            for cube in cubes
        ]
        return {name: np.stack([each[place] for each in found]) for place, name in enumerate(self.structures)}

    def state(self) -> dict[str, NDArray[Any]]:
        """Return all that :meth:`fit` found, as arrays."""
        weights = {f"weights.{name}": array for name, array in self.weights.items()}
        return {**weights, **self.scaler.to_state(), "thresholds": self.thresholds}

    def restore(self, state: Mapping[str, NDArray[Any]], structures: tuple[str, ...]) -> None:
        """Become as fitted: take up what :meth:`state` returned."""
        self.structures, self._network = structures, None
        self.scaler, self.thresholds = SpectralScaler.from_state(state), state["thresholds"]
        self.weights = {name[len("weights.") :]: each for name, each in state.items() if name.startswith("weights.")}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_network": None}  # a worker process builds its own

    def _make_example(self, cube: Float32Array, labels: Bools) -> TrainingExample:
        from hseval.segmenters.network import TrainingExample

        absolute, relative = self.scaler(cube)
        valid = get_valid_mask(cube)
        return TrainingExample(
            relative.astype(np.float16), _compute_median_spectrum(absolute, relative, valid), valid, labels
        )

    def _predict_probabilities(self, cube: Float32Array) -> Float32Array:
        """Return float32 ``(structure, y, x)``."""
        from hseval.segmenters import network

        if self._network is None:
            self._network = network.restore_network(self.weights, self.device)
        absolute, relative = self.scaler(cube)
        valid = get_valid_mask(cube)
        images = network.stack_channels(relative, _compute_median_spectrum(absolute, relative, valid), valid)
        return network.predict_probabilities(self._network, images, self.device)


def _compute_median_spectrum(absolute: Float32Array, relative: Float32Array, valid: Bools) -> Float32Array:
    """Return ``(window,)``: a cube's own median spectrum, scaled (what the two differ by wherever it is valid)."""
    if not valid.any():
        return np.zeros(len(absolute), dtype=np.float32)
    found: Float32Array = np.median((absolute - relative)[:, valid], axis=1)
    return found


def _fit_scaler(data: CubeSet) -> SpectralScaler:
    """Return the scale of some pixels of every cube, spread evenly."""
    parts = []
    for cube in data:
        inside = average_windows(cube.data)[:, get_valid_mask(cube.data)]
        parts.append(inside[:, :: max(inside.shape[1] // SPECTRA_PER_CUBE, 1)])
    return SpectralScaler.fit(np.concatenate(parts, axis=1))
