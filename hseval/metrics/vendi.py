"""``vendi``: the effective number of different samples."""

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
from hseval.utils.plural import format_count

LENGTH_SCALE = "vendi/length-scale"


class Vendi(FeatureMetric):
    """Effective number of different samples; the floor is that of the same number of real cubes."""

    name: ClassVar[str] = "vendi"
    summary: ClassVar[str] = "effective number of different samples; its floor is that of as many real cubes"
    better: ClassVar[Direction] = "floor"
    bounds: ClassVar[tuple[float, float]] = (1.0, float("inf"))

    @dataclasses.dataclass(frozen=True)
    class Options:
        """Options of the metric."""

        extractor: str = option(
            "scattering", "extractor whose features are compared; scores are not comparable across extractors"
        )
        kernel: Literal["gaussian", "cosine"] = option(
            "gaussian", "similarity kernel; gaussian depends on the size of differences, cosine on directions alone"
        )

    options: Options

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def relate(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None
    ) -> tuple[FeatureTable, FeatureTable, FeatureTable | None]:
        """Add features standardized by the full reference, and its typical distance, which all splits share."""
        real, generated, train = super().relate(real=real, generated=generated, train=train)
        length_scale = compute_rms_distance(real[name_standardized_column(self.options.extractor)])

        def add_length_scale(table: FeatureTable) -> FeatureTable:
            return table.add_columns({LENGTH_SCALE: np.full(len(table), length_scale)})

        return add_length_scale(real), add_length_scale(generated), train

    def compare(
        self,
        *,
        real: FeatureTable,
        generated: FeatureTable,
        train: FeatureTable | None = None,
        rng: np.random.Generator,
    ) -> ScoreParts:
        """Return the samples' score, with the reference's own in the details.

        Raises:
            NotComputable: a side has fewer than two cubes, or a feature is not finite.
        """
        check_min_cubes(2, real=real, generated=generated)
        if LENGTH_SCALE not in real.columns:
            real, generated, _ = self.relate(real=real, generated=generated, train=None)
        a, b = get_standardized_features(real=real, generated=generated, extractor=self.options.extractor)
        length_scale = float(real[LENGTH_SCALE][0])
        value = self._compute_vendi_score(b, length_scale)
        reference_value = self._compute_vendi_score(a, length_scale)
        details = {
            "extractor": self.options.extractor,
            "dimension": a.shape[1],
            "kernel": self.options.kernel,
            "reach": length_scale,
            "samples": len(b),
            "of_reference": reference_value,
            "shown": {
                "extractor": self.options.extractor,
                "kernel": self.options.kernel,
                f"of {format_count(len(a), 'reference cube')}": reference_value,
            },
        }
        return ScoreParts(value, details)

    def _compute_vendi_score(self, features: Float64Array, length_scale: float) -> float:
        return vendi_score(
            gaussian_kernel(features, length_scale)
            if self.options.kernel == "gaussian"
            else cosine_similarity(features)
        )
