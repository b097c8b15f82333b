"""``prdc``: precision, recall, density and coverage, from nearest-neighbor balls."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from hseval.core.feature_table import FeatureTable
from hseval.core.hookspecs import ScoreParts
from hseval.core.options import option
from hseval.core.report import Direction
from hseval.metrics.knn_coverage import compute_prdc
from hseval.metrics.standardized_features import FeatureMetric, check_min_cubes, get_standardized_features


class PrecisionRecall(FeatureMetric):
    """Coverage: the share of real cubes with a sample nearer than their k-th real neighbor; with the other three."""

    name: ClassVar[str] = "prdc"
    summary: ClassVar[str] = "coverage: share of real cubes with a sample nearby; with precision, recall and density"
    better: ClassVar[Direction] = "higher"
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    @dataclasses.dataclass(frozen=True)
    class Options:
        """Options of the metric."""

        extractor: str = option(
            "scattering", "extractor whose features are compared; scores are not comparable across extractors"
        )
        k: int = option(5, "the radius of a cube's ball is the distance to its k-th nearest neighbor")

        def __post_init__(self) -> None:
            """Raise if balls would have no neighbor."""
            if self.k < 1:
                raise ValueError(f"k is {self.k}, expected at least 1")

    options: Options

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def compare(
        self,
        *,
        real: FeatureTable,
        generated: FeatureTable,
        train: FeatureTable | None = None,
        rng: np.random.Generator,
    ) -> ScoreParts:
        """Return coverage, with all four in the details.

        Raises:
            NotComputable: a side has no more than ``k`` cubes, or a feature is not finite.
        """
        check_min_cubes(self.options.k + 1, real=real, generated=generated)
        a, b = get_standardized_features(real=real, generated=generated, extractor=self.options.extractor)
        scores = compute_prdc(real=a, generated=b, k=self.options.k)._asdict()
        details = {
            "extractor": self.options.extractor,
            "dimension": a.shape[1],
            "k": self.options.k,
            **scores,
            "shown": {"extractor": self.options.extractor, **scores},
        }
        return ScoreParts(scores["coverage"], details)
