"""``fid``: the Frechet distance of features, each standardized by its variation in real cubes."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from hseval.core.feature_table import FeatureTable
from hseval.core.hookspecs import ScoreParts
from hseval.core.options import option
from hseval.core.report import Direction
from hseval.metrics.frechet import frechet_terms
from hseval.metrics.standardized_features import FeatureMetric, Float64Array, check_min_cubes, get_standardized_features


class Fid(FeatureMetric):
    """Squared Frechet distance of features standardized by the reference."""

    name: ClassVar[str] = "fid"
    summary: ClassVar[str] = "squared Frechet distance of texture and color features, standardized by real cubes"
    better: ClassVar[Direction] = "lower"
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))

    @dataclasses.dataclass(frozen=True)
    class Options:
        """Options of the metric."""

        extractor: str = option(
            "scattering", "extractor whose features are compared; scores are not comparable across extractors"
        )

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
        """Return the distance, with its mean and covariance terms.

        Features that did not go through :meth:`relate` are standardized by ``real``.

        Raises:
            NotComputable: a side has fewer than two cubes, or a feature is not finite.
        """
        check_min_cubes(2, real=real, generated=generated)
        a, b = get_standardized_features(real=real, generated=generated, extractor=self.options.extractor)
        terms = frechet_terms(real=a, generated=b)
        details = {
            "extractor": self.options.extractor,
            "dimension": a.shape[1],
            "mean_term": terms.mean,
            "covariance_term": terms.covariance,
            **_find_top_feature(a, b),
            "shown": {
                "extractor": self.options.extractor,
                "from means": terms.mean,
                "from covariances": terms.covariance,
            },
        }
        return ScoreParts(terms.distance, details)

    def headline(self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None) -> float:
        """Return the distance alone, as :meth:`compare` does."""
        check_min_cubes(2, real=real, generated=generated)
        a, b = get_standardized_features(real=real, generated=generated, extractor=self.options.extractor)
        return frechet_terms(real=a, generated=b).distance


def _find_top_feature(real: Float64Array, generated: Float64Array) -> dict[str, float | int]:
    """Return the feature with the largest one-dimensional Frechet distance, and its share of the sum over features."""
    distances = (real.mean(axis=0) - generated.mean(axis=0)) ** 2
    distances += (real.std(axis=0, ddof=1) - generated.std(axis=0, ddof=1)) ** 2
    top = int(distances.argmax())
    total = float(distances.sum())
    return {"top_feature": top, "top_feature_share": float(distances[top]) / total if total > 0 else 0.0}
