"""The work of one process: degrade cubes, extract features and compare them, one degradation and severity at a time."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hseval.core.evaluation import MetricEvaluator
from hseval.pipeline.context import ExtractedInputs, RunContext
from hseval.pipeline.inputs import InputSets
from hseval.pipeline.metric_inputs import build_evaluator
from hseval.pipeline.worker import ExtractionPlan
from hseval.qualification.degrade import Degrader
from hseval.qualification.degraded_sets import AlignedSet
from hseval.qualification.plan import Task, build_metric
from hseval.qualification.replicates import compute_replicates
from hseval.utils.distributed import Ranks
from hseval.utils.errors import HsevalError, NotComputable, format_error
from hseval.utils.feature_cache import FeatureCache

if TYPE_CHECKING:
    from hseval.core.protocols import Metric
    from hseval.qualification.report import MetricColumn
    from hseval.stats.jackknife import JackknifeReplicates
    from hseval.utils.arrays import Array, IntArray
    from hseval.utils.parallel import JobSpec

BLOCKS = 10  # jackknife blocks of each set
BLOCK_PAIRS = 24  # pairs of blocks left out together: few, as there are hundreds of comparisons

MetricArm = tuple[str, bool]  # a column's label, and the arm


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Result of a metric for one comparison: replicates of its value, or the reason why there is none.

    ``is_cacheable``: the same input gives the same outcome, so that it may be stored.
    """

    replicates: JackknifeReplicates | None
    missing_reason: str | None = None
    is_cacheable: bool = True


@dataclasses.dataclass
class QualifyJob:
    """Compares the clean half with the degraded other half, in this process or in a worker.

    Attributes:
        tasks: all comparisons.
        columns: the metrics.
        clean_half, other_half: the halves with their features.
        sample_indices, train_indices: cubes of ``other_half`` that serve as a generator's samples and training set,
            where one is needed.
        plan: how features of degraded cubes are extracted, and by which extractors.
        seed: of pairs, blocks and degradations.
        batch_size: cubes an extractor gets at a time.
        pending: the metrics that are still to be computed, by index of the task.
    """

    tasks: Sequence[Task]
    columns: Sequence[MetricColumn]
    clean_half: AlignedSet
    other_half: AlignedSet
    sample_indices: IntArray
    train_indices: IntArray
    plan: ExtractionPlan
    seed: int
    batch_size: int
    pending: Mapping[int, Sequence[MetricArm]] = dataclasses.field(default_factory=dict)

    def run_chunk(self, chunk: list[int]) -> dict[int, dict[MetricArm, Outcome]]:
        """Return the outcomes of some tasks, by index."""
        return {index: self._compute_outcomes(self.tasks[index], self.pending[index]) for index in chunk}

    def get_spec(self) -> JobSpec:
        """Return how a worker builds this job."""
        return QualifyJob, tuple(getattr(self, field.name) for field in dataclasses.fields(self))

    def _compute_outcomes(self, task: Task, pending: Sequence[MetricArm]) -> dict[MetricArm, Outcome]:
        metrics = {label: self._metrics[label] for label, _ in pending}
        extractors = {name for metric in metrics.values() for name in metric.needs.features}
        degraded = self._degrader.degrade(task, extractors, arms={arm for _, arm in pending})
        return {(label, arm): self._compute_outcome(label, degraded[arm], uses_train=arm) for label, arm in pending}

    @functools.cached_property
    def _metrics(self) -> dict[str, Metric]:
        return {column.label: build_metric(column) for column in self.columns}

    @functools.cached_property
    def _block_cache(self) -> FeatureCache:
        return InMemoryCache()

    @functools.cached_property
    def _degrader(self) -> Degrader:
        return Degrader(self.other_half, self.sample_indices, self.train_indices, self.plan, self.seed, self.batch_size)

    @np.errstate(all="ignore")  # a value that is not finite becomes "its value is nan"
    def _compute_outcome(self, label: str, degraded: AlignedSet, *, uses_train: bool) -> Outcome:
        try:
            evaluator = self._build_evaluator(label, degraded, uses_train=uses_train)
            return Outcome(compute_replicates(evaluator, count=BLOCKS, pairs=BLOCK_PAIRS, seed=self.seed))
        except NotComputable as error:
            return Outcome(None, str(error))
        except (HsevalError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - a third party's metric may raise anything
            return Outcome(None, f"it raised {format_error(error)}", is_cacheable=False)

    def _build_evaluator(self, label: str, degraded: AlignedSet, *, uses_train: bool) -> MetricEvaluator:
        """Return the metric with the features of both sides, as for a score."""
        metric = self._metrics[label]
        wavelengths_known = self.clean_half.features.wavelengths_known
        extractors = {extractor.name for extractor in self.plan.extractors}
        if not wavelengths_known and (metric.needs.nm or not extractors.issuperset(metric.needs.features)):
            raise NotComputable("needs wavelengths in nm (--wavelengths FILE|450:905:16)")
        sides = {"samples": degraded, "reference": self.clean_half}
        if uses_train and metric.needs.train:
            sides["train"] = self.other_half.select(self.train_indices)
        inputs = ExtractedInputs(
            InputSets(**{role: side.cubes for role, side in sides.items()}),
            dict.fromkeys(sides, self.plan),
            {role: side.extracted for role, side in sides.items()},
        )
        return build_evaluator(metric, inputs, RunContext(self._block_cache, Ranks(), self.seed))


class InMemoryCache(FeatureCache):
    """A cache of one process: degradations that pick or add cubes leave most blocks of pairs unchanged."""

    def __init__(self) -> None:
        super().__init__(None)
        self._entries: dict[str, Mapping[str, Array]] = {}

    def load_features(self, keys: Sequence[str]) -> dict[str, Mapping[str, Array]]:
        """Return the stored features, by key."""
        return {key: self._entries[key] for key in keys if key in self._entries}

    def store_features(self, features: Mapping[str, Mapping[str, Array]]) -> None:
        """Store features by key."""
        self._entries.update(features)
