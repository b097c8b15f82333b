"""The accuracy of a segmenter's masks, and the notes on it in a report."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hseval.core.score_records import SegmentationRecord
from hseval.scoring.segmentation.cross_fit import Folds
from hseval.scoring.segmentation.jobs import SegmenterSpec
from hseval.scoring.segmentation.segmented_set import dice
from hseval.utils.plural import format_count

MIN_DICE = 0.5  # held-out: structures with a lower Dice are left out, as more of their pixels are wrong than right


@dataclasses.dataclass(frozen=True)
class SegmentationQuality:
    """The accuracy of a segmenter's masks.

    Attributes:
        spec: the segmenter.
        folds: the cubes it was fitted on.
        structure_extractors: names of the extractors that read structures.
        holdout_counts: int ``(cube, structure, 3)``: pixels in both masks, predicted, true; of the reference's cubes
            with masks, each segmented by the model that was not fitted on it.
        sample_counts: the same of the samples and their own masks; None where they have none.
        supplied_structures: structures that the samples have masks of.
    """

    spec: SegmenterSpec
    folds: Folds
    structure_extractors: tuple[str, ...]
    holdout_counts: Any
    sample_counts: Any
    supplied_structures: tuple[str, ...]

    def compute_dice(self) -> dict[str, float | None]:
        """Return the held-out Dice of each structure, over all pixels."""
        return _compute_dice_by_structure(self.folds, self.holdout_counts)

    def get_usable_structures(self) -> tuple[str, ...]:
        """Return the structures whose masks are accurate enough to be scored."""
        return tuple(name for name, value in self.compute_dice().items() if value is not None and value >= MIN_DICE)

    def get_exclusion_reasons(self) -> dict[str, str]:
        """Return the reason for each structure that is left out."""
        poor = {
            name: f"held-out Dice of {_format_dice(value)}, expected at least {MIN_DICE}"
            for name, value in self.compute_dice().items()
            if name not in self.get_usable_structures()
        }
        return {**self.folds.exclusion_reasons, **poor}

    def format_dice_list(self) -> str:
        """Return the held-out Dice of each structure as text."""
        return _format_dice_list(self.compute_dice())

    def compute_sample_agreement(self) -> dict[str, float | None]:
        """Return the Dice of the segmenter's masks and the samples' own."""
        dice_by_structure = _compute_dice_by_structure(self.folds, self.sample_counts)
        return {name: value for name, value in dice_by_structure.items() if name in self.supplied_structures}

    def build_record(self) -> SegmentationRecord:
        """Return what a score says on its masks."""
        agreement = None if self.sample_counts is None else self.compute_sample_agreement()
        return SegmentationRecord(self.spec.name, self.compute_dice(), self.get_exclusion_reasons(), agreement)

    def iter_notes(self) -> Iterator[str]:
        """Yield the notes on the masks."""
        name, fitted = self.spec.name, sum(map(len, self.folds.fit_indices))
        missing = f"as the samples lack masks of: {', '.join(self.spec.missing_structures)}"
        reason = "as requested" if self.spec.is_requested else missing
        yield (
            f"structures of all sets are found by the segmenter {name!r}, {reason}; fitted on "
            f"{format_count(fitted, 'reference cube')} in two folds, so that no cube is segmented by a model that was "
            "fitted on its group"
        )
        yield f"{name}: held-out Dice on the reference: {self.format_dice_list()}"
        if left_out := self.get_exclusion_reasons():
            reasons = "; ".join(f"{structure} ({reason})" for structure, reason in left_out.items())
            yield f"structures left out: {reasons}"
        if self.sample_counts is not None:
            agreement = _format_dice_list(self.compute_sample_agreement())
            yield f"{name}: Dice of its masks and the samples' own: {agreement}"


def _compute_dice_by_structure(folds: Folds, counts: Any) -> dict[str, float | None]:
    values = zip(folds.structures, dice(counts.sum(axis=0)), strict=True)
    return {name: None if np.isnan(value) else float(value) for name, value in values}


def _format_dice_list(dice_by_structure: Mapping[str, float | None]) -> str:
    return ", ".join(f"{name} {_format_dice(value)}" for name, value in dice_by_structure.items())


def _format_dice(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
