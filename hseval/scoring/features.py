"""The features of a score's sets: what is extracted from which set, the cubes of a quick look, and the pass itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from hseval.core.cubes import FOV, CubeSet
from hseval.pipeline.context import ExtractedInputs, RunContext
from hseval.pipeline.extract import ExtractedSet, extract_features
from hseval.pipeline.inputs import InputSets, draw_quick_subset, exclude_training_cubes
from hseval.pipeline.worker import ExtractionPlan, ExtractorSpec
from hseval.utils.random_streams import create_rng

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

QUICK_CUBES = 64
GPU_BATCH_SIZE = 16


def plan_extraction(
    sets: InputSets,
    extractors: Mapping[str, ExtractorSpec],
    train_extractors: Collection[str | None],
    field: NDArray[np.bool_] | None,
) -> dict[str, ExtractionPlan]:
    """Return by role what to extract; a set's structures are its own, so that other sets do not affect its features.

    Args:
        sets: the sets.
        extractors: all extractors, by name.
        train_extractors: names of those that the training set needs.
        field: bool ``(y, x)`` in place of the cubes' own fields, or None.
    """
    plans = {}
    for role, cubes in sets.items():
        specs = tuple(spec for name, spec in extractors.items() if role != "train" or name in train_extractors)
        plans[role] = ExtractionPlan(specs, list_structures(cubes), cubes.wavelengths, field)
    return plans


def list_structures(cubes: CubeSet) -> tuple[str, ...]:
    """Return a set's structures, sorted, with ``fov``."""
    return tuple(sorted({FOV, *cubes.structures}))


def extract_set(cubes: CubeSet, plan: ExtractionPlan, context: RunContext, *, label: str) -> ExtractedSet:
    """Extract the features of one set; ``label`` names them in progress."""
    return extract_features(
        cubes,
        plan,
        cache=context.cache,
        workers=context.device_workers,
        batch_size=context.batch_size or (1 if context.device == "cpu" else GPU_BATCH_SIZE),
        ranks=context.ranks,
        verify=context.verify,
        progress=context.make_progress_callback(f"extracting {label}"),
    )


def extract_sets(
    sets: InputSets, plans: Mapping[str, ExtractionPlan], context: RunContext, *, label: str = "features"
) -> dict[str, ExtractedSet]:
    """Extract the features of all sets, by role."""
    return {role: extract_set(cubes, plans[role], context, label=f"{label} of {role}") for role, cubes in sets.items()}


def draw_quick_sets(
    sets: InputSets, plans: Mapping[str, ExtractionPlan], context: RunContext
) -> tuple[InputSets, dict[str, ExtractedSet]]:
    """Return random subsets of the sets, and the content hashes of the full sets.

    Training cubes are removed from the reference before the draw, as shared cubes have to be found in the full sets.
    """
    hash_plans = {role: dataclasses.replace(plan, extractors=()) for role, plan in plans.items()}
    full_sets = extract_sets(sets, hash_plans, context, label="content hashes")
    sampled: dict[str, CubeSet] = {}
    for role, extracted in exclude_training_cubes(full_sets)[0].items():
        rows = draw_quick_subset(extracted.features.groups.tolist(), QUICK_CUBES, create_rng(context.seed, "quick"))
        sampled[role] = sets[role].subset(sorted(int(extracted.index[row]) for row in rows))
    return InputSets(**sampled), full_sets


def assemble_inputs(
    sets: InputSets, plans: Mapping[str, ExtractionPlan], extracted: Mapping[str, ExtractedSet]
) -> ExtractedInputs:
    """Return what metrics get: the features of all sets, without training cubes in the reference."""
    without_training_cubes, has_holdout = exclude_training_cubes(extracted)
    return ExtractedInputs(sets, plans, without_training_cubes, has_holdout)
