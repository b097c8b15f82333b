"""Scores a set of generated cubes against real ones: from three paths to a report."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hseval.core.cubes import FOV, CubeSet
from hseval.core.report import Report
from hseval.data.views import resolve_nested_options
from hseval.data.wavelengths import ResampledSet
from hseval.pipeline.context import ExtractedInputs, ProgressCallback, RunContext
from hseval.pipeline.extract import ExtractedSet, extract_features
from hseval.pipeline.inputs import (
    InputSets,
    Source,
    draw_quick_subset,
    exclude_cubes,
    find_common_field,
    find_shared_cubes,
    open_sets,
)
from hseval.pipeline.worker import ExtractionPlan, ExtractorSpec
from hseval.reporting.diagnosis import diagnose_report
from hseval.reporting.figures import build_figure_data, find_embedding_extractor
from hseval.scoring.metric_choice import Settings, build_metrics
from hseval.scoring.provenance import collect_provenance
from hseval.scoring.score_metric import score_metric
from hseval.scoring.segmentation.segment import (
    SegmentedScore,
    build_unsegmented_plan,
    choose_segmenter,
    collect_own_mask_notes,
    segment_inputs,
)
from hseval.scoring.warnings import collect_overlap_notes, collect_set_notes
from hseval.stats.multiple_testing import adjust_verdicts
from hseval.utils.device import resolve_device
from hseval.utils.distributed import Communicator, connect
from hseval.utils.errors import HsevalError
from hseval.utils.feature_cache import FeatureCache, get_cache_path
from hseval.utils.random_streams import create_rng

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hseval.core.hookspecs import Metric
    from hseval.scoring.segmentation.jobs import SegmenterSpec

QUICK_CUBES = 64
RESAMPLED_NOTE = (
    "interpolated bands are smoother than the reference's: metrics that are sensitive to noise may detect this"
)


def score(
    samples: Source,
    *,
    ref: Source,
    train: Source | None = None,
    metrics: Sequence[str] | None = None,
    extractor: str | None = None,
    segmenter: str | None = None,
    seed: int = 0,
    device: str | None = None,
    options: Settings | None = None,
    layout: str | None = None,
    wavelengths: Any = None,
    resample: bool = False,
    workers: int | None = 0,
    batch_size: int | None = None,
    quick: bool = False,
    cache: bool = True,
    verify: bool = False,
    progress: ProgressCallback | None = None,
    ranks: bool = False,
    exhibits: bool = False,
) -> Report:
    """Score generated cubes against real ones.

    Args:
        samples: the generated set: a path, a CubeSet or an array ``(n, band, y, x)``.
        ref: real cubes that the generator was not fitted on.
        train: the real cubes that the generator was fitted on; never replaced by ``ref``.
        metrics: names, or ``all``; None: the default four.
        extractor: in place of every metric's default feature extractor.
        segmenter: finds the structures in all sets; ``none``: the masks in the files. None: the default segmenter where
            the samples lack masks that the reference has.
        seed: one seed, from which every random stream is derived.
        device: ``"cpu"``, ``"cuda"`` ...; None: CUDA where it is available.
        options: plugin name -> option -> value.
        layout: ``"byx"`` or ``"yxb"``, where files do not state it.
        wavelengths: nm by band, a file, or ``"450:905:16"``, in place of those in the files.
        resample: interpolate samples and training set to the reference's wavelengths.
        workers: processes; 0: this one; None: as many as there are cores, once it pays.
        batch_size: cubes that an extractor gets at a time; None: 1 on a CPU (repeats to the last digit), 16 on a GPU.
        quick: a first look at 64 cubes of each set.
        cache: store features, and reuse them.
        verify: hash every cube again instead of trusting file stamps.
        progress: called with (task, done, total).
        ranks: share the work with the other processes that torchrun started with this one.
        exhibits: collect images, spectra and points for an HTML report; needs the training set's features, too.

    Raises:
        HsevalError: unusable or incompatible input or options; one line names the problem and a valid choice.
    """
    settings = {name: dict(values) for name, values in (options or {}).items()}
    built_metrics = build_metrics(metrics, extractor=extractor, settings=settings, quick=quick)
    device = resolve_device(device)
    extractors = _build_extractors(built_metrics, settings, device, extractor)
    if extractor not in {None, *extractors, *(spec.options.get("extractor") for spec in extractors.values())}:
        raise HsevalError(f"--extractor {extractor}: none of the requested metrics uses a feature extractor")
    sets = open_sets(samples, ref, train, layout=layout, wavelengths=wavelengths, resample=resample)
    if not sets.reference.info.wavelengths_known:
        extractors = {name: spec for name, spec in extractors.items() if not spec.needs_nm}
    segmenter_spec = choose_segmenter(segmenter, sets, extractors, settings, device)
    with FeatureCache(get_cache_path() if cache else None) as feature_cache:
        comm = connect() if ranks else Communicator()
        histogram_values: dict[str, Mapping[str, Any]] | None = {} if exhibits else None
        context = RunContext(
            feature_cache, comm, seed, device, workers, batch_size, quick, verify, progress, histogram_values
        )
        inputs, notes, segmented = _extract_sets(sets, built_metrics, extractors, context, segmenter_spec)
        scores = [score_metric(metric, inputs, context) for metric in built_metrics]
        scores = segmented.annotate_scores(scores, built_metrics, context) if segmented is not None else scores
        scores = adjust_verdicts(scores)
        figure_data = (
            build_figure_data(inputs, scores, context, extractor=find_embedding_extractor(built_metrics))
            if exhibits
            else None
        )
        notes.extend([feature_cache.first_error] if feature_cache.first_error else [])
    provenance = collect_provenance(
        sets={role: (cubes, getattr(inputs, role)) for role, cubes in inputs.sets.items()},
        settings={
            "seed": seed,
            "metrics": [metric.name for metric in built_metrics],
            "extractor": extractor,
            "segmenter": segmenter,
            "options": settings,
            "device": device,
            "batch_size": batch_size,
            "quick": quick,
            "resample": resample,
            "layout": layout,
            "wavelengths": wavelengths,
        },
        metrics=built_metrics,
        extractors=[spec.build() for spec in extractors.values()],
        segmenter=segmented.quality.spec.build() if segmented is not None else None,
    )
    notes.extend([RESAMPLED_NOTE] if _has_resampled_set(sets) else [])
    notes.extend(diagnose_report(Report(tuple(scores), (), provenance)))
    return Report(tuple(scores), tuple(notes), provenance, figure_data)


def _has_resampled_set(sets: InputSets) -> bool:
    return any(isinstance(cubes, ResampledSet) for _, cubes in sets.items())


def _build_extractors(
    metrics: Sequence[Metric], settings: Settings, device: str, extractor: str | None = None
) -> dict[str, ExtractorSpec]:
    """Return the extractors that some metric needs; builds each once, so that a wrong option is reported early."""
    names = sorted({name for metric in metrics for name in metric.needs.features})
    specs = {
        name: ExtractorSpec(name, resolve_nested_options(name, settings, extractor=extractor), device) for name in names
    }
    for spec in specs.values():
        spec.build()
    return specs


def _extract_sets(
    sets: InputSets,
    metrics: Sequence[Metric],
    extractors: Mapping[str, ExtractorSpec],
    context: RunContext,
    segmenter_spec: SegmenterSpec | None = None,
) -> tuple[ExtractedInputs, list[str], SegmentedScore | None]:
    field, field_note = find_common_field(sets)
    plans = {role: _build_plan(cubes, field) for role, cubes in sets.items()}
    sampled, full_sets = _draw_quick_sets(sets, plans, context) if context.quick else (sets, None)
    extracted_sets: dict[str, ExtractedSet] = {}
    for role, cubes in sampled.items():
        needed = [name for name in extractors if role != "train" or _is_needed_for_train(name, metrics, context)]
        plans[role] = dataclasses.replace(plans[role], extractors=tuple(extractors[name] for name in needed))
        extracted_sets[role] = _extract_set(
            cubes, build_unsegmented_plan(segmenter_spec, sampled, plans[role]), context, label=f"features of {role}"
        )
    full_sets = full_sets or extracted_sets
    notes = collect_set_notes(sets, extracted_sets, full_sets, quick_count=QUICK_CUBES if context.quick else None)
    notes.extend([field_note] if field_note else [])
    notes.extend(collect_overlap_notes(full_sets))
    inputs = _assemble_inputs(sampled, plans, extracted_sets)
    if segmenter_spec is None:
        return inputs, [*notes, *collect_own_mask_notes(sampled, extractors)], None
    segmented = segment_inputs(segmenter_spec, inputs, extracted_sets, context, _extract_set)
    if isinstance(segmented, str):  # a note: no segmenter was requested, and the default one can't be fitted
        unsegmented = _extract_sets(sets, metrics, extractors, context)
        return unsegmented[0], [*unsegmented[1], segmented], None
    return (
        _assemble_inputs(sampled, plans, segmented.extracted_sets),
        [*notes, *segmented.quality.iter_notes()],
        segmented,
    )


def _assemble_inputs(
    sets: InputSets, plans: Mapping[str, ExtractionPlan], extracted_sets: Mapping[str, ExtractedSet]
) -> ExtractedInputs:
    reference, has_holdout = _exclude_training_cubes(extracted_sets)
    return ExtractedInputs(sets, plans, extracted_sets["samples"], reference, extracted_sets.get("train"), has_holdout)


def _build_plan(cubes: CubeSet, field: NDArray[np.bool_] | None) -> ExtractionPlan:
    """Return a set's plan without extractors; its structures are its own, so that other sets do not affect it."""
    return ExtractionPlan((), tuple(sorted({FOV, *cubes.structures})), cubes.wavelengths, field)


def _is_needed_for_train(extractor: str, metrics: Sequence[Metric], context: RunContext) -> bool:
    if context.histogram_values is not None and extractor == find_embedding_extractor(metrics):
        return True
    return any(metric.needs.train and extractor in metric.needs.features for metric in metrics)


def _extract_set(cubes: CubeSet, plan: ExtractionPlan, context: RunContext, *, label: str) -> ExtractedSet:
    batch = context.batch_size or (1 if context.device == "cpu" else 16)
    return extract_features(
        cubes,
        plan,
        cache=context.cache,
        workers=context.workers if context.device == "cpu" else 0,
        batch_size=batch,
        comm=context.comm,
        verify=context.verify,
        progress=context.make_progress_callback(f"extracting {label}"),
    )


def _draw_quick_sets(
    sets: InputSets, plans: Mapping[str, ExtractionPlan], context: RunContext
) -> tuple[InputSets, dict[str, ExtractedSet]]:
    """Return random subsets of the sets, and the content hashes of the full sets.

    Training cubes are removed from the reference before the draw, as shared cubes have to be found in the full sets.
    """
    full_sets = {
        role: _extract_set(cubes, plans[role], context, label=f"content hashes of {role}")
        for role, cubes in sets.items()
    }
    reference, _ = _exclude_training_cubes(full_sets)
    sampled: dict[str, CubeSet] = {}
    for role, cubes in sets.items():
        extracted = reference if role == "reference" else full_sets[role]
        rows = draw_quick_subset(extracted.features.groups.tolist(), QUICK_CUBES, create_rng(context.seed, "quick"))
        sampled[role] = cubes.subset(sorted(int(extracted.index[i]) for i in rows))
    return InputSets(sampled["samples"], sampled["reference"], sampled.get("train")), full_sets


def _exclude_training_cubes(extracted_sets: Mapping[str, ExtractedSet]) -> tuple[ExtractedSet, bool]:
    """Return the reference without training cubes, and True; the whole reference, and False, if none is left.

    Without held-out cubes the reference still represents real cubes, but copies can't be detected.
    """
    reference = extracted_sets["reference"]
    if "train" not in extracted_sets:
        return reference, True
    is_shared = find_shared_cubes(reference, extracted_sets["train"])
    return (reference, False) if is_shared.all() else (exclude_cubes(reference, is_shared), True)
