"""``fid-spectral`` and ``fid-spatial``: the Frechet distance of one view of the cubes, spectra alone or space alone."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from hseval.core.feature_table import Rows
from hseval.core.hookspecs import Needs, ScoreParts
from hseval.core.report import Better
from hseval.metrics.fid import Fid


class _FidOfView:
    """``fid`` on the rows of a view; which extractor describes the view is the view's own option."""

    better: ClassVar[Better] = "lower"
    relates_anew: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    needs: ClassVar[Needs]

    def __init__(self) -> None:
        self._fid = Fid(Fid.Options(extractor=self.needs.rows[0]))

    def relate(self, *, real: Rows, fake: Rows, train: Rows | None) -> tuple[Rows, Rows, Rows | None]:
        """Add the column of features standardised by the full reference, as ``fid`` does."""
        return self._fid.relate(real=real, fake=fake, train=train)

    def compare(self, *, real: Rows, fake: Rows, train: Rows | None = None, rng: np.random.Generator) -> ScoreParts:
        """Return the distance, as ``fid`` does.

        Raises:
            NotComputable: a side has fewer than two cubes, or a feature is not finite.
        """
        return self._fid.compare(real=real, fake=fake, train=train, rng=rng)

    def headline(self, *, real: Rows, fake: Rows, train: Rows | None = None) -> float:
        """Return the distance alone, as ``fid`` does."""
        return self._fid.headline(real=real, fake=fake, train=train)


class FidSpectral(_FidOfView):
    """Frechet distance of cubes whose pixels are shuffled."""

    name: ClassVar[str] = "fid-spectral"
    summary: ClassVar[str] = "fid of cubes whose pixels are shuffled: spectra alone"
    needs: ClassVar[Needs] = Needs(rows=("spectral-view",))


class FidSpatial(_FidOfView):
    """Frechet distance of the cubes' means over bands."""

    name: ClassVar[str] = "fid-spatial"
    summary: ClassVar[str] = "fid of the mean over bands: space alone"
    needs: ClassVar[Needs] = Needs(rows=("spatial-view",))
