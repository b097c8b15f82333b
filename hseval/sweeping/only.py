"""A set with one of its structures alone: what a metric of structures says of that one, with an interval of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hseval.cubes import FIELD, Cube, CubeSet

if TYPE_CHECKING:
    from numpy.typing import NDArray


class OnlyStructure(CubeSet):
    """Another set whose masks are those of one structure, and the field of view."""

    def __init__(self, base: CubeSet, structure: str) -> None:
        self.base, self.kept = base, {structure, FIELD}
        self.info = dataclasses.replace(base.info, structures=tuple(sorted(self.kept & set(base.structures))))

    def read(self, index: int) -> Cube:
        """Read one cube."""
        cube = self.base.read(index)
        return dataclasses.replace(cube, masks=self._of(cube.masks))

    def read_masks(self, index: int) -> Mapping[str, NDArray[Any]]:
        """Read the masks that are kept."""
        return self._of(self.base.read_masks(index))

    def shape(self, index: int) -> tuple[int, int, int]:
        """Return ``(band, y, x)`` of one cube."""
        return self.base.shape(index)

    def sources(self, index: int) -> tuple[Path, ...]:
        """Return the files of one cube."""
        return self.base.sources(index)

    def recipe(self, index: int) -> str:
        """Return what decides a cube: its masks are others than those of the same cube in the whole set."""
        return f"{self.base.recipe(index)} | masks {sorted(self.kept)}"

    def _of(self, masks: Mapping[str, Any]) -> dict[str, Any]:
        return {name: mask for name, mask in masks.items() if name in self.kept}
