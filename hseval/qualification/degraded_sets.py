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
from hseval.data.content_hash import content_hash
from hseval.utils.errors import HsevalError
from hseval.utils.random_streams import stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.cubes import CubeSet
    from hseval.core.feature_table import Rows
    from hseval.pipeline.extract import Description

    Places = NDArray[np.int64]
    from hseval.degradations.base import Degradation


@dataclasses.dataclass(frozen=True)
class Side:
    """A set and its description; row i describes cube i, so that sides can be held against each other row by row."""

    cubes: CubeSet
    description: Description

    @property
    def rows(self) -> Rows:
        """The rows."""
        return self.description.rows

    def __len__(self) -> int:
        return len(self.description.rows)

    def part(self, places: Places) -> Side:
        """Return some of the cubes."""
        return Side(PlacedSet(self.cubes, places.tolist()), _taken(self.description, places))

    def shown(self, places: Places, like: Side) -> Side:
        """Return the cubes at ``places`` (some of them several times) under the ids and in the groups of ``like``."""
        taken = _taken(self.description, places)
        rows = dataclasses.replace(taken.rows, ids=like.rows.ids, groups=like.rows.groups)
        return Side(PlacedSet(self.cubes, places.tolist(), like.cubes), dataclasses.replace(taken, rows=rows))

    def joined(self, other: Side) -> Side:
        """Return both, the other one's cubes last."""
        cubes = JoinedSet(self.cubes, other.cubes)
        one, two = self.description, other.description
        rows = dataclasses.replace(
            one.rows,
            columns={name: np.concatenate([column, two.rows[name]]) for name, column in one.rows.columns.items()},
            ids=np.array(cubes.ids),
            hashes=np.concatenate([one.rows.hashes, two.rows.hashes]),
            groups=np.concatenate([one.rows.groups, two.rows.groups]),
        )
        index = np.arange(len(rows), dtype=np.int64)
        contents, masks = one.contents + two.contents, one.masks + two.masks
        return Side(cubes, dataclasses.replace(one, rows=rows, index=index, contents=contents, masks=masks))


def in_place(cubes: CubeSet, described: Description, *, what: str) -> Side:
    """Return a side whose rows are in the order of its cubes (``describe`` orders them by content).

    Raises:
        HsevalError: a cube has lost all its valid pixels, so there is no row for its place.
    """
    if described.invalid:
        raise HsevalError(f"{what}: cube {described.invalid[0]} has no valid pixel left; a degradation keeps the field")
    return Side(cubes, _taken(described, np.argsort(described.index)))


def _taken(description: Description, places: Places) -> Description:
    return dataclasses.replace(
        description,
        rows=description.rows.take(places),
        index=np.arange(len(places), dtype=np.int64),
        contents=tuple(description.contents[i] for i in places),
        masks=tuple(description.masks[i] for i in places),
    )


KEPT_BYTES = 2**28  # cubes of a set no larger than this stay in memory: every dose and every metric of pairs reads them


class KeptSet(CubeSet):
    """Another set, its cubes kept in memory once they are read, unless they are large. Workers start with none."""

    def __init__(self, base: CubeSet) -> None:
        self.base, self.info = base, base.info
        self.keeps = sum(4 * int(np.prod(base.shape(i))) for i in range(len(base))) <= KEPT_BYTES
        self._kept: dict[int, Cube] = {}

    def read(self, index: int) -> Cube:
        cube = self._kept[index] if index in self._kept else self.base.read(index)
        if self.keeps:
            self._kept[index] = cube
        return cube

    def shape(self, index: int) -> tuple[int, int, int]:
        return self.base.shape(index)

    def sources(self, index: int) -> tuple[Path, ...]:
        return self.base.sources(index)

    def recipe(self, index: int) -> str:
        return self.base.recipe(index)

    def read_masks(self, index: int) -> Mapping[str, NDArray[np.bool_]]:
        return self._kept[index].masks if index in self._kept else self.base.read_masks(index)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}


class SpoiledSet(CubeSet):
    """Another set, every cube spoiled as it is read (or, for ``copies``, turned into a near-copy of itself).

    The stream of a cube depends on the seed, the degradation and the cube's content, and so neither on its place nor on
    the dose; for a fault that all cubes share, on the seed and the degradation alone.

    Args:
        base: the cubes.
        degradation: of kind ``spectral``, ``spatial`` or ``copies``.
        dose: in its unit; of no account for ``copies``.
        seed: of the draws.
    """

    def __init__(self, base: CubeSet, degradation: Degradation, dose: float, seed: int) -> None:
        self.base, self.degradation, self.dose, self.seed = base, degradation, dose, seed
        self.info = base.info

    def read(self, index: int) -> Cube:
        cube = self.base.read(index)
        name = f"degradation {self.degradation.name}"
        shared = bool(getattr(self.degradation, "shared", False))
        rng = stream(self.seed, name if shared else f"{name} {content_hash(cube.data)}")
        made: Any = self.degradation
        spoiled: Cube = (
            made.copy(cube, wavelengths=self.wavelengths, rng=rng)
            if made.kind == "copies"
            else made.degrade(cube, self.dose, wavelengths=self.wavelengths, rng=rng)
        )
        return spoiled

    def shape(self, index: int) -> tuple[int, int, int]:
        return self.base.shape(index)

    def sources(self, index: int) -> tuple[Path, ...]:
        return self.base.sources(index)

    def recipe(self, index: int) -> str:
        made = (self.degradation.name, code_of(type(self.degradation)), self.dose, self.seed)
        return f"{self.base.recipe(index)} | spoiled by {made}"


class PlacedSet(CubeSet):
    """Cubes of one set in the places of another: place i shows cube ``places[i]``, under that place's id and group.

    Args:
        base: where the cubes come from.
        places: for each place, which cube of ``base`` is shown.
        like: the set whose ids and groups the places have; None: those of the cubes.
    """

    def __init__(self, base: CubeSet, places: Sequence[int], like: CubeSet | None = None) -> None:
        self.base, self.places = base, tuple(int(place) for place in places)
        named = base.subset(self.places).info if like is None else like.info
        self.info = dataclasses.replace(base.info, ids=named.ids, groups=named.groups, labels=named.labels)

    def read(self, index: int) -> Cube:
        group = None if self.groups is None else self.groups[index]
        return dataclasses.replace(self.base.read(self.places[index]), id=self.ids[index], group=group)

    def shape(self, index: int) -> tuple[int, int, int]:
        return self.base.shape(self.places[index])

    def sources(self, index: int) -> tuple[Path, ...]:
        return self.base.sources(self.places[index])

    def recipe(self, index: int) -> str:
        return self.base.recipe(self.places[index])

    def read_masks(self, index: int) -> Mapping[str, NDArray[np.bool_]]:
        return self.base.read_masks(self.places[index])


class JoinedSet(CubeSet):
    """Two sets of the same bands, one after the other; the second one's ids say that they are copies."""

    def __init__(self, one: CubeSet, other: CubeSet) -> None:
        self.parts = (one, other)
        ids = (*one.ids, *(f"copy of {name}" for name in other.ids))
        groups = None if one.groups is None or other.groups is None else (*one.groups, *other.groups)
        self.info = dataclasses.replace(one.info, ids=ids, groups=groups, labels={})

    def _at(self, index: int) -> tuple[CubeSet, int]:
        first = len(self.parts[0])
        return (self.parts[0], index) if index < first else (self.parts[1], index - first)

    def read(self, index: int) -> Cube:
        cubes, place = self._at(index)
        return dataclasses.replace(cubes.read(place), id=self.ids[index])

    def shape(self, index: int) -> tuple[int, int, int]:
        cubes, place = self._at(index)
        return cubes.shape(place)

    def sources(self, index: int) -> tuple[Path, ...]:
        cubes, place = self._at(index)
        return cubes.sources(place)

    def recipe(self, index: int) -> str:
        cubes, place = self._at(index)
        return cubes.recipe(place)


@functools.cache
def code_of(factory: type) -> str:
    """Return the hash of the sources of the whole package that a class is defined in (its module's, without one).

    What was computed by other code is never taken for this code's.
    """
    try:
        path = Path(inspect.getfile(factory))
    except (TypeError, OSError):
        return ""
    package = None
    for folder in path.parents:
        if not (folder / "__init__.py").exists():
            break
        package = folder
    return _hashed(tuple(sorted(package.rglob("*.py")) if package is not None else [path]))


@functools.cache
def _hashed(files: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
