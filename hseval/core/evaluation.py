"""Protocols of a metric with its inputs, as statistics use it, so that ``hseval.stats`` imports no pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hseval.core.feature_table import FeatureTable
    from hseval.core.protocols import Metric, ScoreParts


class EvaluatorInputs(Protocol):
    """The features that a metric compares: one row per cube, or one per block of cubes for metrics of pairs."""

    @property
    def real(self) -> FeatureTable:
        """The reference's."""

    @property
    def generated(self) -> FeatureTable:
        """The samples'."""

    @property
    def train(self) -> FeatureTable | None:
        """The training set's; None where the metric does not read it."""

    def count_cubes(self, table: FeatureTable, /) -> int:
        """Return how many cubes all rows of a table cover."""


class Evaluator(Protocol):
    """A metric with its inputs, ready to compare any subset of their rows."""

    @property
    def metric(self) -> Metric:
        """The metric."""

    @property
    def seed(self) -> int:
        """The seed of all draws."""

    @property
    def inputs(self) -> EvaluatorInputs:
        """The features, as ``Metric.relate`` returned them."""

    def compute_parts(self, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None) -> ScoreParts:
        """Return the metric's result; raise NotComputable where there is none, or where it is not finite."""

    def compute_headline(self, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None) -> float:
        """Return only the headline value (signed, where it is the absolute value of a difference)."""

    def leave_out_reference(self, excluded_real: NDArray[np.int64]) -> tuple[EvaluatorInputs, NDArray[Any]]:
        """Return the inputs without some reference rows, and for each original row its index among the rest."""
