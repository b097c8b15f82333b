"""``vendi``: the effective number of different samples."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import numpy as np

from hseval.core.feature_table import FeatureTable, RelatedTables
from hseval.core.options import option
from hseval.core.protocols import ScoreParts
from hseval.core.report import Direction
from hseval.metrics.standardized_features import (
    ExtractorOptions,
    FeatureMetric,
    check_min_cubes,
    name_standardized_column,
)
from hseval.metrics.vendi_score import compute_rms_distance, cosine_similarity, gaussian_kernel, vendi_score
from hseval.utils.plural import format_count

if TYPE_CHECKING:
    from hseval.utils.arrays import Float64Array
    from hseval.utils.random_streams import Rng

LENGTH_SCALE = "vendi/length-scale"


class Vendi(FeatureMetric):
    """Effective number of different samples; the floor is that of the same number of real cubes."""

    name = "vendi"
    summary = "effective number of different samples; its floor is that of as many real cubes"
    better: Direction = "floor"
    bounds = (1.0, float("inf"))

    @dataclasses.dataclass(frozen=True)
    class Options(ExtractorOptions):
        """Options of the metric."""

        kernel: Literal["gaussian", "cosine"] = option(
            "gaussian", "similarity kernel; gaussian depends on the size of differences, cosine on directions alone"
        )

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()
        self.extractor = self.options.extractor

    def relate(self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None) -> RelatedTables:
        """Add features standardized by the full reference, and its typical distance, which all splits share."""
        real, generated, train = super().relate(real=real, generated=generated, train=train)
        length_scale = compute_rms_distance(real[name_standardized_column(self.extractor)])

        def add_length_scale(table: FeatureTable) -> FeatureTable:
            return table.add_columns({LENGTH_SCALE: np.full(len(table), length_scale)})

        return add_length_scale(real), add_length_scale(generated), train

    def compare(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None, rng: Rng
    ) -> ScoreParts:
        """Return the samples' score, with the reference's own in the details.

        Raises:
            NotComputable: a side has fewer than two cubes, or a feature is not finite.
        """
        check_min_cubes(2, real=real, generated=generated)
        if LENGTH_SCALE not in real.columns:
            real, generated, _ = self.relate(real=real, generated=generated, train=None)
        a, b = self.get_standardized(real=real, generated=generated)
        length_scale = float(real[LENGTH_SCALE][0])
        value = self._compute_vendi_score(b, length_scale)
        reference_value = self._compute_vendi_score(a, length_scale)
        details = {
            "extractor": self.extractor,
            "dimension": a.shape[1],
            "kernel": self.options.kernel,
            "reach": length_scale,
            "samples": len(b),
            "of_reference": reference_value,
            "shown": {
                "extractor": self.extractor,
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
