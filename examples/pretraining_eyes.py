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
        classes: int8 ``(n, y, x)``, places in ``CLASSES``, or ``OUTSIDE`` the field.
        ids: one an eye.
        nm: ``(band,)``.
    """

    cubes: Array
    field: Array
    classes: Array
    ids: tuple[str, ...]
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

    def at(self, places: Sequence[int] | Array) -> Eyes:
        """Return some of them."""
        chosen = np.asarray(places, dtype=int)
        ids = tuple(self.ids[place] for place in chosen)
        return Eyes(self.cubes[chosen], self.field[chosen], self.classes[chosen], ids, self.nm)

    def as_set(self) -> ArraySet:
        """Return the cubes and their fields, which is all that pretraining sees."""
        return ArraySet(self.cubes, wavelengths=self.nm, masks={FOV: self.field}, ids=self.ids)


def mixed(parts: Sequence[Eyes]) -> Eyes:
    """Return eyes of several kinds in equal shares: the fewer are repeated, as a balanced sampler does."""
    longest = max(map(len, parts))
    repeated = [part.at(np.arange(longest) % len(part)) for part in parts]
    cubes, field, classes = (
        np.concatenate([getattr(part, name) for part in repeated]) for name in ("cubes", "field", "classes")
    )
    ids = tuple(f"{name}/{number}" for number, name in enumerate(name for part in repeated for name in part.ids))
    return Eyes(cubes, field, classes, ids, parts[0].nm)


def draw_eyes(folder: Path, count: int, *, seed: int, size: int, shift: float = 0.0) -> CubeSet:
    """Return phantom eyes; drawn once.

    Args:
        folder: where they are kept.
        count: how many.
        seed: of the phantom.
        size: of the pictures, px.
        shift: of the veins' oxygen saturation.
    """
    path = folder / f"eyes-{seed}-{count}-{size}px{shift:+g}.h5"
    phantom = Phantom(PhantomOptions(size=size, vein_saturation_shift=shift))
    if not path.exists():
        _write(path, phantom.sample(count, seed=seed), nm=phantom.wavelengths)
    return open_set(path)


def draw_samples(folder: Path, name: str, run: Path, count: int, *, seed: int) -> CubeSet:
    """Return samples of a fitted generator; drawn once."""
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


def known_to(run: Path, eyes: CubeSet) -> list[int]:
    """Return which of the eyes a run of ``ldm`` was trained on: all but those that it held out.

    Raises:
        HsevalError: it was trained on other eyes.
    """
    from hseval_ldm.training.run_config import hash_ids, read_config

    config = read_config(run)
    if config.data != hash_ids(eyes):
        told = f"was trained on other eyes ({config.location}) than the {len(eyes)} with which this example pretrains"
        made = f"hseval sample phantom -n {len(eyes)} --seed 1 --set size={eyes.shape(0)[1]}"
        raise HsevalError(f"{run}: {told}; train ldm on those of: {made}")
    return [place for place, name in enumerate(eyes.ids) if name not in config.held_out]


def _write(path: Path, drawn: Iterable[Sample], *, nm: Array) -> None:
    with SetWriter(path, wavelengths=nm, units="reflectance") as out:
        for sample in drawn:
            out.add(sample.cube, sample.masks, sample.id)
