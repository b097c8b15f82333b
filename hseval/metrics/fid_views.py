"""``fid-spectral`` and ``fid-spatial``: the Frechet distance of one view of the cubes, spectral or spatial alone."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from hseval.core.feature_table import FeatureTable
from hseval.core.hookspecs import Needs, ScoreParts
from hseval.core.report import Direction
from hseval.metrics.fid import Fid


class _ViewFid:
    """``fid`` on the features of a view; the feature extractor is an option of the view."""

    better: ClassVar[Direction] = "lower"
    relates_anew: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    needs: ClassVar[Needs]

    def __init__(self) -> None:
        self._fid = Fid(Fid.Options(extractor=self.needs.features[0]))

    def relate(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None
    ) -> tuple[FeatureTable, FeatureTable, FeatureTable | None]:
        """Add the column of features standardized by the full reference, as ``fid`` does."""
        return self._fid.relate(real=real, generated=generated, train=train)

    def compare(
        self,
        *,
        real: FeatureTable,
        generated: FeatureTable,
        train: FeatureTable | None = None,
        rng: np.random.Generator,
    ) -> ScoreParts:
        """Return the distance, as ``fid`` does.

        Raises:
            NotComputable: a side has fewer than two cubes, or a feature is not finite.
        """
        return self._fid.compare(real=real, generated=generated, train=train, rng=rng)

    def headline(self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None) -> float:
        """Return the distance alone, as ``fid`` does."""
        return self._fid.headline(real=real, generated=generated, train=train)


class FidSpectral(_ViewFid):
    """Frechet distance of cubes whose pixels are shuffled."""

    name: ClassVar[str] = "fid-spectral"
    summary: ClassVar[str] = "fid of cubes whose pixels are shuffled: spectra alone"
    needs: ClassVar[Needs] = Needs(features=("spectral-view",))


class FidSpatial(_ViewFid):
    """Frechet distance of the cubes' means over bands."""

    name: ClassVar[str] = "fid-spatial"
    summary: ClassVar[str] = "fid of the mean over bands: space alone"
    needs: ClassVar[Needs] = Needs(features=("spatial-view",))
