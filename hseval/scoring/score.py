"""Scores a set of generated cubes against real ones: from three paths to a report."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from hseval.core.report import Report
from hseval.pipeline.context import ProgressCallback, RunContext
from hseval.pipeline.inputs import Source, find_common_field, open_sets
from hseval.reporting.diagnosis import diagnose_report
from hseval.reporting.figures import build_figure_data, find_embedding_extractor
from hseval.scoring.anonymous import anonymize_report, anonymize_sets
from hseval.scoring.features import QUICK_CUBES, assemble_inputs, draw_quick_sets, extract_sets, plan_extraction
from hseval.scoring.metric_choice import Settings, build_extractors, choose_metrics, list_train_extractors
from hseval.scoring.provenance import collect_provenance
from hseval.scoring.score_metric import score_metric
from hseval.scoring.segmentation.segment import (
    add_segmentation_records,
    choose_segmenter,
    postpone_structures,
    segment_sets,
)
from hseval.scoring.warnings import iter_overlap_notes, iter_resampling_notes, iter_set_notes, iter_size_notes
from hseval.stats.multiple_testing import adjust_verdicts
from hseval.utils.device import resolve_device
from hseval.utils.distributed import Ranks
from hseval.utils.feature_cache import FeatureCache, get_cache_path


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
    anonymous: bool = False,
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
        anonymous: pseudonyms in place of ids and groups, and neither labels nor paths nor images (docs/anonymous.md).

    Raises:
        HsevalError: unusable or incompatible input or options; one line names the problem and a valid choice.
    """
    # Inputs.
    settings = {name: dict(values) for name, values in (options or {}).items()}
    built_metrics, metric_notes = choose_metrics(metrics, extractor=extractor, settings=settings, quick=quick)
    device = resolve_device(device)
    extractors = build_extractors(built_metrics, settings, device, extractor)
    sets = open_sets(samples, ref, train, layout=layout, wavelengths=wavelengths, resample=resample)
    if not sets.reference.info.wavelengths_known:
        extractors = {name: spec for name, spec in extractors.items() if not spec.needs_nm}
    segmenter_spec = choose_segmenter(segmenter, sets, extractors, settings, device)
    embedding_extractor = find_embedding_extractor(built_metrics) if exhibits else None
    with FeatureCache(get_cache_path() if cache else None) as feature_cache:
        joined_ranks = Ranks.join("cpu") if ranks else Ranks()
        opened_sets, sets = sets, anonymize_sets(sets, joined_ranks) if anonymous else sets
        context = RunContext(
            feature_cache, joined_ranks, seed, device, workers, batch_size, quick, verify, progress, exhibits
        )
        # Features: one pass over each set. Those of structures wait for the masks, where a segmenter finds them.
        field, field_note = find_common_field(sets)
        plans = plan_extraction(sets, extractors, [*list_train_extractors(built_metrics), embedding_extractor], field)
        first_plans = postpone_structures(plans, sets) if segmenter_spec is not None else plans
        drawn_sets, content_hashes = draw_quick_sets(sets, plans, context) if quick else (sets, None)
        file_features = extract_sets(drawn_sets, first_plans, context)
        segmentation = segment_sets(segmenter_spec, drawn_sets, plans, file_features, context)
        # Metric inputs, splits and statistics, metric by metric; verdicts, over all scores.
        inputs = assemble_inputs(drawn_sets, plans, segmentation.extracted)
        results = [score_metric(metric, inputs, context) for metric in built_metrics]
        scores = [result.score for result in results]
        if segmentation.quality is not None:
            file_inputs = assemble_inputs(drawn_sets, plans, file_features)
            scores = add_segmentation_records(scores, built_metrics, segmentation.quality, file_inputs, context)
        scores = adjust_verdicts(scores)
        figure_data = None
        if exhibits:
            histogram_values = {result.score.name: result.histogram_values for result in results}
            figure_data = build_figure_data(inputs, scores, histogram_values, extractor=embedding_extractor, seed=seed)
    # Notes and provenance.
    full_sets = content_hashes or file_features
    notes = [
        *metric_notes,
        *iter_set_notes(sets, file_features, full_sets, quick_count=QUICK_CUBES if quick else None),
        field_note,
        *iter_size_notes(sets),
        *iter_overlap_notes(full_sets),
        *segmentation.notes,
        feature_cache.note,
        *iter_resampling_notes(sets),
    ]
    provenance = collect_provenance(
        sets={role: (cubes, inputs.extracted[role]) for role, cubes in inputs.sets.items()},
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
        segmenter=segmentation.quality.spec.build() if segmentation.quality is not None else None,
    )
    report = Report(tuple(scores), tuple(filter(None, notes)), provenance, figure_data)
    report = dataclasses.replace(report, differences=tuple(diagnose_report(report)))
    return anonymize_report(report, opened_sets) if anonymous else report
