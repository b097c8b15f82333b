"""Qualify: measures on a set of real cubes which faults every metric detects and which it is insensitive to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.capabilities import get_bounds
from hseval.core.cubes import FOV, CubeSet
from hseval.pipeline.extract import ExtractedSet, UnchangedSet, extract_features
from hseval.pipeline.open import open_set
from hseval.pipeline.worker import ExtractionPlan
from hseval.qualification.curves import build_curve
from hseval.qualification.degraded_sets import CachedSet, align_to_cubes
from hseval.qualification.halves import draw_halves, draw_train_split
from hseval.qualification.job import Outcome, QualifyJob
from hseval.qualification.outcome_cache import OutcomeId, compute_outcomes
from hseval.qualification.plan import build_columns, build_metric, build_tasks, select_degradations, select_extractors
from hseval.qualification.report import Curve, DegradationRow, MetricColumn, QualifyReport
from hseval.scoring.provenance import collect_provenance
from hseval.utils.device import resolve_device
from hseval.utils.feature_cache import FeatureCache, get_cache_path
from hseval.utils.plural import format_count

if TYPE_CHECKING:
    from hseval.degradations.base import Degradation
    from hseval.pipeline.context import ProgressCallback
    from hseval.pipeline.inputs import Source
    from hseval.pipeline.worker import ExtractorSpec

MIN_RECOMMENDED_CUBES = 64  # with fewer cubes a curve is too uncertain to be of use


def qualify(
    real: Source,
    *,
    metrics: Sequence[str] | None = None,
    extractors: Sequence[str] | None = None,
    degradations: Sequence[str | Degradation] | None = None,
    cubes: int | None = None,
    both_ways: bool = False,
    seed: int = 0,
    device: str | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    layout: str | None = None,
    wavelengths: Any = None,
    workers: int | None = 0,
    batch_size: int | None = None,
    cache: bool = True,
    progress: ProgressCallback | None = None,
) -> QualifyReport:
    """Degrade one half of the real cubes by increasing severities, and compare it by every metric with the other half.

    Args:
        real: real cubes: a path, a CubeSet or an array ``(n, band, y, x)``.
        metrics: names, or ``all``; None: the default four.
        extractors: every metric with an extractor option is run once with each of them; None: with its default.
        degradations: names, or custom degradations; None: all that are applicable.
        cubes: sample about this many by content, as whole groups; None: all.
        both_ways: degrade each half in turn and average: twice the work, but the luck of the division into halves
            cancels to first order.
        seed: one seed; every consumer derives its own stream from it.
        device: ``"cpu"``, ``"cuda"`` ...; None: CUDA where it is available to torch.
        options: plugin name -> option -> value.
        layout: ``"byx"`` or ``"yxb"``, where files do not state it.
        wavelengths: nm by band, a file, or ``"450:905:16"``; overrides those in the files.
        workers: processes; 0: this one; None: as many as there are cores, once it pays.
        batch_size: cubes an extractor gets at a time; None: 1 on a CPU, 16 on a GPU.
        cache: store and reuse outcomes, so that an interrupted run resumes.
        progress: called with (label, done, total).

    Raises:
        HsevalError: unusable input or options, or too few cubes; one line states what was found and expected.
    """
    settings = {name: dict(values) for name, values in (options or {}).items()}
    columns = build_columns(metrics, extractors=extractors, settings=settings)
    data = open_set(real, layout=layout, wavelengths=wavelengths)
    applicable, not_applied = select_degradations(degradations, data)
    device = resolve_device(device)
    needs_modes = any(degradation.kind == "set" for degradation in applicable)
    specs = select_extractors(columns, settings=settings, device=device, needs_modes=needs_modes)
    if not data.info.wavelengths_known:
        specs = {name: spec for name, spec in specs.items() if not spec.needs_nm}
    with FeatureCache(get_cache_path() if cache else None) as feature_cache:
        workers, batch_size = (workers, batch_size or 1) if device == "cpu" else (0, batch_size or 16)
        compute_settings = _ComputeSettings(feature_cache, seed, workers, batch_size, progress)
        extracted, job = _build_job(
            data, columns, applicable, list(specs.values()), max_cubes=cubes, compute_settings=compute_settings
        )
        jobs = [job, swap_halves(job)] if both_ways else [job]
        outcomes = [
            compute_outcomes(way_job, feature_cache, workers=workers, progress=scale_progress(progress, way, len(jobs)))
            for way, way_job in enumerate(jobs)
        ]
        cache_note = feature_cache.note
    provenance = collect_provenance(
        sets={"real": (data, extracted)},
        settings={
            "seed": seed,
            "metrics": [column.label for column in columns],
            "extractors": extractors,
            "degradations": [degradation.name for degradation in applicable],
            "cubes": cubes,
            "both_ways": both_ways,
            "options": settings,
            "device": device,
            "batch_size": batch_size,
            "layout": layout,
            "wavelengths": wavelengths,
        },
        metrics=[build_metric(column) for column in columns],
        extractors=[spec.build() for spec in specs.values()],
    )
    return QualifyReport(
        columns=tuple(columns),
        rows=tuple(_build_row(degradation, job) for degradation in applicable),
        curves=tuple(_build_curves(job, applicable, outcomes)),
        not_applied=not_applied,
        notes=(*_collect_notes(data, extracted, job, both_ways=both_ways), *filter(None, [cache_note])),
        provenance=provenance,
    )


@dataclasses.dataclass(frozen=True)
class _ComputeSettings:
    """How outcomes are computed; only the seed changes a value beyond rounding."""

    cache: FeatureCache
    seed: int
    workers: int | None
    batch_size: int
    progress: ProgressCallback | None

    def extract_features(
        self, cubes: CubeSet, plan: ExtractionPlan, label: str, *, workers: int | None
    ) -> ExtractedSet:
        report = self.progress
        progress = None if report is None else lambda done, total: report(f"extracting {label}", done, total)
        return extract_features(
            cubes, plan, cache=self.cache, workers=workers, batch_size=self.batch_size, progress=progress
        )


def _build_job(
    data: CubeSet,
    columns: Sequence[MetricColumn],
    degradations: Sequence[Degradation],
    extractors: Sequence[ExtractorSpec],
    *,
    max_cubes: int | None,
    compute_settings: _ComputeSettings,
) -> tuple[ExtractedSet, QualifyJob]:
    """Return the content hashes of all cubes, and the job with the features of both halves."""
    hash_plan = ExtractionPlan((), tuple(sorted({FOV, *data.structures})), data.wavelengths)
    extracted = compute_settings.extract_features(data, hash_plan, "content hashes of the real cubes", workers=0)
    halves = draw_halves(
        extracted.features.groups,
        extracted.features.hashes,
        seed=compute_settings.seed,
        max_cubes=max_cubes,
        location=data.info.location,
    )
    plan = dataclasses.replace(hash_plan, extractors=tuple(extractors))
    cubes = CachedSet(UnchangedSet(data, extracted).subset(extracted.index[np.concatenate(halves)].tolist()))
    both = align_to_cubes(
        cubes,
        compute_settings.extract_features(cubes, plan, "features of the real cubes", workers=compute_settings.workers),
        label=data.info.location,
    )
    clean, other = (both.select(indices) for indices in np.split(np.arange(len(both)), [len(halves[0])]))
    samples, train = draw_train_split(other.features.groups, seed=compute_settings.seed)
    tasks = build_tasks(degradations, sample_count=len(samples))
    return extracted, QualifyJob(
        tasks, columns, clean, other, samples, train, plan, compute_settings.seed, compute_settings.batch_size
    )


def swap_halves(job: QualifyJob) -> QualifyJob:
    """Return the job with the halves exchanged."""
    samples, train = draw_train_split(job.clean_half.features.groups, seed=job.seed)
    return dataclasses.replace(
        job, clean_half=job.other_half, other_half=job.clean_half, sample_indices=samples, train_indices=train
    )


def scale_progress(progress: ProgressCallback | None, way_index: int, way_count: int) -> ProgressCallback | None:
    """Return a callback that reports the progress of one way as a part of all ways."""
    if progress is None or way_count == 1:
        return progress
    return lambda label, done, total: progress(label, way_index * total + done, way_count * total)


def _build_row(degradation: Degradation, job: QualifyJob) -> DegradationRow:
    severities = tuple(task.severity for task in job.tasks if task.degradation is degradation)
    return DegradationRow(degradation.name, degradation.summary, degradation.kind, degradation.unit, severities)


def _build_curves(
    job: QualifyJob, degradations: Sequence[Degradation], outcomes_by_way: Sequence[Mapping[OutcomeId, Outcome]]
) -> Iterator[Curve]:
    for column in job.columns:
        for degradation in degradations:
            outcome_ids = [
                outcome_id
                for outcome_id in outcomes_by_way[0]
                if outcome_id[1] == column.label and job.tasks[outcome_id[0]].degradation is degradation
            ]
            arm = outcome_ids[0][2]
            yield build_curve(
                column.label,
                degradation.name,
                floors=[outcomes[0, column.label, arm] for outcomes in outcomes_by_way],
                outcomes={
                    job.tasks[outcome_id[0]].severity: [outcomes[outcome_id] for outcomes in outcomes_by_way]
                    for outcome_id in sorted(outcome_ids)
                },
                sizes=(len(job.clean_half), len(job.sample_indices) if arm else len(job.other_half)),
                bounds=get_bounds(build_metric(column)),
            )


def _collect_notes(data: CubeSet, extracted: ExtractedSet, job: QualifyJob, *, both_ways: bool) -> Iterator[str]:
    clean, other, samples, train = (
        len(job.clean_half),
        len(job.other_half),
        len(job.sample_indices),
        len(job.train_indices),
    )
    yield f"{clean} clean cubes against {other} degraded cubes; no cube and no group is in both halves"
    if both_ways:
        yield "each half is degraded in turn; all results are means of both ways"
    yield (
        "for near-copies and for metrics that need a training set, the degraded half is split again: "
        f"{format_count(samples, 'sample')} and {format_count(train, 'training cube')}"
    )
    yield from (f"real: {note}" for note in data.info.notes)
    if extracted.invalid_ids:
        yield f"left out for lack of valid pixels: {format_count(len(extracted.invalid_ids), 'cube')}"
    if clean + other < MIN_RECOMMENDED_CUBES:
        yield f"only {clean + other} cubes: expect wide intervals and few detections (a few hundred are better)"
