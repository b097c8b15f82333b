"""``prdc``: precision, recall, density and coverage of samples among real cubes' nearest neighbours."""

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
    """The share of real cubes that have a sample among their nearest neighbours, and what stands behind it."""

    name: ClassVar[str] = "prdc"
    summary: ClassVar[str] = "coverage: share of real cubes with a sample nearby; with precision, recall and density"
    better: ClassVar[Direction] = "higher"
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    @dataclasses.dataclass(frozen=True)
    class Options:
        """What can be set."""

        extractor: str = option("scattering", "extractor whose rows are compared; numbers of two never compare")
        k: int = option(5, "a ball reaches to this nearest neighbour")

        def __post_init__(self) -> None:
            """Refuse balls without a neighbour."""
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
        found = compute_prdc(real=a, generated=b, k=self.options.k)._asdict()
        details = {
            "extractor": self.options.extractor,
            "dimension": a.shape[1],
            "k": self.options.k,
            **found,
            "shown": {"extractor": self.options.extractor, **found},
        }
        return ScoreParts(found["coverage"], details)
