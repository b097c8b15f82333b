"""Outcomes kept in the cache, so that a run that was cut off goes on, and one more metric costs only itself.

What is kept is a few hundred bytes a metric and severity, and not the rows of spoiled cubes: these would take a gigabyte
for 100 cubes of 16 bands.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.plugin_manager import get_plugins
from hseval.data.content_hash import compute_key
from hseval.qualification.degraded_sets import hash_package_sources
from hseval.qualification.job import BLOCK_PAIRS, BLOCKS, Outcome, QualifyJob
from hseval.qualification.plan import build_metric
from hseval.stats.jackknife import JackknifeReplicates
from hseval.utils.parallel import run_chunks as run_job

if TYPE_CHECKING:
    from hseval.pipeline.context import ProgressCallback
    from hseval.qualification.degraded_sets import AlignedSet
    from hseval.qualification.job import MetricArm, Outcome, QualifyJob
    from hseval.qualification.plan import Task
    from hseval.qualification.report import MetricColumn
    from hseval.utils.feature_cache import FeatureCache


def compute_outcomes(
    job: QualifyJob, cache: FeatureCache, *, workers: int | None, progress: ProgressCallback | None
) -> dict[OutcomeId, Outcome]:
    """Return all outcomes: those that the cache has, and those that are computed now.

    Args:
        job: the work.
        cache: of outcomes.
        workers: processes; 0: this one; None: as many as there are cores, once it pays.
        progress: called with (what, done, total).
    """
    parts = list(iterate_outcome_ids(job))
    kept = OutcomeCache(job, cache)
    found = kept.load(parts)
    wanted: dict[int, list[MetricArm]] = {}
    for place, label, arm in parts:
        if (place, label, arm) not in found:
            wanted.setdefault(place, []).append((label, arm))
    done = len(job.tasks) - len(wanted)
    for finished in run_job(dataclasses.replace(job, pending=wanted), [[place] for place in wanted], workers):
        new = {(place, *which): outcome for place, by in finished.items() for which, outcome in by.items()}
        kept.store(new)
        found.update(new)
        done += len(finished)
        if progress is not None:
            progress("comparing", done, len(job.tasks))
    return found


def iterate_outcome_ids(job: QualifyJob) -> Iterator[OutcomeId]:
    """Yield what has to be found out: the metrics of each task, against the arm that they need."""
    learns = {column.label: build_metric(column).needs.train for column in job.columns}
    copies = any(task.degradation is not None and task.degradation.kind == "copies" for task in job.tasks)
    for place, task in enumerate(job.tasks):
        for label, train in learns.items():
            if task.degradation is None:
                yield from ((place, label, arm) for arm in {train, train or copies})
            else:
                yield place, label, train or task.degradation.kind == "copies"


OutcomeId = tuple[int, str, bool]  # place of a task, a column's label, the arm


class OutcomeCache:
    """The outcomes of a job, by what decides them: all that it reads, and all the code that it runs."""

    def __init__(self, job: QualifyJob, cache: FeatureCache) -> None:
        self.cache = cache
        built = {chosen.name: job.plan.compute_recipe_key(chosen, chosen.build()) for chosen in job.plan.extractors}
        sides = (
            _hash_content(job.clean_half),
            _hash_content(job.other_half),
            job.sample_indices.tolist(),
            job.train_indices.tolist(),
        )
        self._run_inputs = (
            hash_package_sources(QualifyJob),
            sides,
            built,
            job.seed,
            BLOCKS,
            BLOCK_PAIRS,
            job.batch_size,
        )
        self._column_inputs = {column.label: _identify_metric(column) for column in job.columns}
        self._task_inputs = [_identify_task(task) for task in job.tasks]

    def compute_key(self, outcome_id: OutcomeId) -> str:
        """Return the cache key of one outcome."""
        place, label, arm = outcome_id
        return compute_key("qualify-1", self._run_inputs, self._column_inputs[label], self._task_inputs[place], arm)

    def load(self, outcome_ids: Iterable[OutcomeId]) -> dict[OutcomeId, Outcome]:
        """Return the outcomes that are there."""
        names = {self.compute_key(part): part for part in outcome_ids}
        rows = self.cache.load_features(list(names))
        return {names[name]: _decode_outcome(columns) for name, columns in rows.items()}

    def store(self, outcomes: Mapping[OutcomeId, Outcome]) -> None:
        """Keep outcomes that the same input would give again."""
        lasting = {part: outcome for part, outcome in outcomes.items() if outcome.is_cacheable}
        self.cache.store_features(
            {self.compute_key(part): _encode_outcome(outcome) for part, outcome in lasting.items()}
        )


def _hash_content(aligned_set: AlignedSet) -> str:
    return compute_key(
        aligned_set.description.content_hashes,
        aligned_set.description.mask_hashes,
        aligned_set.features.groups.tolist(),
    )


def _identify_metric(column: MetricColumn) -> Any:
    registry = get_plugins()
    code = hash_package_sources(registry.find("metric", column.metric))
    return column.metric, registry.get_origin("metric", column.metric), code, dict(column.options)


def _identify_task(task: Task) -> Any:
    made = task.degradation
    return None if made is None else (made.name, made.kind, hash_package_sources(type(made)), task.severity)


def _encode_outcome(outcome: Outcome) -> dict[str, Any]:
    if outcome.replicates is None:
        return {"why": np.frombuffer((outcome.missing_reason or "").encode(), dtype=np.uint8)}
    return {field.name: getattr(outcome.replicates, field.name) for field in dataclasses.fields(outcome.replicates)}


def _decode_outcome(arrays: Mapping[str, Any]) -> Outcome:
    if "why" in arrays:
        return Outcome(None, bytes(arrays["why"]).decode())
    return Outcome(JackknifeReplicates(**arrays))
