"""Which structures are scored: one rule for all metrics that score structures."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.cubes import FOV
from hseval.utils.errors import NotComputable

if TYPE_CHECKING:
    from hseval.core.feature_table import FeatureTable

SPECTRUM_QUANTILES, PIXEL_COUNTS, MEAN_SPECTRA, COVARIANCES = (
    "spectra/quantiles",
    "spectra/pixels",
    "spectra/mean",
    "spectra/cov",
)
IS_SCORED = "structures/scored"
MIN_GROUPS = 6  # with fewer groups (a quarter of a small set's) the score would depend on a few cubes
WHOLE_FIELD_CAVEAT = "no structure is in both sets: the whole field of view is scored"


def mark_scored_structures(table: FeatureTable, scored_structures: list[str]) -> FeatureTable:
    """Add which structures are scored, ``(n, S)``: decided once, from both full sets, so that all splits agree."""
    scored = np.array([name in scored_structures for name in table.structures])
    return table.add_columns({IS_SCORED: np.broadcast_to(scored, table[PIXEL_COUNTS].shape)})


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
        if _count_groups_with(table, name) < min(MIN_GROUPS, -(-len(np.unique(table.groups)) // 4)):
            return f"in too few cubes of the {side}"
    return ""


def _count_cubes_with(table: FeatureTable, name: str) -> int:
    return int((table[PIXEL_COUNTS][:, table.structures.index(name)] > 0).sum()) if name in table.structures else 0


def _count_groups_with(table: FeatureTable, name: str) -> int:
    has_pixels = table[PIXEL_COUNTS][:, table.structures.index(name)] > 0
    return len(np.unique(table.groups[has_pixels]))
