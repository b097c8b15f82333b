"""How good the masks are that a segmenter found, and what a report says of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hseval.scoring.segmentation.cross_fit import Folds
from hseval.scoring.segmentation.jobs import SegmenterSpec
from hseval.scoring.segmentation.segmented_set import dice

MIN_DICE = 0.5  # a held-out Dice below says that a mask is more wrong than right: the structure is left out


@dataclasses.dataclass(frozen=True)
class SegmentationQuality:
    """How good the masks are that a segmenter found.

    Attributes:
        spec: the segmenter.
        folds: what it was fitted on.
        structure_extractors: names of the extractors that look at structures.
        holdout_counts: int ``(cube, structure, 3)``: pixels in both masks, found, true; of the reference's cubes with masks,
            each found by the model that did not see it.
        sample_counts: the same of the samples and their own masks; None where they bring none.
        supplied_structures: structures that the samples bring masks of.
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
        """Return the structures that are found well enough to be scored."""
        return tuple(name for name, value in self.compute_dice().items() if value is not None and value >= MIN_DICE)

    def get_exclusion_reasons(self) -> dict[str, str]:
        """Return the others, with why."""
        poor = {
            name: f"held-out Dice of {_format_dice(value)}, expected at least {MIN_DICE}"
            for name, value in self.compute_dice().items()
            if name not in self.get_usable_structures()
        }
        return {**self.folds.exclusion_reasons, **poor}

    def format_dice_list(self) -> str:
        """Return the held-out Dice of each structure in words."""
        return _format_dice_list(self.compute_dice())

    def compute_sample_agreement(self) -> dict[str, float | None]:
        """Return the Dice between what was found in the samples and the masks that they bring."""
        told = _compute_dice_by_structure(self.folds, self.sample_counts)
        return {name: value for name, value in told.items() if name in self.supplied_structures}

    def build_details(self) -> dict[str, Any]:
        """Return what a score says of its masks."""
        told = {"name": self.spec.name, "dice": self.compute_dice(), "left_out": self.get_exclusion_reasons()}
        if self.sample_counts is not None:
            told["agreement_with_samples"] = self.compute_sample_agreement()
        return told

    def iter_notes(self) -> Iterator[str]:
        """Yield what a reader has to know of the masks."""
        name, fitted = self.spec.name, sum(map(len, self.folds.fit_indices))
        why = (
            "as asked for"
            if self.spec.is_requested
            else f"as the samples lack masks of: {', '.join(self.spec.missing_structures)}"
        )
        yield (
            f"structures of all sets are found by the segmenter {name!r}, {why}; fitted on {fitted} reference cubes in "
            "two folds, and no cube is seen by a model that was fitted on its group"
        )
        yield f"{name}: held-out Dice on the reference: {self.format_dice_list()}"
        if left_out := self.get_exclusion_reasons():
            yield "structures left out: " + "; ".join(f"{each} ({why})" for each, why in left_out.items())
        if self.sample_counts is not None:
            yield f"{name}: Dice of what it finds in the samples with their own masks: {_format_dice_list(self.compute_sample_agreement())}"


def _compute_dice_by_structure(folds: Folds, counts: Any) -> dict[str, float | None]:
    found = dice(counts.sum(axis=0))
    return {name: None if np.isnan(each) else float(each) for name, each in zip(folds.structures, found, strict=True)}


def _format_dice_list(dice_by_structure: Mapping[str, float | None]) -> str:
    return ", ".join(f"{name} {_format_dice(value)}" for name, value in dice_by_structure.items())


def _format_dice(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
