"""Outcomes kept in the cache, so that a run that was cut off goes on, and one more metric costs only itself.

What is kept is a few hundred bytes a metric and dose, and not the rows of spoiled cubes: these would take a gigabyte
for 100 cubes of 16 bands.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.plugin_manager import plugins
from hseval.data.content_hash import key
from hseval.qualification.degraded_sets import code_of
from hseval.qualification.job import BLOCK_PAIRS, BLOCKS, Outcome, QualifyJob
from hseval.qualification.plan import build
from hseval.stats.jackknife import Jackknife
from hseval.utils.parallel import run as run_job

if TYPE_CHECKING:
    from hseval.pipeline.context import Progress
    from hseval.qualification.degraded_sets import Side
    from hseval.qualification.job import Outcome, QualifyJob, Which
    from hseval.qualification.plan import Task
    from hseval.qualification.report import Column
    from hseval.utils.feature_cache import Cache


def outcomes_of(
    job: QualifyJob, cache: Cache, *, workers: int | None, progress: Progress | None
) -> dict[Part, Outcome]:
    """Return all outcomes: those that the cache has, and those that are computed now.

    Args:
        job: the work.
        cache: of outcomes.
        workers: processes; 0: this one; None: as many as there are cores, once it pays.
        progress: called with (what, done, total).
    """
    parts = list(parts_of(job))
    kept = Kept(job, cache)
    found = kept.find(parts)
    wanted: dict[int, list[Which]] = {}
    for place, label, arm in parts:
        if (place, label, arm) not in found:
            wanted.setdefault(place, []).append((label, arm))
    done = len(job.tasks) - len(wanted)
    for finished in run_job(dataclasses.replace(job, wanted=wanted), [[place] for place in wanted], workers):
        new = {(place, *which): outcome for place, by in finished.items() for which, outcome in by.items()}
        kept.keep(new)
        found.update(new)
        done += len(finished)
        if progress is not None:
            progress("comparing", done, len(job.tasks))
    return found


def parts_of(job: QualifyJob) -> Iterator[Part]:
    """Yield what has to be found out: the metrics of each task, against the arm that they need."""
    learns = {column.label: build(column).needs.train for column in job.columns}
    copies = any(task.degradation is not None and task.degradation.kind == "copies" for task in job.tasks)
    for place, task in enumerate(job.tasks):
        for label, train in learns.items():
            if task.degradation is None:
                yield from ((place, label, arm) for arm in {train, train or copies})
            else:
                yield place, label, train or task.degradation.kind == "copies"


Part = tuple[int, str, bool]  # place of a task, a column's label, the arm


class Kept:
    """The outcomes of a job, by what decides them: all that it reads, and all the code that it runs."""

    def __init__(self, job: QualifyJob, cache: Cache) -> None:
        self.cache = cache
        built = {chosen.name: job.plan.recipe(chosen, chosen.build()) for chosen in job.plan.extractors}
        sides = (_content(job.clean), _content(job.other), job.samples.tolist(), job.train.tolist())
        self._of_run = (code_of(QualifyJob), sides, built, job.seed, BLOCKS, BLOCK_PAIRS, job.batch_size)
        self._of_column = {column.label: _metric(column) for column in job.columns}
        self._of_task = [_task(task) for task in job.tasks]

    def key(self, part: Part) -> str:
        """Return the cache key of one outcome."""
        place, label, arm = part
        return key("qualify-1", self._of_run, self._of_column[label], self._of_task[place], arm)

    def find(self, parts: Iterable[Part]) -> dict[Part, Outcome]:
        """Return the outcomes that are there."""
        names = {self.key(part): part for part in parts}
        rows = self.cache.rows(list(names))
        return {names[name]: _decoded(columns) for name, columns in rows.items()}

    def keep(self, outcomes: Mapping[Part, Outcome]) -> None:
        """Keep outcomes that the same input would give again."""
        lasting = {part: outcome for part, outcome in outcomes.items() if outcome.lasting}
        self.cache.store_rows({self.key(part): _encoded(outcome) for part, outcome in lasting.items()})


def _content(side: Side) -> str:
    return key(side.description.contents, side.description.masks, side.rows.groups.tolist())


def _metric(column: Column) -> Any:
    registry = plugins()
    code = code_of(registry.find("metric", column.metric))
    return column.metric, registry.origin("metric", column.metric), code, dict(column.options)


def _task(task: Task) -> Any:
    made = task.degradation
    return None if made is None else (made.name, made.kind, code_of(type(made)), task.dose)


def _encoded(outcome: Outcome) -> dict[str, Any]:
    if outcome.found is None:
        return {"why": np.frombuffer((outcome.why or "").encode(), dtype=np.uint8)}
    return {field.name: getattr(outcome.found, field.name) for field in dataclasses.fields(outcome.found)}


def _decoded(columns: Mapping[str, Any]) -> Outcome:
    if "why" in columns:
        return Outcome(None, bytes(columns["why"]).decode())
    return Outcome(Jackknife(**columns))
