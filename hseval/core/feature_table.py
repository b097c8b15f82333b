"""Feature tables: one row per cube, with the columns that extractors computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Column = NDArray[Any]


UNGROUPED_PREFIX = "\0"  # of the group of a cube without one; such groups are not comparable across sets


@dataclasses.dataclass(frozen=True)
class FeatureTable:
    """The features of a set, sorted by content so that file order and names have no effect.

    Attributes:
        columns: ``"extractor"`` or ``"extractor/field"`` -> array whose first axis is the cube.
        ids: ``(n,)`` str.
        hashes: ``(n,)`` str, sha256 of each cube's pixels inside its field of view.
        groups: ``(n,)`` str; a cube without a group is a group of its own.
        wavelengths: ``(band,)`` nm (or band indices, where ``wavelengths_known`` is False).
        structures: names along the structure axis of structure-wise columns; sorted, ``fov`` included.
        mask_source: where the masks come from: ``"set"`` (the files) or a segmenter's name.
    """

    columns: Mapping[str, Column]
    ids: Column
    hashes: Column
    groups: Column
    wavelengths: Column
    wavelengths_known: bool = True
    structures: tuple[str, ...] = ()
    mask_source: str = "set"

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, column: str) -> Column:
        return self.columns[column]

    def select(self, index: Column) -> FeatureTable:
        """Return the rows at ``index`` (integers or a mask)."""
        return dataclasses.replace(
            self,
            columns={name: column[index] for name, column in self.columns.items()},
            ids=self.ids[index],
            hashes=self.hashes[index],
            groups=self.groups[index],
        )

    def add_columns(self, columns: Mapping[str, Column]) -> FeatureTable:
        """Return the same rows with more columns."""
        return dataclasses.replace(self, columns={**self.columns, **columns})

    def select_extractors(self, extractors: Collection[str]) -> FeatureTable:
        """Return the same rows with only the columns of some extractors, so that splits copy no others."""
        names = [name for name in self.columns if name.split("/", maxsplit=1)[0] in extractors]
        return dataclasses.replace(self, columns={name: self.columns[name] for name in names})


RelatedTables = tuple[FeatureTable, FeatureTable, FeatureTable | None]  # of a metric's relate: real, generated, train
