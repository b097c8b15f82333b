"""A small U-Net as a segmenter: trained on crops of the reference's cubes in a minute or two on a CPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hseval.core.cubes import CubeSet
from hseval.core.options import option
from hseval.segmenters.dice import Tally
from hseval.segmenters.inputs import Scale, labels_of, structures_of, valid_of, windowed
from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.segmenters.network import Example

    Floats = NDArray[np.float32]
    Bools = NDArray[np.bool_]

SPECTRA = 2000  # pixels of a cube from which the scale is found
TOLD = 12  # cubes on which thresholds are chosen


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

        self.structures = structures_of(data.structures)
        self.scale = _scale(data)
        examples = [self._example(cube.data, labels_of(cube, self.structures)) for cube in data]
        self._network = network.seeded(2 * len(self.scale.mean) + 1, len(self.structures)).to(self.device)
        network.train(self._network, network.Crops.of(examples), steps=self.options.steps, device=self.device)
        self.weights = network.weights_of(self._network)
        tally = Tally(len(self.structures))
        for i in np.unique(np.linspace(0, len(examples) - 1, TOLD).astype(int)):
            cube, valid = data[int(i)].data, examples[i].valid
            tally.add(self._probabilities(cube)[:, valid], examples[i].labels[:, valid])
        self.thresholds = tally.thresholds()

    def segment(self, cubes: NDArray[Any], *, wavelengths: NDArray[Any]) -> Mapping[str, Bools]:
        """Return bool ``(n, y, x)`` by structure; False where a cube is not valid."""
        if not self.structures:
            raise HsevalError("segmenter 'unet' has not been fitted: call fit with cubes that have masks")
        found = [(self._probabilities(cube) >= self.thresholds[:, None, None]) & valid_of(cube) for cube in cubes]
        return {name: np.stack([each[place] for each in found]) for place, name in enumerate(self.structures)}

    def state(self) -> dict[str, NDArray[Any]]:
        """Return all that :meth:`fit` found, as arrays."""
        weights = {f"weights.{name}": array for name, array in self.weights.items()}
        return {**weights, **self.scale.state(), "thresholds": self.thresholds}

    def restore(self, state: Mapping[str, NDArray[Any]], structures: tuple[str, ...]) -> None:
        """Become as fitted: take up what :meth:`state` returned."""
        self.structures, self._network = structures, None
        self.scale, self.thresholds = Scale.restored(state), state["thresholds"]
        self.weights = {name[len("weights.") :]: each for name, each in state.items() if name.startswith("weights.")}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_network": None}  # a worker process builds its own

    def _example(self, cube: Floats, labels: Bools) -> Example:
        from hseval.segmenters.network import Example

        absolute, relative = self.scale(cube)
        valid = valid_of(cube)
        return Example(relative.astype(np.float16), _level(absolute, relative, valid), valid, labels)

    def _probabilities(self, cube: Floats) -> Floats:
        """Return float32 ``(structure, y, x)``."""
        from hseval.segmenters import network

        if self._network is None:
            self._network = network.restored(self.weights, self.device)
        absolute, relative = self.scale(cube)
        valid = valid_of(cube)
        images = network.stacked(relative, _level(absolute, relative, valid), valid)
        return network.probabilities(self._network, images, self.device)


def _level(absolute: Floats, relative: Floats, valid: Bools) -> Floats:
    """Return ``(window,)``: a cube's own median spectrum, scaled (what the two differ by wherever it is valid)."""
    if not valid.any():
        return np.zeros(len(absolute), dtype=np.float32)
    found: Floats = np.median((absolute - relative)[:, valid], axis=1)
    return found


def _scale(data: CubeSet) -> Scale:
    """Return the scale of some pixels of every cube, spread evenly."""
    parts = []
    for cube in data:
        inside = windowed(cube.data)[:, valid_of(cube.data)]
        parts.append(inside[:, :: max(inside.shape[1] // SPECTRA, 1)])
    return Scale.of(np.concatenate(parts, axis=1))
