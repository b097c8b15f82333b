"""How good the masks are that a segmenter found, and what a report says of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hseval.crossfit import Folds
from hseval.segmented import dice
from hseval.segmentjobs import Choice

POOR = 0.5  # a Dice below says that a mask is more wrong than right


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """How good the masks are that a segmenter found.

    Attributes:
        choice: the segmenter.
        folds: what it was fitted on.
        reading: names of the extractors that look at structures.
        held_out: int ``(cube, structure, 3)``: pixels in both masks, found, true; of the reference's cubes with masks,
            each found by the model that did not see it.
        on_samples: the same of the samples and their own masks; None where they bring none.
        brought: structures that the samples bring masks of.
    """

    choice: Choice
    folds: Folds
    reading: tuple[str, ...]
    held_out: Any
    on_samples: Any
    brought: tuple[str, ...]

    def dice(self) -> dict[str, float | None]:
        """Return the held-out Dice of each structure, over all pixels."""
        return _by_structure(self.folds, self.held_out)

    def agreed(self) -> dict[str, float | None]:
        """Return the Dice between what was found in the samples and the masks that they bring."""
        told = _by_structure(self.folds, self.on_samples)
        return {name: value for name, value in told.items() if name in self.brought}

    def details(self) -> dict[str, Any]:
        """Return what a score says of its masks."""
        told = {"name": self.choice.name, "dice": self.dice(), "left_out": dict(self.folds.left_out)}
        if self.on_samples is not None:
            told["agreement_with_samples"] = self.agreed()
        return told

    def notes(self) -> Iterator[str]:
        """Yield what a reader has to know of the masks."""
        name, fitted = self.choice.name, sum(map(len, self.folds.places))
        why = "as asked for" if self.choice.asked else f"as the samples lack masks of: {', '.join(self.choice.lacking)}"
        yield (
            f"structures of all sets are found by the segmenter {name!r}, {why}; fitted on {fitted} reference cubes in "
            "two folds, and no cube is seen by a model that was fitted on its group"
        )
        told = self.dice()
        yield f"{name}: held-out Dice on the reference: {_listed(told)}"
        for structure, value in told.items():
            if value is None or value < POOR:
                shown = "none" if value is None else f"{value:.2f}"
                yield f"{structure}: a held-out Dice of {shown}: the structure's score says little"
        for structure, reason in self.folds.left_out.items():
            yield f"{structure}: not segmented ({reason})"
        if self.on_samples is not None:
            yield f"{name}: Dice of what it finds in the samples with their own masks: {_listed(self.agreed())}"


def _by_structure(folds: Folds, counts: Any) -> dict[str, float | None]:
    found = dice(counts.sum(axis=0))
    return {name: None if np.isnan(each) else float(each) for name, each in zip(folds.structures, found, strict=True)}


def _listed(told: Mapping[str, float | None]) -> str:
    return ", ".join(f"{name} {'-' if value is None else format(value, '.2f')}" for name, value in told.items())
