"""All outcomes of a job: looked up, or computed in this process or in several."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hseval.parallel import run as run_job
from hseval.qualifying.kept import Kept, Part
from hseval.qualifying.plan import build

if TYPE_CHECKING:
    from hseval.cache import Cache
    from hseval.qualifying.job import Outcome, QualifyJob, Which
    from hseval.run import Progress


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
