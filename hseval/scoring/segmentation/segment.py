"""Scores whose masks come from a segmenter: when one is used, what is described through it, what the report says."""

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
    """Return the segmenter to use, or None: masks as they come.

    Without a name, the default one where the samples lack masks of a structure that the reference has.

    Raises:
        HsevalError: a segmenter was asked for that is not there, that nothing needs, or that can't be fitted.
    """
    if name is not None and name != NO_SEGMENTER:
        get_plugins().find("segmenter", name)
    if name == NO_SEGMENTER:
        return None
    wanted = set(sets.reference.structures) - {FOV}
    lacking = tuple(sorted(wanted - set(sets.samples.structures)))
    chosen = SegmenterSpec(
        name or DEFAULT_SEGMENTER, name is not None, lacking, options.get(name or DEFAULT_SEGMENTER, {}), device
    )
    if not any(_reads_structures(each) for each in extractors.values()):
        if name is not None:
            raise HsevalError(f"--segmenter {name}: none of the metrics asked for looks at structures")
        return None
    if not wanted and name is not None:
        raise HsevalError(
            f"--segmenter {name}: the reference {sets.reference.info.location} has no masks that it could be fitted on"
        )
    return chosen if wanted and (name is not None or lacking) else None


@dataclasses.dataclass(frozen=True)
class SegmentedScore:
    """Sets described by the masks that a segmenter found.

    Attributes:
        quality: the segmenter, and how good its masks are.
        extracted_sets: the described sets, by role.
        own_mask_inputs: the sets described by the masks that they came with; None where the samples bring none of use.
    """

    quality: SegmentationQuality
    extracted_sets: ExtractedByRole
    own_mask_inputs: ExtractedInputs | None

    def annotate_scores(self, scores: Sequence[Score], metrics: Sequence[Metric], context: RunContext) -> list[Score]:
        """Return the scores: those that look at structures with whose masks tell them, and the value by the sets' own.

        Args:
            scores: by the segmenter's masks.
            metrics: theirs.
            context: how the others are computed.
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
    """Return what is to be known where no segmenter is used, and the samples' own masks tell their structures."""
    if not _find_supplied_structures(sets) or not any(_reads_structures(each) for each in extractors.values()):
        return []
    return [
        "structures are where the sets' own masks say; a generator's own may flatter it (--segmenter "
        f"{DEFAULT_SEGMENTER} finds them in all sets alike, and shows both figures)"
    ]


def build_unsegmented_plan(
    segmenter_spec: SegmenterSpec | None, sets: InputSets, plan: ExtractionPlan
) -> ExtractionPlan:
    """Return the plan by which a set is described before structures are found in it.

    What looks at structures waits, unless the samples bring masks that a second score can be had by.
    """
    if segmenter_spec is None or _find_supplied_structures(sets):
        return plan
    return dataclasses.replace(plan, extractors=tuple(each for each in plan.extractors if not _reads_structures(each)))


def segment_inputs(
    segmenter_spec: SegmenterSpec,
    inputs: ExtractedInputs,
    extracted_sets: ExtractedByRole,
    context: RunContext,
    extract: ExtractFunction,
) -> SegmentedScore | str:
    """Return the sets described by the masks that a segmenter finds in them.

    Args:
        segmenter_spec: the segmenter.
        inputs: the sets by :func:`build_unsegmented_plan`, for the score by their own masks.
        extracted_sets: the same, shared cubes included.
        context: how.
        extract: describes a set by a plan.

    Returns:
        a note instead where nobody asked for the segmenter, and it can't be fitted, finds nothing or nothing new.

    Raises:
        HsevalError: it was asked for and can't be fitted or finds nothing, or it fails.
    """
    try:
        reference, plan = inputs.sets.reference, inputs.plans["reference"]
        folds = build_folds(segmenter_spec, reference, extracted_sets["reference"], plan)
        if why := _explain_no_segmenter(segmenter_spec, folds, _find_supplied_structures(inputs.sets)):
            return why
        return _extract_segmented(
            CrossFitSegmenter(segmenter_spec, reference, folds, plan, context), inputs, extracted_sets, extract
        )
    except SegmentationError as error:
        if segmenter_spec.is_requested:
            raise
        return f"masks as they come, and no segmenter: {error}"


def _explain_no_segmenter(segmenter_spec: SegmenterSpec, folds: Folds, supplied_structures: Sequence[str]) -> str:
    """Return why no segmenter is used though nobody forbade it, or ``""``."""
    if (
        segmenter_spec.is_requested
        or not supplied_structures
        or set(segmenter_spec.missing_structures) & set(folds.structures)
    ):
        return ""
    few = "; ".join(f"{name}: {folds.exclusion_reasons[name]}" for name in segmenter_spec.missing_structures)
    return f"masks as they come: what the samples lack masks of can't be segmented ({few})"


def _extract_segmented(
    cross_fit: CrossFitSegmenter, inputs: ExtractedInputs, extracted_sets: ExtractedByRole, extract: ExtractFunction
) -> SegmentedScore:
    """Return the sets described by the masks of all structures that are found on held-out cubes.

    Raises:
        HsevalError: the segmenter fails, or finds none.
    """
    sets, plans, choice, folds = inputs.sets, inputs.plans, cross_fit.spec, cross_fit.folds
    of_reference = cross_fit.compute_masks(sets.reference, extracted_sets["reference"], label="reference")
    reading = tuple(each.name for each in plans["reference"].extractors if _reads_structures(each))
    brought = _find_supplied_structures(sets)
    held_out = _stack_agreement(of_reference)[folds.is_annotated]
    about = SegmentationQuality(choice, folds, reading, held_out, None, brought)
    if not about.get_usable_structures():
        raise SegmentationError(
            f"{choice.name!r} finds none of the reference's structures on held-out cubes: Dice {about.format_dice_list()}, "
            f"expected at least {MIN_DICE} (--segmenter none scores by the sets' own masks)"
        )
    whole = dict(extracted_sets)
    for role, cubes in sets.items():
        looking = tuple(each for each in plans[role].extractors if _reads_structures(each))
        if not looking:
            continue
        columns = (
            of_reference if role == "reference" else cross_fit.compute_masks(cubes, extracted_sets[role], label=role)
        )
        if role == "samples" and brought:
            about = dataclasses.replace(about, sample_counts=_stack_agreement(columns))
        masks = {int(place): each[MASKS] for place, each in zip(extracted_sets[role].index, columns, strict=True)}
        segmented = SegmentedSet(
            cubes,
            structures=folds.structures,
            visible_structures=about.get_usable_structures(),
            packed_masks=masks,
            field=plans[role].field,
        )
        names = tuple(sorted({FOV, *segmented.structures}))
        plan = dataclasses.replace(plans[role], extractors=looking, structures=names)
        by_masks = extract(segmented, plan, cross_fit.context, label=f"structures of {role}")
        whole[role] = merge_segmented(extracted_sets[role], by_masks, [each.name for each in looking], choice.name)
    return SegmentedScore(about, whole, inputs if brought else None)


def _stack_agreement(columns: Sequence[Columns]) -> NDArray[Any]:
    return np.stack([each[AGREEMENT] for each in columns])


def merge_segmented(
    extracted: ExtractedSet, segmented: ExtractedSet, names: Sequence[str], masks_from: str
) -> ExtractedSet:
    """Return a described set whose columns of the extractors ``names`` are those of its segmented twin."""
    place = {int(index): row for row, index in enumerate(segmented.index)}
    rows = segmented.features.select(
        np.array([place[int(index)] for index in extracted.index], dtype=np.int64)
    ).select_extractors(names)
    kept = {
        name: column
        for name, column in extracted.features.columns.items()
        if name.split("/", maxsplit=1)[0] not in names
    }
    columns = {**kept, **rows.columns}
    told = dataclasses.replace(extracted.features, columns=columns, structures=rows.structures, mask_source=masks_from)
    return dataclasses.replace(extracted, features=told)


def _reads_structures(spec: ExtractorSpec) -> bool:
    return reads_structures(spec.build())


def _find_supplied_structures(sets: InputSets) -> tuple[str, ...]:
    """Return the structures of the reference that the samples come with masks of."""
    return tuple(sorted(set(sets.samples.structures) & set(sets.reference.structures) - {FOV}))


def _build_own_mask_details(own_score: Score, details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the details that show a score by the sets' own masks."""
    kept = {"value": own_score.value, "floor": own_score.floor, "verdict": own_score.verdict, "n": own_score.n}
    kept |= {
        name: own_score.details[name] for name in ("spread", "floor_spread", "structures") if name in own_score.details
    }
    shown = dict(details.get("shown") or {})
    shown["by the sets' own masks (the samples' may flatter): value"] = own_score.value
    shown["by the sets' own masks: floor"] = own_score.floor
    return {"own_masks": kept, "shown": shown}
