"""``vendi``: how many different cubes the samples amount to."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import numpy as np

from hseval.core.feature_table import Rows
from hseval.core.hookspecs import ScoreParts
from hseval.core.options import option
from hseval.core.report import Better
from hseval.metrics.standardized_features import Array, OfFeatures, at_least, standardised_column, standardised_features
from hseval.metrics.vendi_score import cosine, gaussian, typical_distance, vendi_score

REACH = "vendi/reach"


class Vendi(OfFeatures):
    """Effective number of different samples; the floor is that of as many real cubes."""

    name: ClassVar[str] = "vendi"
    summary: ClassVar[str] = "effective number of different samples, against that of as many real cubes"
    better: ClassVar[Better] = "floor"
    bounds: ClassVar[tuple[float, float]] = (1.0, float("inf"))

    @dataclasses.dataclass(frozen=True)
    class Options:
        """What can be set."""

        extractor: str = option("scattering", "extractor whose rows are compared; numbers of two never compare")
        kernel: Literal["gaussian", "cosine"] = option("gaussian", "similarity; gaussian knows the size of differences")

    options: Options

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def relate(self, *, real: Rows, fake: Rows, train: Rows | None) -> tuple[Rows, Rows, Rows | None]:
        """Add features standardised by the full reference, and its typical distance, which all splits share."""
        real, fake, train = super().relate(real=real, fake=fake, train=train)
        reach = typical_distance(real[standardised_column(self.options.extractor)])

        def add(rows: Rows) -> Rows:
            return rows.adding({REACH: np.full(len(rows), reach)})

        return add(real), add(fake), train

    def compare(self, *, real: Rows, fake: Rows, train: Rows | None = None, rng: np.random.Generator) -> ScoreParts:
        """Return the samples' score; the reference's own and the share of the largest possible are details.

        Raises:
            NotComputable: a side has fewer than two cubes, or a feature is not finite.
        """
        at_least(2, real=real, fake=fake)
        if REACH not in real.columns:
            real, fake, _ = self.relate(real=real, fake=fake, train=None)
        a, b = standardised_features(real=real, fake=fake, extractor=self.options.extractor)
        reach = float(real[REACH][0])
        value, own = self._score(b, reach), self._score(a, reach)
        details = {
            "extractor": self.options.extractor,
            "dimension": a.shape[1],
            "kernel": self.options.kernel,
            "reach": reach,
            "samples": len(b),
            "of_reference": own,
            "shown": {
                "extractor": self.options.extractor,
                "kernel": self.options.kernel,
                f"of {len(a)} reference cubes": own,
            },
        }
        return ScoreParts(value, details)

    def _score(self, rows: Array, reach: float) -> float:
        return vendi_score(gaussian(rows, reach) if self.options.kernel == "gaussian" else cosine(rows))
