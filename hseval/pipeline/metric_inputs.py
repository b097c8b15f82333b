"""The features that a metric compares: those it needs, and those that its ``relate`` adds from the full sets."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.hookspecs import ScoreParts
from hseval.pipeline.context import ExtractedInputs, RunContext
from hseval.pipeline.pairs import BLOCK_SIZE_COLUMN, extract_pair_features
from hseval.utils.errors import NotComputable
from hseval.utils.random_streams import create_rng

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.feature_table import FeatureTable
    from hseval.core.hookspecs import Metric


@dataclasses.dataclass(frozen=True)
class MetricInputs:
    """The features that ``compare`` gets: one row per cube, or one per block of cubes for metrics of pairs."""

    real: FeatureTable
    generated: FeatureTable
    train: FeatureTable | None

    def count_reference_cubes(self, indices: Any) -> int:
        """Return how many reference cubes the rows at ``indices`` cover."""
        return (
            int(self.real[BLOCK_SIZE_COLUMN][indices].sum()) if BLOCK_SIZE_COLUMN in self.real.columns else len(indices)
        )

    def count_cubes(self, features: FeatureTable) -> int:
        """Return how many cubes all rows of a side cover."""
        return int(features[BLOCK_SIZE_COLUMN].sum()) if BLOCK_SIZE_COLUMN in features.columns else len(features)


@dataclasses.dataclass(frozen=True)
class MetricEvaluator:
    """A metric with its inputs, ready to compare any subset of their rows.

    Attributes:
        metric: the metric.
        seed: seed of its own draws.
        raw_inputs: the features before ``relate``.
        inputs: the features after it.
        rerun_relate: calls ``relate`` again on raw inputs; None: its result does not depend on which cubes there are.
    """

    metric: Metric
    seed: int
    raw_inputs: MetricInputs
    inputs: MetricInputs
    rerun_relate: Callable[[MetricInputs], MetricInputs] | None

    def compute_parts(self, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None) -> ScoreParts:
        """Return the metric's answer.

        Raises:
            NotComputable: there is none, or it is not finite.
        """
        # The same stream in every call, so that a metric's own draws do not add to the standard deviation over splits.
        result = self.metric.compare(
            real=real, generated=generated, train=train, rng=create_rng(self.seed, self.metric.name)
        )
        parts = result if isinstance(result, ScoreParts) else ScoreParts(float(result))
        if not np.isfinite(parts.value):
            raise NotComputable(f"its value is {parts.value}")
        return parts

    def compute_headline(self, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None) -> float:
        """Return the metric's headline alone (signed, where it is the absolute value of a difference)."""
        headline = getattr(self.metric, "headline", None)
        if headline is None:
            return self.compute_parts(real, generated, train).signed_value
        value = float(headline(real=real, generated=generated, train=train))
        if not np.isfinite(value):
            raise NotComputable(f"its value is {value}")
        return value

    def leave_out_reference(self, excluded_real: NDArray[np.int64]) -> tuple[MetricInputs, NDArray[np.int64]]:
        """Return the inputs without some reference rows, and the index in them of each original row (-1: left out)."""
        all_indices = np.arange(len(self.inputs.real))
        if self.rerun_relate is None or not len(excluded_real):
            return self.inputs, all_indices
        retained = np.delete(all_indices, excluded_real)
        index_map = np.full(len(all_indices), -1)
        index_map[retained] = np.arange(len(retained))
        raw_inputs = dataclasses.replace(self.raw_inputs, real=self.raw_inputs.real.select(retained))
        return self.rerun_relate(raw_inputs), index_map


def build_evaluator(metric: Metric, inputs: ExtractedInputs, context: RunContext) -> MetricEvaluator:
    """Return the metric with its inputs."""
    names = metric.needs.features
    train = inputs.train.features.select_extractors(names) if inputs.train is not None and metric.needs.train else None
    if metric.needs.pairs:
        real, generated = (_extract_pairs(metric, inputs, role, context) for role in ("reference", "samples"))
    else:
        real, generated = (
            inputs.reference.features.select_extractors(names),
            inputs.samples.features.select_extractors(names),
        )
    raw_inputs = MetricInputs(real, generated, train)
    if not hasattr(metric, "relate"):
        return MetricEvaluator(metric, context.seed, raw_inputs, raw_inputs, None)
    more: dict[str, Any] = {"cubes": inputs.sets} if metric.needs.cubes else {}

    def relate(raw: MetricInputs) -> MetricInputs:
        return MetricInputs(*metric.relate(real=raw.real, generated=raw.generated, train=raw.train, **more))

    rerun_relate = relate if getattr(metric, "relates_anew", False) and not more else None
    related = relate(raw_inputs)
    if context.histogram_values is not None and hasattr(metric, "shown_values"):
        with contextlib.suppress(Exception):  # a histogram that fails must not cost the score
            # Those of the first call: a score by other masks comes later.
            context.histogram_values.setdefault(
                metric.name, metric.shown_values(real=related.real, generated=related.generated)
            )
    return MetricEvaluator(metric, context.seed, raw_inputs, related, rerun_relate)


def _extract_pairs(metric: Metric, inputs: ExtractedInputs, role: str, context: RunContext) -> FeatureTable:
    return extract_pair_features(
        metric,
        getattr(inputs.sets, role),
        getattr(inputs, role),
        plan=inputs.plans[role],
        reference=inputs.reference.features,
        rng=create_rng(context.seed, f"{metric.name} pairs"),
        cache=context.cache,
        workers=context.workers,
        comm=context.comm,
        progress=context.make_progress_callback(f"{metric.name} of {role}"),
    )
