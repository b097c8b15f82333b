"""Lazy views of sets: degraded on reading, reindexed, concatenated."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.cubes import Cube, CubeSet, DerivedSet, Subset
from hseval.data.content_hash import compute_content_hash
from hseval.utils.errors import HsevalError
from hseval.utils.random_streams import create_rng

if TYPE_CHECKING:
    from hseval.core.feature_table import FeatureTable
    from hseval.degradations.base import Degradation
    from hseval.pipeline.extract import ExtractedSet
    from hseval.utils.arrays import BoolArray, IntArray


@dataclasses.dataclass(frozen=True)
class AlignedSet:
    """A set with its extracted features: feature vector i belongs to cube i, so that sets can be compared by index."""

    cubes: CubeSet
    extracted: ExtractedSet

    @property
    def features(self) -> FeatureTable:
        """The features, one row per cube."""
        return self.extracted.features

    def __len__(self) -> int:
        return len(self.extracted.features)

    def select(self, indices: IntArray) -> AlignedSet:
        """Return some of the cubes."""
        return AlignedSet(self.cubes.subset(indices.tolist()), _select_extracted(self.extracted, indices))

    def select_as(self, indices: IntArray, template: AlignedSet) -> AlignedSet:
        """Return the cubes at ``indices`` (repeats allowed) with the ids and groups of ``template``."""
        selected = _select_extracted(self.extracted, indices)
        features = dataclasses.replace(selected.features, ids=template.features.ids, groups=template.features.groups)
        cubes = RenamedSubset(self.cubes, indices.tolist(), template.cubes)
        return AlignedSet(cubes, dataclasses.replace(selected, features=features))

    def concatenate(self, other: AlignedSet) -> AlignedSet:
        """Return this set followed by ``other``."""
        cubes = ConcatenatedSet(self.cubes, other.cubes)
        first, second = self.extracted, other.extracted
        a, b = first.features, second.features
        features = dataclasses.replace(
            a,
            columns={name: np.concatenate([column, b[name]]) for name, column in a.columns.items()},
            ids=np.array(cubes.ids),
            hashes=np.concatenate([a.hashes, b.hashes]),
            groups=np.concatenate([a.groups, b.groups]),
        )
        extracted = dataclasses.replace(
            first,
            features=features,
            index=np.arange(len(features), dtype=np.int64),
            content_hashes=first.content_hashes + second.content_hashes,
            mask_hashes=first.mask_hashes + second.mask_hashes,
        )
        return AlignedSet(cubes, extracted)


def align_to_cubes(cubes: CubeSet, extracted: ExtractedSet, *, label: str) -> AlignedSet:
    """Return a set whose features are in the order of its cubes (``extract_features`` orders them by content).

    Raises:
        HsevalError: a cube has no valid pixel left, and so no features.
    """
    if extracted.invalid_ids:
        raise HsevalError(
            f"{label}: cube {extracted.invalid_ids[0]} has no valid pixel left; "
            "expected a degradation that preserves the field of view"
        )
    return AlignedSet(cubes, _select_extracted(extracted, np.argsort(extracted.index)))


def _select_extracted(extracted: ExtractedSet, indices: IntArray) -> ExtractedSet:
    return dataclasses.replace(extracted.select(indices), index=np.arange(len(indices), dtype=np.int64))


# Cubes of a set no larger than this stay in memory: they are read for every severity and by every metric of pairs.
MAX_CACHED_BYTES = 2**28


class CachedSet(DerivedSet):
    """Another set whose cubes stay in memory once read, unless the set is large. Workers start with an empty cache."""

    def __init__(self, base: CubeSet) -> None:
        self.base, self.info = base, base.info
        self.uses_cache = sum(4 * int(np.prod(base.shape(i))) for i in range(len(base))) <= MAX_CACHED_BYTES
        self._cached_cubes: dict[int, Cube] = {}

    def read(self, index: int) -> Cube:
        cube = self._cached_cubes[index] if index in self._cached_cubes else self.base.read(index)
        if self.uses_cache:
            self._cached_cubes[index] = cube
        return cube

    def read_masks(self, index: int) -> Mapping[str, BoolArray]:
        return self._cached_cubes[index].masks if index in self._cached_cubes else self.base.read_masks(index)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cached_cubes": {}}


class DegradedSet(DerivedSet):
    """Another set, its cubes degraded as they are read (for ``copies``: replaced by near-copies of themselves).

    The random stream of a cube depends on the seed, the degradation and the cube's content, but neither on its index
    nor on the severity; for a fault that all cubes share, only on the seed and the degradation.

    Args:
        base: the cubes.
        degradation: of kind ``spectral``, ``spatial`` or ``copies``.
        severity: in its unit; ignored for ``copies``.
        seed: of the draws.
    """

    def __init__(self, base: CubeSet, degradation: Degradation, severity: float, seed: int) -> None:
        self.base, self.degradation, self.severity, self.seed = base, degradation, severity, seed
        self.info = base.info

    def read(self, index: int) -> Cube:
        cube = self.base.read(index)
        name = f"degradation {self.degradation.name}"
        stream = name if self.degradation.is_set_wide else f"{name} {compute_content_hash(cube.data)}"
        rng = create_rng(self.seed, stream)
        degradation: Any = self.degradation
        degraded: Cube = (
            degradation.copy(cube, wavelengths=self.wavelengths, rng=rng)
            if degradation.kind == "copies"
            else degradation.degrade(cube, self.severity, wavelengths=self.wavelengths, rng=rng)
        )
        return degraded

    def recipe(self, index: int) -> str:
        degradation = (self.degradation.name, hash_package_sources(type(self.degradation)), self.severity, self.seed)
        return f"{self.base.recipe(index)} | degraded by {degradation}"


class RenamedSubset(Subset):
    """Some cubes of another set: cube i is ``base[indices[i]]``, with the id and group of ``template[i]``."""

    def __init__(self, base: CubeSet, indices: Sequence[int], template: CubeSet) -> None:
        super().__init__(base, tuple(indices))
        names = template.info
        self.info = dataclasses.replace(self.info, ids=names.ids, groups=names.groups, labels=names.labels)

    def read(self, index: int) -> Cube:
        group = None if self.groups is None else self.groups[index]
        return dataclasses.replace(super().read(index), id=self.ids[index], group=group)


class ConcatenatedSet(DerivedSet):
    """Two sets of the same bands, one after the other; ids of the second one are prefixed with "copy of"."""

    def __init__(self, first: CubeSet, second: CubeSet) -> None:
        self.parts = (first, second)
        ids = (*first.ids, *(f"copy of {name}" for name in second.ids))
        groups = None if first.groups is None or second.groups is None else (*first.groups, *second.groups)
        self.info = dataclasses.replace(first.info, ids=ids, groups=groups, labels={})

    def locate(self, index: int) -> tuple[CubeSet, int]:
        count = len(self.parts[0])
        return (self.parts[0], index) if index < count else (self.parts[1], index - count)

    def read(self, index: int) -> Cube:
        cubes, base_index = self.locate(index)
        return dataclasses.replace(cubes.read(base_index), id=self.ids[index])


@functools.cache
def hash_package_sources(plugin_class: type) -> str:
    """Return the hash of the sources of the whole package (without one: the module) that a class is defined in.

    As part of a cache key it keeps results of other code from being reused.
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
