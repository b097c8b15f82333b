"""``fid``: the Frechet distance of features, each standardized by its variation in real cubes; also of single views."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hseval.core.feature_table import FeatureTable
from hseval.core.protocols import ScoreParts
from hseval.core.report import Direction
from hseval.metrics.frechet import frechet_terms
from hseval.metrics.standardized_features import ExtractorOptions, FeatureMetric

if TYPE_CHECKING:
    from hseval.utils.arrays import Float64Array
    from hseval.utils.random_streams import Rng


class FrechetMetric(FeatureMetric):
    """Squared Frechet distance of features standardized by the reference."""

    better: Direction = "lower"
    bounds = (0.0, float("inf"))

    def compare(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None, rng: Rng
    ) -> ScoreParts:
        """Return the distance, with its mean and covariance terms.

        Features that did not go through :meth:`relate` are standardized by ``real``.

        Raises:
            NotComputable: a side has fewer than two cubes, or a feature is not finite.
        """
        a, b = self.get_standardized(real=real, generated=generated)
        terms = frechet_terms(real=a, generated=b)
        details = {
            "extractor": self.extractor,
            "dimension": a.shape[1],
            "mean_term": terms.mean,
            "covariance_term": terms.covariance,
            **_find_top_feature(a, b),
            "shown": {
                "extractor": self.extractor,
                "from means": terms.mean,
                "from covariances": terms.covariance,
            },
        }
        return ScoreParts(terms.distance, details)

    def headline(self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None) -> float:
        """Return the distance alone, as :meth:`compare` does."""
        a, b = self.get_standardized(real=real, generated=generated)
        return frechet_terms(real=a, generated=b).distance


class Fid(FrechetMetric):
    """Squared Frechet distance of the features of an extractor that can be chosen."""

    name = "fid"
    summary = "squared Frechet distance of texture and color features, standardized by real cubes"
    Options = ExtractorOptions

    def __init__(self, options: ExtractorOptions | None = None) -> None:
        self.options = options or ExtractorOptions()
        self.extractor = self.options.extractor


class FidSpectral(FrechetMetric):
    """Frechet distance of cubes whose pixels are shuffled."""

    name = "fid-spectral"
    summary = "fid of cubes whose pixels are shuffled: spectra alone"
    extractor = "spectral-view"


class FidSpatial(FrechetMetric):
    """Frechet distance of the cubes' means over bands."""

    name = "fid-spatial"
    summary = "fid of the mean over bands: space alone"
    extractor = "spatial-view"


def _find_top_feature(real: Float64Array, generated: Float64Array) -> dict[str, float | int]:
    """Return the feature with the largest one-dimensional Frechet distance, and its share of the sum over features."""
    distances = (real.mean(axis=0) - generated.mean(axis=0)) ** 2
    distances += (real.std(axis=0, ddof=1) - generated.std(axis=0, ddof=1)) ** 2
    top = int(distances.argmax())
    total = float(distances.sum())
    return {"top_feature": top, "top_feature_share": float(distances[top]) / total if total > 0 else 0.0}
