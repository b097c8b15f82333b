"""``prdc``: precision, recall, density and coverage, from nearest-neighbor balls."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from hseval.core.feature_table import FeatureTable
from hseval.core.options import option
from hseval.core.protocols import ScoreParts
from hseval.core.report import Direction
from hseval.metrics.knn_coverage import compute_prdc
from hseval.metrics.standardized_features import ExtractorOptions, FeatureMetric

if TYPE_CHECKING:
    from hseval.utils.random_streams import Rng


class PrecisionRecall(FeatureMetric):
    """Coverage: the share of real cubes with a sample nearer than their k-th real neighbor; with the other three."""

    name = "prdc"
    summary = "coverage: share of real cubes with a sample nearby; with precision, recall and density"
    better: Direction = "higher"
    bounds = (0.0, 1.0)

    @dataclasses.dataclass(frozen=True)
    class Options(ExtractorOptions):
        """Options of the metric."""

        k: int = option(5, "the radius of a cube's ball is the distance to its k-th nearest neighbor")

        def __post_init__(self) -> None:
            """Raise if balls would have no neighbor."""
            if self.k < 1:
                raise ValueError(f"k is {self.k}, expected at least 1")

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()
        self.extractor = self.options.extractor

    def compare(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None, rng: Rng
    ) -> ScoreParts:
        """Return coverage, with all four in the details.

        Raises:
            NotComputable: a side has no more than ``k`` cubes, or a feature is not finite.
        """
        a, b = self.get_standardized(real=real, generated=generated, min_cubes=self.options.k + 1)
        scores = compute_prdc(real=a, generated=b, k=self.options.k)._asdict()
        details = {
            "extractor": self.extractor,
            "dimension": a.shape[1],
            "k": self.options.k,
            **scores,
            "shown": {"extractor": self.extractor, **scores},
        }
        return ScoreParts(scores["coverage"], details)
