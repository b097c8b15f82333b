"""The rows that a metric compares: what it needs of the described sets, with what it adds once from the full ones."""

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
    """The rows that ``compare`` gets: one a cube, or one a block of cubes for metrics of pairs."""

    real: FeatureTable
    generated: FeatureTable
    train: FeatureTable | None

    def count_reference_cubes(self, indices: Any) -> int:
        """Return how many reference cubes the rows at ``indices`` stand for."""
        return (
            int(self.real[BLOCK_SIZE_COLUMN][indices].sum()) if BLOCK_SIZE_COLUMN in self.real.columns else len(indices)
        )

    def count_cubes(self, features: FeatureTable) -> int:
        """Return how many cubes all rows of a side stand for."""
        return int(features[BLOCK_SIZE_COLUMN].sum()) if BLOCK_SIZE_COLUMN in features.columns else len(features)


@dataclasses.dataclass(frozen=True)
class MetricEvaluator:
    """A metric on described sets, ready to compare any subset of their rows.

    Attributes:
        metric: what compares.
        seed: of its own draws.
        raw_inputs: the rows before ``relate``.
        inputs: the rows after it.
        rerun_relate: relates the plain rows anew; None: relating says nothing that other cubes would change.
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
        # The same stream in every call, so that a metric's own draws do not add to the spread over splits.
        found = self.metric.compare(
            real=real, generated=generated, train=train, rng=create_rng(self.seed, self.metric.name)
        )
        parts = found if isinstance(found, ScoreParts) else ScoreParts(float(found))
        if not np.isfinite(parts.value):
            raise NotComputable(f"its value is {parts.value}")
        return parts

    def compute_headline(self, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None) -> float:
        """Return the metric's headline alone (signed, where it is the absolute value of a difference)."""
        headline = getattr(self.metric, "headline", None)
        if headline is None:
            return get_signed_value(self.compute_parts(real, generated, train))
        found = float(headline(real=real, generated=generated, train=train))
        if not np.isfinite(found):
            raise NotComputable(f"its value is {found}")
        return found

    def leave_out_reference(self, excluded_real: NDArray[np.int64]) -> tuple[MetricInputs, NDArray[np.int64]]:
        """Return the rows as related without some reference rows, and the place among them of each row of all."""
        everything = np.arange(len(self.inputs.real))
        if self.rerun_relate is None or not len(excluded_real):
            return self.inputs, everything
        kept = np.delete(everything, excluded_real)
        places = np.full(len(everything), -1)
        places[kept] = np.arange(len(kept))
        plain = dataclasses.replace(self.raw_inputs, real=self.raw_inputs.real.select(kept))
        return self.rerun_relate(plain), places


def get_signed_value(parts: ScoreParts) -> float:
    """Return the headline, or the difference that it is the absolute value of."""
    return float(parts.value if parts.signed is None else parts.signed)


def build_evaluator(metric: Metric, inputs: ExtractedInputs, context: RunContext) -> MetricEvaluator:
    """Return the metric with its rows."""
    wanted = metric.needs.features
    train = inputs.train.features.select_extractors(wanted) if inputs.train is not None and metric.needs.train else None
    if metric.needs.pairs:
        real, generated = (_extract_pairs(metric, inputs, role, context) for role in ("reference", "samples"))
    else:
        real, generated = (
            inputs.reference.features.select_extractors(wanted),
            inputs.samples.features.select_extractors(wanted),
        )
    plain = MetricInputs(real, generated, train)
    if not hasattr(metric, "relate"):
        return MetricEvaluator(metric, context.seed, plain, plain, None)
    more: dict[str, Any] = {"cubes": inputs.sets} if metric.needs.cubes else {}

    def relate(rows: MetricInputs) -> MetricInputs:
        return MetricInputs(*metric.relate(real=rows.real, generated=rows.generated, train=rows.train, **more))

    again = relate if getattr(metric, "relates_anew", False) and not more else None
    related = relate(plain)
    if context.histogram_values is not None and hasattr(metric, "shown_values"):
        with contextlib.suppress(Exception):  # a histogram that fails costs no score
            # By the first rows: a score by other masks comes later.
            context.histogram_values.setdefault(
                metric.name, metric.shown_values(real=related.real, generated=related.generated)
            )
    return MetricEvaluator(metric, context.seed, plain, related, again)


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
