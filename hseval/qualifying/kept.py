"""Outcomes kept in the cache, so that a run that was cut off goes on, and one more metric costs only itself.

What is kept is a few hundred bytes a metric and dose, and not the rows of spoiled cubes: these would take a gigabyte
for 100 cubes of 16 bands.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.identity import key
from hseval.plugins import plugins
from hseval.qualifying.job import BLOCK_PAIRS, BLOCKS, Outcome, QualifyJob
from hseval.qualifying.views import code_of
from hseval.uncertainty.jackknife import Jackknife

if TYPE_CHECKING:
    from hseval.cache import Cache
    from hseval.qualifying.plan import Task
    from hseval.qualifying.report import Column
    from hseval.qualifying.sides import Side

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
