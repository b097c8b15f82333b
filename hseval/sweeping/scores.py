"""Scores of a run's samples: one report of all metrics, and one for each structure that is scored alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hseval.cubes import FIELD
from hseval.evaluate import score
from hseval.open import open_set
from hseval.report import Report, Score
from hseval.sweeping.only import OnlyStructure
from hseval.sweeping.plan import Plan


def scored(samples: Path, plan: Plan, *, workers: int | None = 0) -> tuple[Report, dict[str, Score]]:
    """Return the report, and every score by its name in the sweep: ``fid``, ``spectral-kl:vein``.

    Raises:
        HsevalError: a set that can't be read, or does not compare.
    """
    data, scoring = plan.data, plan.scoring
    paths = {"samples": samples, "ref": data.ref, "train": data.train}
    sets = {
        role: None if path is None else open_set(path, layout=data.layout, wavelengths=data.wavelengths)
        for role, path in paths.items()
    }
    given: dict[str, Any] = {
        "extractor": scoring.extractor,
        "segmenter": scoring.segmenter,
        "seed": scoring.seed,
        "options": scoring.options,
        "device": plan.device,
        "workers": workers,
    }
    report = score(sets["samples"], ref=sets["ref"], train=sets["train"], metrics=scoring.metrics, **given)
    found = {each.name: each for each in report.scores}
    for metric, structure in _alone(plan):
        only = {role: None if each is None else OnlyStructure(each, structure) for role, each in sets.items()}
        few = {**given, "extractor": None}
        part = score(only["samples"], ref=only["ref"], train=only["train"], metrics=[metric], **few)
        found[f"{metric}:{structure}"] = _of(part[metric], structure)
    return report, found


def _alone(plan: Plan) -> Iterator[tuple[str, str]]:
    for metric, structures in plan.scoring.by_structure.items():
        for structure in structures:
            yield metric, structure


def _of(found: Score, structure: str) -> Score:
    """Return a score of one structure; without a value where that one was not scored, but the whole field instead."""
    scored = found.details.get("structures")
    if structure == FIELD or not isinstance(scored, dict) or structure in scored:
        return found
    why = f"not computed: no structure {structure!r} on both sides"
    return Score(found.name, None, None, None, found.better, why, 0)
