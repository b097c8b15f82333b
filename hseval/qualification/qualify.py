"""Qualify: from a set of real cubes to what every metric sees and is blind to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.cubes import FOV, CubeSet
from hseval.pipeline.extract import ExtractedSet, extract_features
from hseval.pipeline.open import open_set
from hseval.pipeline.worker import ExtractionPlan
from hseval.qualification.curves import UNBOUNDED, build_curve
from hseval.qualification.degraded_sets import CachedSet, align_to_cubes
from hseval.qualification.halves import draw_halves, draw_train_split
from hseval.qualification.job import Outcome, QualifyJob
from hseval.qualification.outcome_cache import OutcomeId, compute_outcomes
from hseval.qualification.plan import build_columns, build_metric, build_tasks, select_degradations, select_extractors
from hseval.qualification.report import Curve, DegradationRow, MetricColumn, QualifyReport
from hseval.scoring.provenance import collect_provenance
from hseval.scoring.score import resolve_device
from hseval.utils.feature_cache import FeatureCache, get_cache_path

if TYPE_CHECKING:
    from hseval.degradations.base import Degradation
    from hseval.pipeline.context import ProgressCallback
    from hseval.pipeline.inputs import Source
    from hseval.pipeline.worker import ExtractorSpec

MIN_RECOMMENDED_CUBES = 64  # cubes below which a curve says little


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
    """Spoil one half of the real cubes by degrees, and watch how every metric reacts against the other half.

    Args:
        real: real cubes: a path, a CubeSet or an array ``(n, band, y, x)``.
        metrics: names, or ``all``; None: the default four.
        extractors: every metric that has a choice of feature extractor is run once for each; None: its own choice.
        degradations: names, or degradations of one's own; None: all that fit.
        cubes: draw about this many by content, whole groups; None: all.
        both_ways: spoil the other half, too, and take the mean: twice the work, and to first order the luck of the
            division into halves cancels.
        seed: one seed; every consumer derives its own stream from it.
        device: ``"cpu"``, ``"cuda"`` ...; None: CUDA where torch sees it.
        options: plugin name -> option -> value.
        layout: ``"byx"`` or ``"yxb"``, where files do not say.
        wavelengths: nm by band, a file, or ``"450:905:16"``, in place of what files say.
        workers: processes; 0: this one; None: as many as there are cores, once it pays.
        batch_size: cubes an extractor gets at a time; None: 1 on a CPU, 16 on a GPU.
        cache: keep outcomes, so that a run that was cut off goes on, and reuse them.
        progress: called with (what, done, total).

    Raises:
        HsevalError: unusable input or options, or too few cubes; one line says what and what would do.
    """
    settings = {name: dict(values) for name, values in (options or {}).items()}
    columns = build_columns(metrics, extractors=extractors, settings=settings)
    data = open_set(real, layout=layout, wavelengths=wavelengths)
    fitting, unfit = select_degradations(degradations, data)
    device = resolve_device(device)
    modes = any(each.kind == "set" for each in fitting)
    chosen = select_extractors(columns, settings=settings, device=device, needs_modes=modes)
    if not data.info.wavelengths_known:
        chosen = {name: each for name, each in chosen.items() if not each.needs_nm}
    with FeatureCache(get_cache_path() if cache else None) as rows:
        workers, batch_size = (workers, batch_size or 1) if device == "cpu" else (0, batch_size or 16)
        how = _ComputeSettings(rows, seed, workers, batch_size, progress)
        whole, job = _build_job(data, columns, fitting, list(chosen.values()), max_cubes=cubes, compute_settings=how)
        jobs = [job, swap_halves(job)] if both_ways else [job]
        outcomes = [compute_outcomes(each, rows, workers=workers, progress=scale_progress(progress, way, len(jobs)))
                    for way, each in enumerate(jobs)]  # fmt: skip
        trouble = [rows.first_error] if rows.first_error else []
    told = collect_provenance(
        sets={"real": (data, whole)},
        settings={
            "seed": seed,
            "metrics": [column.label for column in columns],
            "extractors": extractors,
            "degradations": [each.name for each in fitting],
            "cubes": cubes,
            "both_ways": both_ways,
            "options": settings,
            "device": device,
            "batch_size": batch_size,
            "layout": layout,
            "wavelengths": wavelengths,
        },
        metrics=[build_metric(column) for column in columns],
        extractors=[each.build() for each in chosen.values()],
    )
    return QualifyReport(
        columns=tuple(columns),
        rows=tuple(_build_row(each, job) for each in fitting),
        curves=tuple(_build_curves(job, fitting, outcomes)),
        not_applied=unfit,
        notes=(*_collect_notes(data, whole, job, both_ways=both_ways), *trouble),
        provenance=told,
    )


@dataclasses.dataclass(frozen=True)
class _ComputeSettings:
    """How it is computed; nothing in it but the seed changes a value beyond rounding."""

    cache: FeatureCache
    seed: int
    workers: int | None
    batch_size: int
    progress: ProgressCallback | None

    def extract_features(
        self, cubes: CubeSet, plan: ExtractionPlan, label: str, *, workers: int | None
    ) -> ExtractedSet:
        progress = self.progress
        told = None if progress is None else lambda done, total: progress(f"describing {label}", done, total)
        return extract_features(
            cubes, plan, cache=self.cache, workers=workers, batch_size=self.batch_size, progress=told
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
    """Return the description of all cubes (contents alone), and the job with both halves described."""
    bare = ExtractionPlan((), tuple(sorted({FOV, *data.structures})), data.wavelengths)
    whole = compute_settings.extract_features(data, bare, "content of the real cubes", workers=0)
    dealt = draw_halves(
        whole.features.groups,
        whole.features.hashes,
        seed=compute_settings.seed,
        max_cubes=max_cubes,
        location=data.info.location,
    )
    plan = dataclasses.replace(bare, extractors=tuple(extractors))
    cubes = CachedSet(data.subset(whole.index[np.concatenate(dealt)].tolist()))
    both = align_to_cubes(
        cubes,
        compute_settings.extract_features(cubes, plan, "real cubes", workers=compute_settings.workers),
        label=data.info.location,
    )
    clean, other = (both.select(part) for part in np.split(np.arange(len(both)), [len(dealt[0])]))
    samples, train = draw_train_split(other.features.groups, seed=compute_settings.seed)
    tasks = build_tasks(degradations, sample_count=len(samples))
    return whole, QualifyJob(
        tasks, columns, clean, other, samples, train, plan, compute_settings.seed, compute_settings.batch_size
    )


def swap_halves(job: QualifyJob) -> QualifyJob:
    """Return the job with the halves in each other's place."""
    samples, train = draw_train_split(job.clean_half.features.groups, seed=job.seed)
    return dataclasses.replace(
        job, clean_half=job.other_half, other_half=job.clean_half, sample_indices=samples, train_indices=train
    )


def scale_progress(progress: ProgressCallback | None, way_index: int, way_count: int) -> ProgressCallback | None:
    """Return the progress of one way as that of all."""
    if progress is None or way_count == 1:
        return progress
    return lambda what, done, total: progress(what, way_index * total + done, way_count * total)


def _build_row(degradation: Degradation, job: QualifyJob) -> DegradationRow:
    severities = tuple(task.severity for task in job.tasks if task.degradation is degradation)
    return DegradationRow(degradation.name, degradation.summary, degradation.kind, degradation.unit, severities)


def _build_curves(
    job: QualifyJob, degradations: Sequence[Degradation], outcomes_by_way: Sequence[Mapping[OutcomeId, Outcome]]
) -> Iterator[Curve]:
    for column in job.columns:
        for made in degradations:
            parts = [
                part
                for part in outcomes_by_way[0]
                if part[1] == column.label and job.tasks[part[0]].degradation is made
            ]
            arm = parts[0][2]
            yield build_curve(
                column.label,
                made.name,
                floors=[outcomes[0, column.label, arm] for outcomes in outcomes_by_way],
                outcomes={
                    job.tasks[part[0]].severity: [outcomes[part] for outcomes in outcomes_by_way]
                    for part in sorted(parts)
                },
                sizes=(len(job.clean_half), len(job.sample_indices) if arm else len(job.other_half)),
                bounds=getattr(build_metric(column), "bounds", UNBOUNDED),
            )


def _collect_notes(data: CubeSet, description: ExtractedSet, job: QualifyJob, *, both_ways: bool) -> Iterator[str]:
    clean, other, samples, train = (
        len(job.clean_half),
        len(job.other_half),
        len(job.sample_indices),
        len(job.train_indices),
    )
    yield f"{clean} clean cubes against {other} others, spoiled; no cube and no group is in both halves"
    if both_ways:
        yield "each half is spoiled in turn, and what is shown is the mean of both ways"
    yield (
        f"for near-copies, and for metrics that need a training set, the others are halved again: {samples} stand for "
        f"samples, {train} for training cubes"
    )
    yield from (f"real: {note}" for note in data.info.notes)
    if description.invalid_ids:
        yield f"{len(description.invalid_ids)} cubes have no valid pixel and are left out"
    if clean + other < MIN_RECOMMENDED_CUBES:
        yield f"only {clean + other} cubes: expect wide intervals, and little that is told (a few hundred are better)"
