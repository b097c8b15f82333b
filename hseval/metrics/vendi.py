"""``vendi``: how many different cubes the samples amount to."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import numpy as np

from hseval.core.feature_table import FeatureTable
from hseval.core.hookspecs import ScoreParts
from hseval.core.options import option
from hseval.core.report import Direction
from hseval.metrics.standardized_features import (
    FeatureMetric,
    Float64Array,
    check_min_cubes,
    get_standardized_features,
    name_standardized_column,
)
from hseval.metrics.vendi_score import compute_rms_distance, cosine_similarity, gaussian_kernel, vendi_score

LENGTH_SCALE = "vendi/reach"


class Vendi(FeatureMetric):
    """Effective number of different samples; the floor is that of as many real cubes."""

    name: ClassVar[str] = "vendi"
    summary: ClassVar[str] = "effective number of different samples, against that of as many real cubes"
    better: ClassVar[Direction] = "floor"
    bounds: ClassVar[tuple[float, float]] = (1.0, float("inf"))

    @dataclasses.dataclass(frozen=True)
    class Options:
        """What can be set."""

        extractor: str = option("scattering", "extractor whose rows are compared; numbers of two never compare")
        kernel: Literal["gaussian", "cosine"] = option("gaussian", "similarity; gaussian knows the size of differences")

    options: Options

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def relate(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None
    ) -> tuple[FeatureTable, FeatureTable, FeatureTable | None]:
        """Add features standardised by the full reference, and its typical distance, which all splits share."""
        real, generated, train = super().relate(real=real, generated=generated, train=train)
        reach = compute_rms_distance(real[name_standardized_column(self.options.extractor)])

        def add(rows: FeatureTable) -> FeatureTable:
            return rows.add_columns({LENGTH_SCALE: np.full(len(rows), reach)})

        return add(real), add(generated), train

    def compare(
        self,
        *,
        real: FeatureTable,
        generated: FeatureTable,
        train: FeatureTable | None = None,
        rng: np.random.Generator,
    ) -> ScoreParts:
        """Return the samples' score; the reference's own and the share of the largest possible are details.

        Raises:
            NotComputable: a side has fewer than two cubes, or a feature is not finite.
        """
        check_min_cubes(2, real=real, generated=generated)
        if LENGTH_SCALE not in real.columns:
            real, generated, _ = self.relate(real=real, generated=generated, train=None)
        a, b = get_standardized_features(real=real, generated=generated, extractor=self.options.extractor)
        reach = float(real[LENGTH_SCALE][0])
        value, own = self._compute_vendi_score(b, reach), self._compute_vendi_score(a, reach)
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

    def _compute_vendi_score(self, features: Float64Array, length_scale: float) -> float:
        return vendi_score(
            gaussian_kernel(features, length_scale)
            if self.options.kernel == "gaussian"
            else cosine_similarity(features)
        )
