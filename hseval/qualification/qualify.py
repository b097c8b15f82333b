"""Qualify: from a set of real cubes to what every metric sees and is blind to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.cubes import FIELD, CubeSet
from hseval.pipeline.extract import Description, describe
from hseval.pipeline.open import open_set
from hseval.pipeline.worker import Plan
from hseval.qualification.curves import ANY, curve_of
from hseval.qualification.degraded_sets import KeptSet, in_place
from hseval.qualification.halves import halves, trained
from hseval.qualification.job import Outcome, QualifyJob
from hseval.qualification.outcome_cache import Part, outcomes_of
from hseval.qualification.plan import build, columns_of, degradations_of, extractors_of, tasks_of
from hseval.qualification.report import Column, Curve, QualifyReport, Row
from hseval.scoring.provenance import provenance
from hseval.scoring.score import usable_device
from hseval.utils.feature_cache import Cache, default_path

if TYPE_CHECKING:
    from hseval.degradations.base import Degradation
    from hseval.pipeline.context import Progress
    from hseval.pipeline.inputs import Source
    from hseval.pipeline.worker import Chosen

FEW = 64  # cubes below which a curve says little


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
    progress: Progress | None = None,
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
    columns = columns_of(metrics, extractors=extractors, settings=settings)
    data = open_set(real, layout=layout, wavelengths=wavelengths)
    fitting, unfit = degradations_of(degradations, data)
    device = usable_device(device)
    modes = any(each.kind == "set" for each in fitting)
    chosen = extractors_of(columns, settings=settings, device=device, modes=modes)
    if not data.info.wavelengths_known:
        chosen = {name: each for name, each in chosen.items() if not each.needs_nm}
    with Cache(default_path() if cache else None) as rows:
        workers, batch_size = (workers, batch_size or 1) if device == "cpu" else (0, batch_size or 16)
        how = _How(rows, seed, workers, batch_size, progress)
        whole, job = _job(data, columns, fitting, list(chosen.values()), most=cubes, how=how)
        jobs = [job, turned(job)] if both_ways else [job]
        outcomes = [outcomes_of(each, rows, workers=workers, progress=told_by(progress, way, len(jobs)))
                    for way, each in enumerate(jobs)]  # fmt: skip
        trouble = [rows.trouble] if rows.trouble else []
    told = provenance(
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
        metrics=[build(column) for column in columns],
        extractors=[each.build() for each in chosen.values()],
    )
    return QualifyReport(
        columns=tuple(columns),
        rows=tuple(_row(each, job) for each in fitting),
        curves=tuple(_curves(job, fitting, outcomes)),
        not_applied=unfit,
        notes=(*_notes(data, whole, job, both_ways=both_ways), *trouble),
        provenance=told,
    )


@dataclasses.dataclass(frozen=True)
class _How:
    """How it is computed; nothing in it but the seed changes a value beyond rounding."""

    cache: Cache
    seed: int
    workers: int | None
    batch_size: int
    progress: Progress | None

    def describe(self, cubes: CubeSet, plan: Plan, what: str, *, workers: int | None) -> Description:
        progress = self.progress
        told = None if progress is None else lambda done, total: progress(f"describing {what}", done, total)
        return describe(cubes, plan, cache=self.cache, workers=workers, batch_size=self.batch_size, progress=told)


def _job(
    data: CubeSet,
    columns: Sequence[Column],
    fitting: Sequence[Degradation],
    chosen: Sequence[Chosen],
    *,
    most: int | None,
    how: _How,
) -> tuple[Description, QualifyJob]:
    """Return the description of all cubes (contents alone), and the job with both halves described."""
    bare = Plan((), tuple(sorted({FIELD, *data.structures})), data.wavelengths)
    whole = how.describe(data, bare, "content of the real cubes", workers=0)
    dealt = halves(whole.rows.groups, whole.rows.hashes, seed=how.seed, most=most, where=data.info.location)
    plan = dataclasses.replace(bare, extractors=tuple(chosen))
    cubes = KeptSet(data.subset(whole.index[np.concatenate(dealt)].tolist()))
    both = in_place(cubes, how.describe(cubes, plan, "real cubes", workers=how.workers), what=data.info.location)
    clean, other = (both.part(part) for part in np.split(np.arange(len(both)), [len(dealt[0])]))
    samples, train = trained(other.rows.groups, seed=how.seed)
    tasks = tasks_of(fitting, samples=len(samples))
    return whole, QualifyJob(tasks, columns, clean, other, samples, train, plan, how.seed, how.batch_size)


def turned(job: QualifyJob) -> QualifyJob:
    """Return the job with the halves in each other's place."""
    samples, train = trained(job.clean.rows.groups, seed=job.seed)
    return dataclasses.replace(job, clean=job.other, other=job.clean, samples=samples, train=train)


def told_by(progress: Progress | None, way: int, ways: int) -> Progress | None:
    """Return the progress of one way as that of all."""
    if progress is None or ways == 1:
        return progress
    return lambda what, done, total: progress(what, way * total + done, ways * total)


def _row(made: Degradation, job: QualifyJob) -> Row:
    doses = tuple(task.dose for task in job.tasks if task.degradation is made)
    return Row(made.name, made.summary, made.kind, made.unit, doses)


def _curves(job: QualifyJob, fitting: Sequence[Degradation], ways: Sequence[Mapping[Part, Outcome]]) -> Iterator[Curve]:
    for column in job.columns:
        for made in fitting:
            parts = [part for part in ways[0] if part[1] == column.label and job.tasks[part[0]].degradation is made]
            arm = parts[0][2]
            yield curve_of(
                column.label,
                made.name,
                floors=[outcomes[0, column.label, arm] for outcomes in ways],
                outcomes={job.tasks[part[0]].dose: [outcomes[part] for outcomes in ways] for part in sorted(parts)},
                sizes=(len(job.clean), len(job.samples) if arm else len(job.other)),
                bounds=getattr(build(column), "bounds", ANY),
            )


def _notes(data: CubeSet, whole: Description, job: QualifyJob, *, both_ways: bool) -> Iterator[str]:
    clean, other, samples, train = len(job.clean), len(job.other), len(job.samples), len(job.train)
    yield f"{clean} clean cubes against {other} others, spoiled; no cube and no group is in both halves"
    if both_ways:
        yield "each half is spoiled in turn, and what is shown is the mean of both ways"
    yield (
        f"for near-copies, and for metrics that need a training set, the others are halved again: {samples} stand for "
        f"samples, {train} for training cubes"
    )
    yield from (f"real: {note}" for note in data.info.notes)
    if whole.invalid:
        yield f"{len(whole.invalid)} cubes have no valid pixel and are left out"
    if clean + other < FEW:
        yield f"only {clean + other} cubes: expect wide intervals, and little that is told (a few hundred are better)"
