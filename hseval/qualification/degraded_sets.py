"""Sets seen through a degradation, lazily: spoiled on reading, put in other places, joined."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.cubes import Cube, CubeSet
from hseval.data.content_hash import compute_content_hash
from hseval.utils.errors import HsevalError
from hseval.utils.random_streams import create_rng

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.cubes import CubeSet
    from hseval.core.feature_table import FeatureTable
    from hseval.pipeline.extract import ExtractedSet

    Indices = NDArray[np.int64]
    from hseval.degradations.base import Degradation


@dataclasses.dataclass(frozen=True)
class AlignedSet:
    """A set and its description; row i describes cube i, so that sides can be held against each other row by row."""

    cubes: CubeSet
    description: ExtractedSet

    @property
    def features(self) -> FeatureTable:
        """The rows."""
        return self.description.features

    def __len__(self) -> int:
        return len(self.description.features)

    def select(self, indices: Indices) -> AlignedSet:
        """Return some of the cubes."""
        return AlignedSet(ReindexedSet(self.cubes, indices.tolist()), _select_description(self.description, indices))

    def select_as(self, indices: Indices, template: AlignedSet) -> AlignedSet:
        """Return the cubes at ``indices`` (some of them several times) under the ids and in the groups of ``template``."""
        taken = _select_description(self.description, indices)
        rows = dataclasses.replace(taken.features, ids=template.features.ids, groups=template.features.groups)
        return AlignedSet(
            ReindexedSet(self.cubes, indices.tolist(), template.cubes), dataclasses.replace(taken, features=rows)
        )

    def concatenate(self, other: AlignedSet) -> AlignedSet:
        """Return both, the other one's cubes last."""
        cubes = ConcatenatedSet(self.cubes, other.cubes)
        one, two = self.description, other.description
        rows = dataclasses.replace(
            one.features,
            columns={
                name: np.concatenate([column, two.features[name]]) for name, column in one.features.columns.items()
            },
            ids=np.array(cubes.ids),
            hashes=np.concatenate([one.features.hashes, two.features.hashes]),
            groups=np.concatenate([one.features.groups, two.features.groups]),
        )
        index = np.arange(len(rows), dtype=np.int64)
        contents, masks = one.content_hashes + two.content_hashes, one.mask_hashes + two.mask_hashes
        return AlignedSet(
            cubes, dataclasses.replace(one, features=rows, index=index, content_hashes=contents, mask_hashes=masks)
        )


def align_to_cubes(cubes: CubeSet, description: ExtractedSet, *, label: str) -> AlignedSet:
    """Return a side whose rows are in the order of its cubes (``describe`` orders them by content).

    Raises:
        HsevalError: a cube has lost all its valid pixels, so there is no row for its place.
    """
    if description.invalid_ids:
        raise HsevalError(
            f"{label}: cube {description.invalid_ids[0]} has no valid pixel left; a degradation keeps the field"
        )
    return AlignedSet(cubes, _select_description(description, np.argsort(description.index)))


def _select_description(description: ExtractedSet, indices: Indices) -> ExtractedSet:
    return dataclasses.replace(
        description,
        features=description.features.select(indices),
        index=np.arange(len(indices), dtype=np.int64),
        content_hashes=tuple(description.content_hashes[i] for i in indices),
        mask_hashes=tuple(description.mask_hashes[i] for i in indices),
    )


MAX_CACHED_BYTES = (
    2**28
)  # cubes of a set no larger than this stay in memory: every severity and every metric of pairs reads them


class CachedSet(CubeSet):
    """Another set, its cubes kept in memory once they are read, unless they are large. Workers start with none."""

    def __init__(self, base: CubeSet) -> None:
        self.base, self.info = base, base.info
        self.is_cached = sum(4 * int(np.prod(base.shape(i))) for i in range(len(base))) <= MAX_CACHED_BYTES
        self._cached_cubes: dict[int, Cube] = {}

    def read(self, index: int) -> Cube:
        cube = self._cached_cubes[index] if index in self._cached_cubes else self.base.read(index)
        if self.is_cached:
            self._cached_cubes[index] = cube
        return cube

    def shape(self, index: int) -> tuple[int, int, int]:
        return self.base.shape(index)

    def sources(self, index: int) -> tuple[Path, ...]:
        return self.base.sources(index)

    def recipe(self, index: int) -> str:
        return self.base.recipe(index)

    def read_masks(self, index: int) -> Mapping[str, NDArray[np.bool_]]:
        return self._cached_cubes[index].masks if index in self._cached_cubes else self.base.read_masks(index)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}


class DegradedSet(CubeSet):
    """Another set, every cube spoiled as it is read (or, for ``copies``, turned into a near-copy of itself).

    The stream of a cube depends on the seed, the degradation and the cube's content, and so neither on its place nor on
    the severity; for a fault that all cubes share, on the seed and the degradation alone.

    Args:
        base: the cubes.
        degradation: of kind ``spectral``, ``spatial`` or ``copies``.
        severity: in its unit; of no account for ``copies``.
        seed: of the draws.
    """

    def __init__(self, base: CubeSet, degradation: Degradation, severity: float, seed: int) -> None:
        self.base, self.degradation, self.severity, self.seed = base, degradation, severity, seed
        self.info = base.info

    def read(self, index: int) -> Cube:
        cube = self.base.read(index)
        name = f"degradation {self.degradation.name}"
        shared = bool(getattr(self.degradation, "is_set_wide", False))
        rng = create_rng(self.seed, name if shared else f"{name} {compute_content_hash(cube.data)}")
        made: Any = self.degradation
        spoiled: Cube = (
            made.copy(cube, wavelengths=self.wavelengths, rng=rng)
            if made.kind == "copies"
            else made.degrade(cube, self.severity, wavelengths=self.wavelengths, rng=rng)
        )
        return spoiled

    def shape(self, index: int) -> tuple[int, int, int]:
        return self.base.shape(index)

    def sources(self, index: int) -> tuple[Path, ...]:
        return self.base.sources(index)

    def recipe(self, index: int) -> str:
        made = (self.degradation.name, hash_package_sources(type(self.degradation)), self.severity, self.seed)
        return f"{self.base.recipe(index)} | spoiled by {made}"


class ReindexedSet(CubeSet):
    """Cubes of one set in the places of another: place i shows cube ``places[i]``, under that place's id and group.

    Args:
        base: where the cubes come from.
        indices: for each place, which cube of ``base`` is shown.
        like: the set whose ids and groups the places have; None: those of the cubes.
    """

    def __init__(self, base: CubeSet, indices: Sequence[int], template: CubeSet | None = None) -> None:
        self.base, self.indices = base, tuple(int(place) for place in indices)
        named = base.subset(self.indices).info if template is None else template.info
        self.info = dataclasses.replace(base.info, ids=named.ids, groups=named.groups, labels=named.labels)

    def read(self, index: int) -> Cube:
        group = None if self.groups is None else self.groups[index]
        return dataclasses.replace(self.base.read(self.indices[index]), id=self.ids[index], group=group)

    def shape(self, index: int) -> tuple[int, int, int]:
        return self.base.shape(self.indices[index])

    def sources(self, index: int) -> tuple[Path, ...]:
        return self.base.sources(self.indices[index])

    def recipe(self, index: int) -> str:
        return self.base.recipe(self.indices[index])

    def read_masks(self, index: int) -> Mapping[str, NDArray[np.bool_]]:
        return self.base.read_masks(self.indices[index])


class ConcatenatedSet(CubeSet):
    """Two sets of the same bands, one after the other; the second one's ids say that they are copies."""

    def __init__(self, first: CubeSet, second: CubeSet) -> None:
        self.parts = (first, second)
        ids = (*first.ids, *(f"copy of {name}" for name in second.ids))
        groups = None if first.groups is None or second.groups is None else (*first.groups, *second.groups)
        self.info = dataclasses.replace(first.info, ids=ids, groups=groups, labels={})

    def _locate(self, index: int) -> tuple[CubeSet, int]:
        first = len(self.parts[0])
        return (self.parts[0], index) if index < first else (self.parts[1], index - first)

    def read(self, index: int) -> Cube:
        cubes, place = self._locate(index)
        return dataclasses.replace(cubes.read(place), id=self.ids[index])

    def shape(self, index: int) -> tuple[int, int, int]:
        cubes, place = self._locate(index)
        return cubes.shape(place)

    def sources(self, index: int) -> tuple[Path, ...]:
        cubes, place = self._locate(index)
        return cubes.sources(place)

    def recipe(self, index: int) -> str:
        cubes, place = self._locate(index)
        return cubes.recipe(place)


@functools.cache
def hash_package_sources(plugin_class: type) -> str:
    """Return the hash of the sources of the whole package that a class is defined in (its module's, without one).

    What was computed by other code is never taken for this code's.
    """
    try:
        path = Path(inspect.getfile(plugin_class))
    except (TypeError, OSError):
        return ""
    package = None
    for folder in path.parents:
        if not (folder / "__init__.py").exists():
            break
        package = folder
    return _hash_files(tuple(sorted(package.rglob("*.py")) if package is not None else [path]))


@functools.cache
def _hash_files(files: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
