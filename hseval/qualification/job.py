"""The work of one process: cubes spoiled, described and compared, one degradation and dose after the other."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.pipeline.context import Described, Run
from hseval.pipeline.inputs import Sets
from hseval.pipeline.metric_inputs import Comparable, comparable
from hseval.pipeline.worker import Plan
from hseval.qualification.degrade import Spoiler
from hseval.qualification.degraded_sets import Side
from hseval.qualification.plan import Task, build
from hseval.qualification.replicates import replicates
from hseval.utils.distributed import Comm
from hseval.utils.errors import HsevalError, NotComputable, first_line
from hseval.utils.feature_cache import Cache

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.hookspecs import Metric
    from hseval.qualification.report import Column
    from hseval.stats.jackknife import Jackknife
    from hseval.utils.parallel import Assignment

BLOCKS = 10  # of each set, left out one after the other
BLOCK_PAIRS = 24  # of blocks, left out together: few, as there are hundreds of comparisons

Which = tuple[str, bool]  # a column's label, and the arm


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a metric says of one comparison: replicates of its value, or why there is none.

    ``lasting`` says that the same input gives the same outcome, so that it may be kept.
    """

    found: Jackknife | None
    why: str | None = None
    lasting: bool = True


@dataclasses.dataclass
class QualifyJob:
    """Compares the clean half with the other one, spoiled; lives in this process or in a worker.

    Attributes:
        tasks: all comparisons.
        columns: the metrics.
        clean, other: the halves, described.
        samples, train: places of ``other`` that stand for a generator's samples and for its training set, where one is
            needed.
        plan: how spoiled cubes are described, by which extractors.
        seed: of pairs, blocks and degradations.
        batch_size: cubes an extractor gets at a time.
        wanted: what is still to be done, by place of the task.
    """

    tasks: Sequence[Task]
    columns: Sequence[Column]
    clean: Side
    other: Side
    samples: NDArray[np.int64]
    train: NDArray[np.int64]
    plan: Plan
    seed: int
    batch_size: int
    wanted: Mapping[int, Sequence[Which]] = dataclasses.field(default_factory=dict)

    def work(self, chunk: list[int]) -> dict[int, dict[Which, Outcome]]:
        """Return the outcomes of some tasks, by place."""
        return {place: self._outcomes(self.tasks[place], self.wanted[place]) for place in chunk}

    def assignment(self) -> Assignment:
        """Return how a worker builds this job."""
        return QualifyJob, tuple(getattr(self, field.name) for field in dataclasses.fields(self))

    def _outcomes(self, task: Task, wanted: Sequence[Which]) -> dict[Which, Outcome]:
        metrics = {label: self._metrics[label] for label, _ in wanted}
        needed = {name for metric in metrics.values() for name in metric.needs.rows}
        spoiled = self._spoiler.spoiled(task, needed, arms={arm for _, arm in wanted})
        return {(label, arm): self._outcome(label, spoiled[arm], trained=arm) for label, arm in wanted}

    @functools.cached_property
    def _metrics(self) -> dict[str, Metric]:
        return {column.label: build(column) for column in self.columns}

    @functools.cached_property
    def _blocks(self) -> Cache:
        return Memory()

    @functools.cached_property
    def _spoiler(self) -> Spoiler:
        return Spoiler(self.other, self.samples, self.train, self.plan, self.seed, self.batch_size)

    def _outcome(self, label: str, spoiled: Side, *, trained: bool) -> Outcome:
        try:
            compared = self._comparable(label, spoiled, trained=trained)
            return Outcome(replicates(compared, count=BLOCKS, pairs=BLOCK_PAIRS, seed=self.seed))
        except NotComputable as error:
            return Outcome(None, str(error))
        except (HsevalError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - a third party's metric may raise anything
            return Outcome(None, f"it raised {first_line(error)}", lasting=False)

    def _comparable(self, label: str, spoiled: Side, *, trained: bool) -> Comparable:
        """Return the metric with the rows of both sides, as a score has them."""
        metric = self._metrics[label]
        known = self.clean.rows.wavelengths_known
        described_by = {chosen.name for chosen in self.plan.extractors}
        if not known and (metric.needs.nm or not described_by.issuperset(metric.needs.rows)):
            raise NotComputable("needs wavelengths in nm (--wavelengths FILE|450:905:16)")
        train = self.other.part(self.train) if trained and metric.needs.train else None
        sets = Sets(spoiled.cubes, self.clean.cubes, None if train is None else train.cubes)
        described = Described(
            sets,
            dict.fromkeys(("samples", "reference", "train"), self.plan),
            spoiled.description,
            self.clean.description,
            None if train is None else train.description,
        )
        return comparable(metric, described, Run(self._blocks, Comm(), self.seed))


class Memory(Cache):
    """A cache that ends with its process: a degradation that picks or adds cubes leaves most blocks of pairs alone."""

    def __init__(self) -> None:
        super().__init__(None)
        self._rows: dict[str, Mapping[str, NDArray[Any]]] = {}

    def rows(self, keys: Sequence[str]) -> dict[str, Mapping[str, NDArray[Any]]]:
        """Return the rows that are there, by key."""
        return {name: self._rows[name] for name in keys if name in self._rows}

    def store_rows(self, rows: Mapping[str, Mapping[str, NDArray[Any]]]) -> None:
        """Keep rows by key."""
        self._rows.update(rows)
