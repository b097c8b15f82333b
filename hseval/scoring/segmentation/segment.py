"""Segmentation as a stage of scoring: when a segmenter is used, and the features that its masks give."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hseval.core.cubes import FOV, CubeSet
from hseval.core.plugin_manager import get_plugins
from hseval.core.protocols import Metric
from hseval.core.report import Score
from hseval.core.score_records import OwnMaskScore
from hseval.pipeline.context import ExtractedInputs, RunContext
from hseval.pipeline.extract import ExtractedSet, UnchangedSet
from hseval.pipeline.inputs import InputSets
from hseval.pipeline.worker import ExtractionPlan, ExtractorSpec
from hseval.scoring.features import extract_set, list_structures
from hseval.scoring.score_metric import score_metric
from hseval.scoring.segmentation.cross_fit import CrossFitSegmenter, Folds, SegmentationError, build_folds
from hseval.scoring.segmentation.jobs import AGREEMENT, MASKS, SegmenterSpec
from hseval.scoring.segmentation.quality import MIN_DICE, SegmentationQuality
from hseval.scoring.segmentation.segmented_set import SegmentedSet
from hseval.utils.errors import HsevalError

DEFAULT_SEGMENTER = "pixels"
NO_SEGMENTER = "none"
OWN_MASKS_NOTE = (
    "using the masks in the files; masks supplied by the generator may bias the score (--segmenter "
    f"{DEFAULT_SEGMENTER} finds structures in all sets in the same way, and shows both scores)"
)

PlansByRole = Mapping[str, ExtractionPlan]
ExtractedByRole = Mapping[str, ExtractedSet]


def choose_segmenter(
    name: str | None, sets: InputSets, extractors: Mapping[str, ExtractorSpec], options: Mapping[str, Any], device: str
) -> SegmenterSpec | None:
    """Return the segmenter to use, or None: the masks in the files.

    Without a name, the default one where the samples lack masks of a structure that the reference has.

    Raises:
        HsevalError: the requested segmenter is unknown, not needed by any metric, or can't be fitted.
    """
    if name is not None and name != NO_SEGMENTER:
        get_plugins().find("segmenter", name)
    if name == NO_SEGMENTER:
        return None
    structures = set(sets.reference.structures) - {FOV}
    missing = tuple(sorted(structures - set(sets.samples.structures)))
    used = name or DEFAULT_SEGMENTER
    spec = SegmenterSpec(used, options.get(used, {}), device, name is not None, missing)
    if not any(extractor.reads_structures for extractor in extractors.values()):
        if name is not None:
            raise HsevalError(f"--segmenter {name}: none of the requested metrics uses structures")
        return None
    if not structures and name is not None:
        location = sets.reference.info.location
        raise HsevalError(f"--segmenter {name}: the reference {location} has no masks that it could be fitted on")
    return spec if structures and (name is not None or missing) else None


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """The features of all sets, those of structures included.

    Attributes:
        extracted: the sets' features by role, shared cubes included.
        notes: on the masks.
        quality: the segmenter, and the accuracy of its masks; None: the masks in the files are used.
    """

    extracted: ExtractedByRole
    notes: Sequence[str]
    quality: SegmentationQuality | None = None


def postpone_structures(plans: PlansByRole, sets: InputSets) -> PlansByRole:
    """Return the plans of the pass before segmentation: without the extractors that read structures.

    Where the samples have masks, these extractors stay, for a second score with the masks in the files.
    """
    return plans if _find_supplied_structures(sets) else _select_extractors(plans, read_structures=False)


def segment_sets(
    spec: SegmenterSpec | None, sets: InputSets, plans: PlansByRole, extracted: ExtractedByRole, context: RunContext
) -> Segmentation:
    """Return the features of the sets with the masks that a segmenter finds in them.

    Without a segmenter, or where the default one can't be fitted, finds nothing or nothing new: with the masks in the
    files.

    Args:
        spec: the segmenter, or None.
        sets: the sets.
        plans: all features.
        extracted: the features by ``plans``; with a segmenter, by those of :func:`postpone_structures`.
        context: of the run.

    Raises:
        HsevalError: a requested segmenter can't be fitted or finds nothing, or a segmenter fails.
    """
    supplied = _find_supplied_structures(sets)
    structure_plans = _select_extractors(plans, read_structures=True)
    notes = [OWN_MASKS_NOTE] if structure_plans and supplied else []
    if spec is None:
        return Segmentation(extracted, notes)
    try:
        folds = build_folds(spec, sets.reference, extracted["reference"], plans["reference"])
        reason = _explain_no_segmenter(spec, folds, supplied)
        if not reason:
            reference = UnchangedSet(sets.reference, extracted["reference"])
            cross_fit = CrossFitSegmenter(spec, reference, folds, plans["reference"], context)
            return _segment_sets(cross_fit, sets, structure_plans, extracted, supplied)
    except SegmentationError as error:
        if spec.is_requested:
            raise
        reason = f"using the masks in the files, without a segmenter: {error}"
    if not supplied:
        extracted = _add_structure_features(extracted, dict(sets.items()), structure_plans, context, mask_source="set")
    return Segmentation(extracted, [*notes, reason])


def add_segmentation_records(
    scores: Sequence[Score],
    metrics: Sequence[Metric],
    quality: SegmentationQuality,
    file_inputs: ExtractedInputs,
    context: RunContext,
) -> list[Score]:
    """Return the scores; those that depend on structures with a record on the masks.

    Args:
        scores: the scores with the segmenter's masks.
        metrics: their metrics.
        quality: the accuracy of these masks.
        file_inputs: the features with the masks in the files; used where the samples have some.
        context: of the run.
    """
    recorded = []
    for score, metric in zip(scores, metrics, strict=True):
        if not set(metric.needs.features) & set(quality.structure_extractors):
            recorded.append(score)
            continue
        record = quality.build_record()
        if quality.supplied_structures:
            own_score = score_metric(metric, file_inputs, context, with_interval=False).score
            record = dataclasses.replace(record, own_masks=_build_own_mask_score(own_score))
        recorded.append(dataclasses.replace(score, segmentation=record))
    return recorded


def _find_supplied_structures(sets: InputSets) -> tuple[str, ...]:
    """Return the structures of the reference that the samples have masks of."""
    return tuple(sorted(set(sets.samples.structures) & set(sets.reference.structures) - {FOV}))


def _select_extractors(plans: PlansByRole, *, read_structures: bool) -> dict[str, ExtractionPlan]:
    """Return the plans with the extractors that read structures, of the sets that need any; or with the others."""
    selected = {}
    for role, plan in plans.items():
        specs = tuple(spec for spec in plan.extractors if spec.reads_structures == read_structures)
        if specs or not read_structures:
            selected[role] = dataclasses.replace(plan, extractors=specs)
    return selected


def _explain_no_segmenter(spec: SegmenterSpec, folds: Folds, supplied_structures: Sequence[str]) -> str:
    """Return why the default segmenter is not used, or ``""``."""
    if spec.is_requested or not supplied_structures or set(spec.missing_structures) & set(folds.structures):
        return ""
    reasons = "; ".join(f"{name}: {folds.exclusion_reasons[name]}" for name in spec.missing_structures)
    return f"using the masks in the files: structures that the samples lack masks of can't be segmented ({reasons})"


def _segment_sets(
    cross_fit: CrossFitSegmenter,
    sets: InputSets,
    structure_plans: PlansByRole,
    extracted: ExtractedByRole,
    supplied_structures: tuple[str, ...],
) -> Segmentation:
    """Return the features of the sets with the masks of all structures that are found on held-out cubes.

    Raises:
        HsevalError: the segmenter fails, or finds none.
    """
    spec, folds = cross_fit.spec, cross_fit.folds
    columns = {"reference": cross_fit.compute_masks(sets.reference, extracted["reference"], label="reference")}
    agreement = np.stack([cube_columns[AGREEMENT] for cube_columns in columns["reference"]])
    names = tuple(extractor.name for extractor in structure_plans["reference"].extractors)
    quality = SegmentationQuality(spec, folds, names, agreement[folds.is_annotated], None, supplied_structures)
    usable = quality.get_usable_structures()
    if not usable:
        raise SegmentationError(
            f"{spec.name!r} finds none of the reference's structures on held-out cubes: Dice "
            f"{quality.format_dice_list()}, expected at least {MIN_DICE} (--segmenter none uses the masks in the files)"
        )
    segmented_sets: dict[str, CubeSet] = {}
    plans = {}
    for role, plan in structure_plans.items():
        if role not in columns:
            columns[role] = cross_fit.compute_masks(sets[role], extracted[role], label=role)
        indices = extracted[role].index.tolist()
        segmented_sets[role] = SegmentedSet(
            sets[role],
            structures=folds.structures,
            visible_structures=usable,
            packed_masks={index: masks[MASKS] for index, masks in zip(indices, columns[role], strict=True)},
            field=plan.field,
        )
        plans[role] = dataclasses.replace(plan, structures=list_structures(segmented_sets[role]))
    if supplied_structures:
        agreement = np.stack([cube_columns[AGREEMENT] for cube_columns in columns["samples"]])
        quality = dataclasses.replace(quality, sample_counts=agreement)
    features = _add_structure_features(extracted, segmented_sets, plans, cross_fit.context, mask_source=spec.name)
    return Segmentation(features, list(quality.iter_notes()), quality)


def _add_structure_features(
    extracted: ExtractedByRole,
    sets: Mapping[str, CubeSet],
    plans: PlansByRole,
    context: RunContext,
    *,
    mask_source: str,
) -> ExtractedByRole:
    """Return the features with those of the extractors that read structures, extracted from ``sets``."""
    merged = dict(extracted)
    for role, plan in plans.items():
        added = extract_set(sets[role], plan, context, label=f"structure features of {role}")
        # Cubes are sorted by their masks as well, where their pixels are equal: other masks, another order.
        row_by_index = {index: row for row, index in enumerate(added.index.tolist())}
        order = np.array([row_by_index[index] for index in extracted[role].index.tolist()], dtype=np.int64)
        columns = added.features.select(order).select_extractors([spec.name for spec in plan.extractors]).columns
        features = extracted[role].features.add_columns(columns)
        features = dataclasses.replace(features, structures=plan.structures, mask_source=mask_source)
        merged[role] = dataclasses.replace(extracted[role], features=features)
    return merged


def _build_own_mask_score(score: Score) -> OwnMaskScore:
    """Return what a report keeps of a score that uses the masks in the files."""
    statistics = score.statistics
    return OwnMaskScore(
        value=score.value,
        floor=score.floor,
        verdict=score.verdict,
        n=score.n,
        value_std=statistics.value_std if statistics else None,
        floor_std=statistics.floor_std if statistics else None,
        structures=score.details.get("structures"),
    )
