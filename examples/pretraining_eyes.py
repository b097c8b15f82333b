"""The data of ``pretraining.py``: healthy eyes of the phantom, eyes short of oxygen, and samples of generators."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval import CubeSet, HsevalError, Sample, open_set
from hseval.core.cubes import FOV, ArraySet
from hseval.core.plugin_manager import get_plugins
from hseval.data.writer import SetWriter
from hseval.generators.phantom import Phantom
from hseval.generators.phantom.plugin import PhantomOptions

LOW_OXYGEN = -0.2  # shift of the veins' oxygen saturation, whose healthy mean is 0.62: as after an occlusion
CLASSES = ("background", "artery", "vein", "onh")
OUTSIDE = -1

Array = NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Eyes:
    """Eyes in memory.

    Attributes:
        cubes: float32 ``(n, band, y, x)``.
        field: bool ``(n, y, x)``.
        classes: int8 ``(n, y, x)``, indices into ``CLASSES``, or ``OUTSIDE`` the field.
        ids: one per eye.
        nm: ``(band,)``.
    """

    cubes: Array
    field: Array
    classes: Array
    ids: Sequence[str]
    nm: Array

    @classmethod
    def of(cls, data: CubeSet) -> Eyes:
        """Read a set."""
        cubes = list(data)
        field = np.stack([cube.masks[FOV] for cube in cubes])
        classes = np.where(field, 0, OUTSIDE).astype(np.int8)
        for number, name in enumerate(CLASSES[1:], start=1):
            classes[np.stack([cube.masks[name] for cube in cubes]) & field] = number
        return cls(np.stack([cube.data for cube in cubes]), field, classes, data.ids, data.wavelengths)

    def __len__(self) -> int:
        return len(self.cubes)

    def at(self, indices: Sequence[int] | Array) -> Eyes:
        """Return the eyes at some indices."""
        indices = np.asarray(indices, dtype=int)
        ids = tuple(self.ids[index] for index in indices)
        return Eyes(self.cubes[indices], self.field[indices], self.classes[indices], ids, self.nm)

    def as_set(self) -> ArraySet:
        """Return the cubes and their fields, the only inputs of pretraining."""
        return ArraySet(self.cubes, wavelengths=self.nm, masks={FOV: self.field}, ids=self.ids)


def mix(parts: Sequence[Eyes]) -> Eyes:
    """Return eyes of several kinds in equal shares: smaller sets are repeated, as by a balanced sampler."""
    longest = max(map(len, parts))
    repeated = [part.at(np.arange(longest) % len(part)) for part in parts]
    cubes, field, classes = (
        np.concatenate([getattr(part, name) for part in repeated]) for name in ("cubes", "field", "classes")
    )
    ids = tuple(f"{name}/{number}" for number, name in enumerate(name for part in repeated for name in part.ids))
    return Eyes(cubes, field, classes, ids, parts[0].nm)


def draw_eyes(folder: Path, count: int, *, seed: int, size: int, shift: float = 0.0) -> CubeSet:
    """Return phantom eyes, drawn if the file does not exist.

    Args:
        folder: of the file.
        count: number of eyes.
        seed: of the phantom.
        size: side of the images, px.
        shift: of the veins' oxygen saturation.
    """
    path = folder / f"eyes-{seed}-{count}-{size}px{shift:+g}.h5"
    phantom = Phantom(PhantomOptions(size=size, vein_saturation_shift=shift))
    if not path.exists():
        _write(path, phantom.sample(count, seed=seed), nm=phantom.wavelengths)
    return open_set(path)


def draw_samples(folder: Path, name: str, run: Path, count: int, *, seed: int) -> CubeSet:
    """Return samples of a fitted generator, drawn if the file does not exist."""
    path = folder / f"{name}-{seed}-{count}.h5"
    if not path.exists():
        generator = get_plugins().build("generator", name, {})
        generator.load(run)
        _write(path, generator.sample(count, seed=seed), nm=generator.wavelengths)
    return open_set(path)


def fit_pca(folder: Path, data: CubeSet) -> Path:
    """Fit the baseline generator on ``data``; return its run."""
    run = folder / "pca"
    run.mkdir(exist_ok=True)
    get_plugins().build("generator", "pca", {}).fit(data, run)
    return run


def find_training_eyes(run: Path, eyes: CubeSet) -> list[int]:
    """Return the indices of the eyes that a run of ``ldm`` was trained on: all except its held-out ones.

    Raises:
        HsevalError: the run was trained on other eyes.
    """
    from hseval_ldm.training.run_config import hash_ids, read_config

    config = read_config(run)
    if config.data_hash != hash_ids(eyes):
        reason = f"was trained on other eyes ({config.location}) than the {len(eyes)} with which this example pretrains"
        command = f"hseval sample phantom -n {len(eyes)} --seed 1 --set size={eyes.shape(0)[1]}"
        raise HsevalError(f"{run}: {reason}; train ldm on those of: {command}")
    return [index for index, name in enumerate(eyes.ids) if name not in config.held_out]


def _write(path: Path, samples: Iterable[Sample], *, nm: Array) -> None:
    with SetWriter(path, wavelengths=nm, units="reflectance") as out:
        for sample in samples:
            out.add(sample.cube, sample.masks, sample.id)
