"""One side of a comparison: cubes and their description, place by place."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from hseval.errors import HsevalError
from hseval.qualifying.views import JoinedSet, PlacedSet

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.cubes import CubeSet
    from hseval.describe import Description
    from hseval.rows import Rows

    Places = NDArray[np.int64]


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
