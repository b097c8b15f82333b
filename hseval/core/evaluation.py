"""A metric with its inputs, as statistics use it: ``hseval.stats`` imports no pipeline."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.core.capabilities import SetsByRole, SupportsHeadline, SupportsRelate, SupportsShownValues, relates_anew
from hseval.core.feature_table import FeatureTable
from hseval.core.protocols import Metric, ScoreParts
from hseval.utils.errors import NotComputable
from hseval.utils.random_streams import create_rng

BLOCK_SIZE_COLUMN = "pairs/cubes"  # column: number of cubes in a block

HistogramValues = Mapping[str, "tuple[NDArray[Any], NDArray[Any]]"]  # label -> real values, sample values


@dataclasses.dataclass(frozen=True)
class MetricInputs:
    """The features that ``compare`` gets: one row per cube, or one per block of cubes for metrics of pairs."""

    real: FeatureTable
    generated: FeatureTable
    train: FeatureTable | None


@dataclasses.dataclass(frozen=True)
class MetricEvaluator:
    """A metric with its inputs, ready to compare any subset of their rows.

    Attributes:
        metric: the metric.
        seed: seed of its own draws.
        raw_inputs: the features before ``relate``.
        inputs: the features after it.
    """

    metric: Metric
    seed: int
    raw_inputs: MetricInputs
    inputs: MetricInputs

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
        if not isinstance(self.metric, SupportsHeadline):
            return self.compute_parts(real, generated, train).signed_value
        value = float(self.metric.headline(real=real, generated=generated, train=train))
        if not np.isfinite(value):
            raise NotComputable(f"its value is {value}")
        return value

    def leave_out_reference(self, excluded_real: NDArray[np.int64]) -> tuple[MetricInputs, NDArray[np.int64]]:
        """Return the inputs without some reference rows, and the index in them of each original row (-1: left out)."""
        all_indices = np.arange(len(self.inputs.real))
        if self.metric.needs.cubes or not relates_anew(self.metric) or not len(excluded_real):
            return self.inputs, all_indices
        retained = np.delete(all_indices, excluded_real)
        index_map = np.full(len(all_indices), -1)
        index_map[retained] = np.arange(len(retained))
        raw_inputs = dataclasses.replace(self.raw_inputs, real=self.raw_inputs.real.select(retained))
        return relate_inputs(self.metric, raw_inputs, None), index_map

    def collect_histogram_values(self) -> HistogramValues:
        """Return the values of single cubes or pairs that the metric shows in an HTML report."""
        if not isinstance(self.metric, SupportsShownValues):
            return {}
        try:
            values = self.metric.shown_values(real=self.inputs.real, generated=self.inputs.generated)
            return {
                str(label): (np.asarray(real, dtype=np.float64), np.asarray(generated, dtype=np.float64))
                for label, (real, generated) in values.items()
            }
        except Exception:  # noqa: BLE001 - a histogram that fails must not cost the score
            return {}


def relate_inputs(metric: Metric, raw: MetricInputs, sets: SetsByRole | None) -> MetricInputs:
    """Return the features with the columns that the metric adds; ``sets`` are for metrics that read cubes again."""
    if not isinstance(metric, SupportsRelate):
        return raw
    more: dict[str, Any] = {"cubes": sets} if metric.needs.cubes else {}
    return MetricInputs(*metric.relate(real=raw.real, generated=raw.generated, train=raw.train, **more))


def count_cubes(features: FeatureTable) -> int:
    """Return how many cubes the rows of a table cover: one each, but in a table of blocks."""
    return int(features[BLOCK_SIZE_COLUMN].sum()) if BLOCK_SIZE_COLUMN in features.columns else len(features)
