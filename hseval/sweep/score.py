"""Scores a run's samples: one report of all metrics, and one score for each structure that is scored separately."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hseval.core.cubes import FOV, Cube, CubeSet, DerivedSet
from hseval.core.report import Report, Score
from hseval.pipeline.open import open_set
from hseval.scoring.score import score
from hseval.sweep.plan import SweepPlan

if TYPE_CHECKING:
    from hseval.utils.arrays import Array


class SingleStructureSet(DerivedSet):
    """Another set with only the masks of one structure and of the field of view."""

    def __init__(self, base: CubeSet, structure: str) -> None:
        self.base, self.mask_names = base, {structure, FOV}
        self.info = dataclasses.replace(base.info, structures=tuple(sorted(self.mask_names & set(base.structures))))

    def read(self, index: int) -> Cube:
        """Read one cube."""
        cube = self.base.read(index)
        return dataclasses.replace(cube, masks=self._select_masks(cube.masks))

    def read_masks(self, index: int) -> Mapping[str, Array]:
        """Read the masks of the structure and of the field of view."""
        return self._select_masks(self.base.read_masks(index))

    def recipe(self, index: int) -> str:
        """Return what determines a cube: its masks differ from those of the same cube in the base set."""
        return f"{self.base.recipe(index)} | masks {sorted(self.mask_names)}"

    def _select_masks(self, masks: Mapping[str, Any]) -> dict[str, Any]:
        return {name: mask for name, mask in masks.items() if name in self.mask_names}


def score_samples(samples: Path, plan: SweepPlan, *, workers: int | None = 0) -> tuple[Report, dict[str, Score]]:
    """Return the report, and every score by its name in the sweep: ``fid``, ``spectral-kl:vein``.

    Raises:
        HsevalError: a set can't be read, or the sets are not comparable.
    """
    data, scoring = plan.data, plan.scoring
    paths = {"samples": samples, "ref": data.ref, "train": data.train}
    sets = {
        role: None if path is None else open_set(path, layout=data.layout, wavelengths=data.wavelengths)
        for role, path in paths.items()
    }
    options: dict[str, Any] = {
        "extractor": scoring.extractor,
        "segmenter": scoring.segmenter,
        "seed": scoring.seed,
        "options": scoring.options,
        "device": plan.device,
        "workers": workers,
    }
    report = score(sets["samples"], ref=sets["ref"], train=sets["train"], metrics=scoring.metrics, **options)
    scores = {metric_score.name: metric_score for metric_score in report.scores}
    options["extractor"] = None
    for metric, structure in _iterate_structure_scores(plan):
        masked = {role: None if cubes is None else SingleStructureSet(cubes, structure) for role, cubes in sets.items()}
        structure_report = score(
            masked["samples"], ref=masked["ref"], train=masked["train"], metrics=[metric], **options
        )
        scores[f"{metric}:{structure}"] = _require_structure(structure_report[metric], structure)
    return report, scores


def _iterate_structure_scores(plan: SweepPlan) -> Iterator[tuple[str, str]]:
    for metric, structures in plan.scoring.by_structure.items():
        for structure in structures:
            yield metric, structure


def _require_structure(structure_score: Score, structure: str) -> Score:
    """Return a score of one structure; without a value if the whole field was scored for lack of that structure."""
    structures = structure_score.details.get("structures")
    if structure == FOV or structures is None or structure in structures:
        return structure_score
    verdict = f"not computed: no structure {structure!r} on both sides"
    return Score(name=structure_score.name, better=structure_score.better, verdict=verdict)
