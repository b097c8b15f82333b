"""Outcomes stored in the cache, so that an interrupted run resumes and another metric costs only its own work.

An outcome takes a few hundred bytes per metric and severity. Features of degraded cubes are not stored: they would take
a gigabyte for 100 cubes of 16 bands.
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
    """Return all outcomes, from the cache or computed now.

    Args:
        job: the work.
        cache: of outcomes.
        workers: processes; 0: this one; None: as many as there are cores, once it pays.
        progress: called with (label, done, total).
    """
    outcome_ids = list(iterate_outcome_ids(job))
    outcome_cache = OutcomeCache(job, cache)
    outcomes = outcome_cache.load(outcome_ids)
    pending: dict[int, list[MetricArm]] = {}
    for task_index, label, arm in outcome_ids:
        if (task_index, label, arm) not in outcomes:
            pending.setdefault(task_index, []).append((label, arm))
    done = len(job.tasks) - len(pending)
    for finished in run_job(dataclasses.replace(job, pending=pending), [[index] for index in pending], workers):
        new = {
            (task_index, *metric_arm): outcome
            for task_index, task_outcomes in finished.items()
            for metric_arm, outcome in task_outcomes.items()
        }
        outcome_cache.store(new)
        outcomes.update(new)
        done += len(finished)
        if progress is not None:
            progress("comparing", done, len(job.tasks))
    return outcomes


def iterate_outcome_ids(job: QualifyJob) -> Iterator[OutcomeId]:
    """Yield the ids of all outcomes of a job: the metrics of each task, for the arm that they need."""
    needs_train = {column.label: build_metric(column).needs.train for column in job.columns}
    has_copies = any(task.degradation is not None and task.degradation.kind == "copies" for task in job.tasks)
    for task_index, task in enumerate(job.tasks):
        for label, train in needs_train.items():
            if task.degradation is None:
                yield from ((task_index, label, arm) for arm in {train, train or has_copies})
            else:
                yield task_index, label, train or task.degradation.kind == "copies"


OutcomeId = tuple[int, str, bool]  # index of a task, a column's label, the arm


class OutcomeCache:
    """The stored outcomes of a job, by a hash of all that it reads and of all the code that it runs."""

    def __init__(self, job: QualifyJob, cache: FeatureCache) -> None:
        self.cache = cache
        recipe_keys = {
            extractor.name: job.plan.compute_recipe_key(extractor, extractor.build())
            for extractor in job.plan.extractors
        }
        halves = (
            _hash_content(job.clean_half),
            _hash_content(job.other_half),
            job.sample_indices.tolist(),
            job.train_indices.tolist(),
        )
        self._run_inputs = (
            hash_package_sources(QualifyJob),
            halves,
            recipe_keys,
            job.seed,
            BLOCKS,
            BLOCK_PAIRS,
            job.batch_size,
        )
        self._column_inputs = {column.label: _identify_metric(column) for column in job.columns}
        self._task_inputs = [_identify_task(task) for task in job.tasks]

    def compute_key(self, outcome_id: OutcomeId) -> str:
        """Return the cache key of one outcome."""
        task_index, label, arm = outcome_id
        return compute_key(
            "qualify-1", self._run_inputs, self._column_inputs[label], self._task_inputs[task_index], arm
        )

    def load(self, outcome_ids: Iterable[OutcomeId]) -> dict[OutcomeId, Outcome]:
        """Return the stored outcomes."""
        ids_by_key = {self.compute_key(outcome_id): outcome_id for outcome_id in outcome_ids}
        stored = self.cache.load_features(list(ids_by_key))
        return {ids_by_key[key]: _decode_outcome(arrays) for key, arrays in stored.items()}

    def store(self, outcomes: Mapping[OutcomeId, Outcome]) -> None:
        """Store the outcomes that the same input would give again."""
        cacheable = {outcome_id: outcome for outcome_id, outcome in outcomes.items() if outcome.is_cacheable}
        self.cache.store_features(
            {self.compute_key(outcome_id): _encode_outcome(outcome) for outcome_id, outcome in cacheable.items()}
        )


def _hash_content(aligned_set: AlignedSet) -> str:
    return compute_key(
        aligned_set.extracted.content_hashes,
        aligned_set.extracted.mask_hashes,
        aligned_set.features.groups.tolist(),
    )


def _identify_metric(column: MetricColumn) -> Any:
    registry = get_plugins()
    code = hash_package_sources(registry.find("metric", column.metric))
    return column.metric, registry.get_origin("metric", column.metric), code, dict(column.options)


def _identify_task(task: Task) -> Any:
    degradation = task.degradation
    if degradation is None:
        return None
    return degradation.name, degradation.kind, hash_package_sources(type(degradation)), task.severity


def _encode_outcome(outcome: Outcome) -> dict[str, Any]:
    if outcome.replicates is None:
        return {"why": np.frombuffer((outcome.missing_reason or "").encode(), dtype=np.uint8)}
    return {field.name: getattr(outcome.replicates, field.name) for field in dataclasses.fields(outcome.replicates)}


def _decode_outcome(arrays: Mapping[str, Any]) -> Outcome:
    if "why" in arrays:
        return Outcome(None, bytes(arrays["why"]).decode())
    return Outcome(JackknifeReplicates(**arrays))
