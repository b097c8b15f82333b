"""Which structures are scored: one rule, and one base class, for all metrics that score structures."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.cubes import FOV
from hseval.core.protocols import Needs, ScoreParts
from hseval.utils.errors import NotComputable

if TYPE_CHECKING:
    from hseval.core.feature_table import FeatureTable, RelatedTables
    from hseval.core.report import Direction
    from hseval.utils.arrays import Array
    from hseval.utils.random_streams import Rng

SPECTRUM_QUANTILES, PIXEL_COUNTS = "spectra/quantiles", "spectra/pixels"
MEAN_SPECTRA, COVARIANCES = "spectra/mean", "spectra/cov"
IS_SCORED = "structures/scored"
MIN_GROUPS = 6  # with fewer groups (a quarter of a small set's) the score would depend on a few cubes
WHOLE_FIELD_CAVEAT = "no structure is in both sets: the whole field of view is scored"


class StructureMetric(ABC):
    """Base of the metrics whose value is a mean over structures."""

    better: Direction = "lower"
    bounds = (0.0, float("inf"))
    needs = Needs(features=("spectra",))

    @abstractmethod
    def relate(self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None) -> RelatedTables:
        """Add the columns that are compared, and which structures are scored (:func:`mark_scored_structures`).

        Raises:
            NotComputable: the sides share no structure with pixels, not even the field of view.
        """

    @abstractmethod
    def score_structure(self, real: FeatureTable, generated: FeatureTable, name: str) -> dict[str, Any]:
        """Return the details of one structure; ``value`` is averaged over structures."""

    @abstractmethod
    def compute_value(self, real: FeatureTable, generated: FeatureTable, name: str) -> float:
        """Return the ``value`` of :meth:`score_structure` alone."""

    @abstractmethod
    def summarize(
        self, scores: dict[str, dict[str, Any]], real: FeatureTable, generated: FeatureTable
    ) -> dict[str, Any]:
        """Return the details of all structures together."""

    def compare(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None, rng: Rng
    ) -> ScoreParts:
        """Return the mean over structures; the details hold each structure's curve over wavelength, and more.

        Raises:
            NotComputable: as :meth:`relate`, or one side has no pixel of a scored structure.
        """
        if IS_SCORED not in real.columns:
            real, generated, train = self.relate(real=real, generated=generated, train=train)
        scored_structures = get_scored_structures(real, generated)
        scores = {name: self.score_structure(real, generated, name) for name in scored_structures}
        details = {
            "structures": scores,
            **self.summarize(scores, real, generated),
            **collect_structure_details(real, generated, scored_structures),
        }
        return ScoreParts(average_over_structures(scores, "value"), details)

    def headline(self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None) -> float:
        """Return the mean alone, as :meth:`compare` does, from the tables that :meth:`relate` returned."""
        names = get_scored_structures(real, generated)
        return float(np.mean([self.compute_value(real, generated, name) for name in names]))


def mark_scored_structures(
    real: FeatureTable, generated: FeatureTable, scored_structures: list[str]
) -> tuple[FeatureTable, FeatureTable]:
    """Add which structures are scored, ``(n, S)``: decided once, from both full sets, so that all splits agree."""

    def mark(table: FeatureTable) -> FeatureTable:
        scored = np.array([name in scored_structures for name in table.structures])
        return table.add_columns({IS_SCORED: np.broadcast_to(scored, table[PIXEL_COUNTS].shape)})

    return mark(real), mark(generated)


def select_cubes_with(table: FeatureTable, name: str, column: str) -> Array:
    """Return a column's values ``(k, ...)`` of one structure, of the cubes that have a pixel of it."""
    index = table.structures.index(name)
    return np.asarray(table[column][table[PIXEL_COUNTS][:, index] > 0, index])


def get_scored_structures(real: FeatureTable, generated: FeatureTable) -> list[str]:
    """Return the structures that :func:`mark_scored_structures` marked.

    Raises:
        NotComputable: one side has no pixel of one of them.
    """
    scored = [name for index, name in enumerate(real.structures) if real[IS_SCORED][0, index]]
    for name in scored:
        if not has_structure(real, generated, name):
            side = "samples" if _count_cubes_with(real, name) else "reference"
            raise NotComputable(f"no cube of the {side} has {name!r}")
    return scored


def collect_structure_details(
    real: FeatureTable, generated: FeatureTable, scored_structures: list[str]
) -> dict[str, Any]:
    """Return the details on the source of the masks and on the structures that are not scored."""
    details: dict[str, Any] = {
        "masks_from": {"reference": real.mask_source, "samples": generated.mask_source},
        "left_out": explain_left_out(real, generated, scored_structures),
    }
    return {**details, "caveat": WHOLE_FIELD_CAVEAT} if scored_structures == [FOV] else details


def drop_columns(table: FeatureTable, *names: str) -> FeatureTable:
    """Drop wide columns that others replace, so that no split copies them."""
    return dataclasses.replace(table, columns={name: table[name] for name in table.columns if name not in names})


def average_over_structures(scores: dict[str, dict[str, Any]], key: str) -> float:
    """Return the unweighted mean over structures."""
    return float(np.mean([entry[key] for entry in scores.values()]))


def select_structures(real: FeatureTable, generated: FeatureTable) -> list[str]:
    """Return the structures that enough cubes of both sides have; the field of view where there is no other.

    Raises:
        NotComputable: the sides share no structure with pixels.
    """
    names = sorted({*real.structures, *generated.structures} - {FOV})
    selected = [name for name in names if not explain_missing_structure(real, generated, name)]
    if selected:
        return selected
    if reason := explain_missing_structure(real, generated, FOV):
        raise NotComputable(f"reference and samples share no structure ({FOV}: {reason})")
    return [FOV]


def explain_left_out(real: FeatureTable, generated: FeatureTable, scored_structures: list[str]) -> dict[str, str]:
    """Return the reason why each other structure, the field of view excepted, is not scored."""
    names = {*real.structures, *generated.structures} - {FOV, *scored_structures}
    return {name: explain_missing_structure(real, generated, name) for name in sorted(names)}


def has_structure(real: FeatureTable, generated: FeatureTable, name: str) -> bool:
    """Return whether both sides have a pixel of a structure."""
    return bool(_count_cubes_with(real, name) and _count_cubes_with(generated, name))


def explain_missing_structure(real: FeatureTable, generated: FeatureTable, name: str) -> str:
    """Return which side lacks a structure or has it in too few cubes; ``""`` if neither does."""
    for table, side in ((real, "reference"), (generated, "samples")):
        if name not in table.structures:
            return f"no mask in the {side}"
        if not _count_cubes_with(table, name):
            return f"no pixel in any cube of the {side}"
        groups = np.unique(table.groups[table[PIXEL_COUNTS][:, table.structures.index(name)] > 0])
        if len(groups) < min(MIN_GROUPS, -(-len(np.unique(table.groups)) // 4)):
            return f"in too few cubes of the {side}"
    return ""


def _count_cubes_with(table: FeatureTable, name: str) -> int:
    return len(select_cubes_with(table, name, PIXEL_COUNTS)) if name in table.structures else 0
