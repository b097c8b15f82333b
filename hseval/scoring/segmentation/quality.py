"""How good the masks are that a segmenter found, and what a report says of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hseval.scoring.segmentation.cross_fit import Folds
from hseval.scoring.segmentation.jobs import Choice
from hseval.scoring.segmentation.segmented_set import dice

POOR = 0.5  # a held-out Dice below says that a mask is more wrong than right: the structure is left out


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

    def kept(self) -> tuple[str, ...]:
        """Return the structures that are found well enough to be scored."""
        return tuple(name for name, value in self.dice().items() if value is not None and value >= POOR)

    def left_out(self) -> dict[str, str]:
        """Return the others, with why."""
        poor = {
            name: f"held-out Dice of {_shown(value)}, expected at least {POOR}"
            for name, value in self.dice().items()
            if name not in self.kept()
        }
        return {**self.folds.left_out, **poor}

    def listed(self) -> str:
        """Return the held-out Dice of each structure in words."""
        return _listed(self.dice())

    def agreed(self) -> dict[str, float | None]:
        """Return the Dice between what was found in the samples and the masks that they bring."""
        told = _by_structure(self.folds, self.on_samples)
        return {name: value for name, value in told.items() if name in self.brought}

    def details(self) -> dict[str, Any]:
        """Return what a score says of its masks."""
        told = {"name": self.choice.name, "dice": self.dice(), "left_out": self.left_out()}
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
        yield f"{name}: held-out Dice on the reference: {self.listed()}"
        if left_out := self.left_out():
            yield "structures left out: " + "; ".join(f"{each} ({why})" for each, why in left_out.items())
        if self.on_samples is not None:
            yield f"{name}: Dice of what it finds in the samples with their own masks: {_listed(self.agreed())}"


def _by_structure(folds: Folds, counts: Any) -> dict[str, float | None]:
    found = dice(counts.sum(axis=0))
    return {name: None if np.isnan(each) else float(each) for name, each in zip(folds.structures, found, strict=True)}


def _listed(told: Mapping[str, float | None]) -> str:
    return ", ".join(f"{name} {_shown(value)}" for name, value in told.items())


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
