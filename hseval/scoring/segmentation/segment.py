"""Scores whose masks come from a segmenter: when one is used, the features it affects, and the report's notes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.cubes import FOV
from hseval.core.plugin_manager import get_plugins
from hseval.core.report import Score
from hseval.pipeline.context import ExtractedInputs, RunContext
from hseval.pipeline.extract import ExtractedSet
from hseval.pipeline.inputs import InputSets
from hseval.pipeline.worker import ExtractionPlan, ExtractorSpec, reads_structures
from hseval.scoring.score_metric import score_metric
from hseval.scoring.segmentation.cross_fit import CrossFitSegmenter, Folds, SegmentationError, build_folds
from hseval.scoring.segmentation.jobs import AGREEMENT, MASKS, Columns, SegmenterSpec
from hseval.scoring.segmentation.quality import MIN_DICE, SegmentationQuality
from hseval.scoring.segmentation.segmented_set import SegmentedSet
from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.hookspecs import Metric

DEFAULT_SEGMENTER = "pixels"
NO_SEGMENTER = "none"

ExtractedByRole = Mapping[str, ExtractedSet]
ExtractFunction = Callable[..., ExtractedSet]


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
    spec = SegmenterSpec(
        name or DEFAULT_SEGMENTER, name is not None, missing, options.get(name or DEFAULT_SEGMENTER, {}), device
    )
    if not any(_reads_structures(extractor) for extractor in extractors.values()):
        if name is not None:
            raise HsevalError(f"--segmenter {name}: none of the requested metrics uses structures")
        return None
    if not structures and name is not None:
        raise HsevalError(
            f"--segmenter {name}: the reference {sets.reference.info.location} has no masks that it could be fitted on"
        )
    return spec if structures and (name is not None or missing) else None


@dataclasses.dataclass(frozen=True)
class SegmentedScore:
    """Features that use the masks of a segmenter.

    Attributes:
        quality: the segmenter, and the accuracy of its masks.
        extracted_sets: the sets' features, by role.
        own_mask_inputs: the features that use the masks in the files; None where the samples have none to use.
    """

    quality: SegmentationQuality
    extracted_sets: ExtractedByRole
    own_mask_inputs: ExtractedInputs | None

    def annotate_scores(self, scores: Sequence[Score], metrics: Sequence[Metric], context: RunContext) -> list[Score]:
        """Return the scores; those that depend on structures get details on masks and the value with the files' masks.

        Args:
            scores: the scores with the segmenter's masks.
            metrics: their metrics.
            context: the context for scores with the files' masks.
        """
        return [self._annotate_score(score, metric, context) for score, metric in zip(scores, metrics, strict=True)]

    def _annotate_score(self, score: Score, metric: Metric, context: RunContext) -> Score:
        if not set(metric.needs.features) & set(self.quality.structure_extractors):
            return score
        details = {**score.details, "segmenter": self.quality.build_details()}
        if self.own_mask_inputs is not None:
            details |= _build_own_mask_details(
                score_metric(metric, self.own_mask_inputs, context, with_interval=False), details
            )
        return dataclasses.replace(score, details=details)


def collect_own_mask_notes(sets: InputSets, extractors: Mapping[str, ExtractorSpec]) -> list[str]:
    """Return a note where no segmenter is used, and the samples' own masks locate their structures."""
    if not _find_supplied_structures(sets) or not any(_reads_structures(spec) for spec in extractors.values()):
        return []
    return [
        "using the masks in the files; masks supplied by the generator may bias the score (--segmenter "
        f"{DEFAULT_SEGMENTER} finds structures in all sets in the same way, and shows both scores)"
    ]


def build_unsegmented_plan(
    segmenter_spec: SegmenterSpec | None, sets: InputSets, plan: ExtractionPlan
) -> ExtractionPlan:
    """Return the plan by which features are extracted before structures are segmented.

    It leaves out extractors that read structures, unless the samples have masks, for a second score with these.
    """
    if segmenter_spec is None or _find_supplied_structures(sets):
        return plan
    return dataclasses.replace(
        plan, extractors=tuple(extractor for extractor in plan.extractors if not _reads_structures(extractor))
    )


def segment_inputs(
    segmenter_spec: SegmenterSpec,
    inputs: ExtractedInputs,
    extracted_sets: ExtractedByRole,
    context: RunContext,
    extract: ExtractFunction,
) -> SegmentedScore | str:
    """Return the features of the sets with the masks that a segmenter finds in them.

    Args:
        segmenter_spec: the segmenter.
        inputs: the features by :func:`build_unsegmented_plan`, for the score with the files' masks.
        extracted_sets: the same, shared cubes included.
        context: of the run.
        extract: extracts the features of a set by a plan.

    Returns:
        a note instead, if the segmenter was not requested and can't be fitted, finds nothing or nothing new.

    Raises:
        HsevalError: it was requested and can't be fitted or finds nothing, or it fails.
    """
    try:
        reference, plan = inputs.sets.reference, inputs.plans["reference"]
        folds = build_folds(segmenter_spec, reference, extracted_sets["reference"], plan)
        if reason := _explain_no_segmenter(segmenter_spec, folds, _find_supplied_structures(inputs.sets)):
            return reason
        return _extract_segmented(
            CrossFitSegmenter(segmenter_spec, reference, folds, plan, context), inputs, extracted_sets, extract
        )
    except SegmentationError as error:
        if segmenter_spec.is_requested:
            raise
        return f"using the masks in the files, without a segmenter: {error}"


def _explain_no_segmenter(segmenter_spec: SegmenterSpec, folds: Folds, supplied_structures: Sequence[str]) -> str:
    """Return why the default segmenter is not used, or ``""``."""
    if (
        segmenter_spec.is_requested
        or not supplied_structures
        or set(segmenter_spec.missing_structures) & set(folds.structures)
    ):
        return ""
    reasons = "; ".join(f"{name}: {folds.exclusion_reasons[name]}" for name in segmenter_spec.missing_structures)
    return f"using the masks in the files: structures that the samples lack masks of can't be segmented ({reasons})"


def _extract_segmented(
    cross_fit: CrossFitSegmenter, inputs: ExtractedInputs, extracted_sets: ExtractedByRole, extract: ExtractFunction
) -> SegmentedScore:
    """Return the features of the sets with the masks of all structures that are found on held-out cubes.

    Raises:
        HsevalError: the segmenter fails, or finds none.
    """
    sets, plans, spec, folds = inputs.sets, inputs.plans, cross_fit.spec, cross_fit.folds
    reference_columns = cross_fit.compute_masks(sets.reference, extracted_sets["reference"], label="reference")
    extractor_names = tuple(
        extractor.name for extractor in plans["reference"].extractors if _reads_structures(extractor)
    )
    supplied = _find_supplied_structures(sets)
    holdout_counts = _stack_agreement(reference_columns)[folds.is_annotated]
    quality = SegmentationQuality(spec, folds, extractor_names, holdout_counts, None, supplied)
    if not quality.get_usable_structures():
        raise SegmentationError(
            f"{spec.name!r} finds none of the reference's structures on held-out cubes: Dice "
            f"{quality.format_dice_list()}, expected at least {MIN_DICE} (--segmenter none uses the masks in the files)"
        )
    segmented_sets = dict(extracted_sets)
    for role, cubes in sets.items():
        structure_extractors = tuple(extractor for extractor in plans[role].extractors if _reads_structures(extractor))
        if not structure_extractors:
            continue
        columns = (
            reference_columns
            if role == "reference"
            else cross_fit.compute_masks(cubes, extracted_sets[role], label=role)
        )
        if role == "samples" and supplied:
            quality = dataclasses.replace(quality, sample_counts=_stack_agreement(columns))
        masks = {
            int(index): cube_columns[MASKS]
            for index, cube_columns in zip(extracted_sets[role].index, columns, strict=True)
        }
        segmented = SegmentedSet(
            cubes,
            structures=folds.structures,
            visible_structures=quality.get_usable_structures(),
            packed_masks=masks,
            field=plans[role].field,
        )
        structures = tuple(sorted({FOV, *segmented.structures}))
        plan = dataclasses.replace(plans[role], extractors=structure_extractors, structures=structures)
        extracted = extract(segmented, plan, cross_fit.context, label=f"structure features of {role}")
        segmented_sets[role] = merge_segmented(
            extracted_sets[role], extracted, [extractor.name for extractor in structure_extractors], spec.name
        )
    return SegmentedScore(quality, segmented_sets, inputs if supplied else None)


def _stack_agreement(columns: Sequence[Columns]) -> NDArray[Any]:
    return np.stack([cube_columns[AGREEMENT] for cube_columns in columns])


def merge_segmented(
    extracted: ExtractedSet, segmented: ExtractedSet, names: Sequence[str], mask_source: str
) -> ExtractedSet:
    """Return a set's features with the columns of the extractors ``names`` replaced by those of its segmented copy."""
    row_by_index = {int(index): row for row, index in enumerate(segmented.index)}
    segmented_features = segmented.features.select(
        np.array([row_by_index[int(index)] for index in extracted.index], dtype=np.int64)
    ).select_extractors(names)
    other_columns = {
        name: column
        for name, column in extracted.features.columns.items()
        if name.split("/", maxsplit=1)[0] not in names
    }
    columns = {**other_columns, **segmented_features.columns}
    features = dataclasses.replace(
        extracted.features, columns=columns, structures=segmented_features.structures, mask_source=mask_source
    )
    return dataclasses.replace(extracted, features=features)


def _reads_structures(spec: ExtractorSpec) -> bool:
    return reads_structures(spec.build())


def _find_supplied_structures(sets: InputSets) -> tuple[str, ...]:
    """Return the structures of the reference that the samples have masks of."""
    return tuple(sorted(set(sets.samples.structures) & set(sets.reference.structures) - {FOV}))


def _build_own_mask_details(own_score: Score, details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the details on a score that uses the masks in the files."""
    record = {"value": own_score.value, "floor": own_score.floor, "verdict": own_score.verdict, "n": own_score.n}
    record |= {
        name: own_score.details[name] for name in ("spread", "floor_spread", "structures") if name in own_score.details
    }
    shown = dict(details.get("shown") or {})
    shown["value using the masks in the files (those of the samples may bias it)"] = own_score.value
    shown["floor using the masks in the files"] = own_score.floor
    return {"own_masks": record, "shown": shown}
