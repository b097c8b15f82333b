"""``kid``: kernel distance of features, unbiased whatever the number of cubes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from hseval.core.feature_table import FeatureTable
from hseval.core.options import option
from hseval.core.protocols import ScoreParts
from hseval.core.report import Direction
from hseval.metrics.polynomial_mmd import polynomial_mmd
from hseval.metrics.standardized_features import ExtractorOptions, FeatureMetric
from hseval.utils.arrays import Array, IntArray

if TYPE_CHECKING:
    from hseval.utils.random_streams import Rng


class Kid(FeatureMetric):
    """Unbiased squared maximum mean discrepancy with the cubic polynomial kernel."""

    name = "kid"
    summary = "unbiased kernel distance (cubic) of features standardized by real cubes"
    better: Direction = "lower"

    @dataclasses.dataclass(frozen=True)
    class Options(ExtractorOptions):
        """Options of the metric."""

        largest: int = option(
            10_000, "cubes per side that are compared at once; larger sets are split at random into equal subsets"
        )

        def __post_init__(self) -> None:
            """Raise if subsets would have no pair."""
            if self.largest < 2:
                raise ValueError(f"largest is {self.largest}, expected at least 2")

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()
        self.extractor = self.options.extractor

    def compare(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None, rng: Rng
    ) -> ScoreParts:
        """Return the mean over subsets (a single one with all cubes, unless a side is larger than ``largest``).

        Raises:
            NotComputable: a side has fewer than two cubes, or a feature is not finite.
        """
        a, b = self.get_standardized(real=real, generated=generated)
        n_subsets = -(-max(len(a), len(b)) // self.options.largest)
        n_subsets = min(n_subsets, len(a) // 2, len(b) // 2)
        real_subsets = _split_into_subsets(real.hashes, n_subsets, rng)
        generated_subsets = _split_into_subsets(generated.hashes, n_subsets, rng)
        terms = [
            polynomial_mmd(real=a[i], generated=b[j]) for i, j in zip(real_subsets, generated_subsets, strict=True)
        ]
        within_real, within_generated, across = (float(mean) for mean in np.mean(terms, axis=0))
        details = {
            "extractor": self.extractor,
            "dimension": a.shape[1],
            "subsets": n_subsets,
            "subset_size": min(len(a), len(b)) // n_subsets,
            "within_real": within_real,
            "within_samples": within_generated,
            "across": across,
            "shown": {
                "extractor": self.extractor,
                "mean kernel within samples / within real cubes / across": (
                    f"{within_generated:.4g} / {within_real:.4g} / {across:.4g}"
                ),
            },
        }
        return ScoreParts(float(np.mean([subset.squared_mmd for subset in terms])), details)


def _split_into_subsets(hashes: Array, n_subsets: int, rng: np.random.Generator) -> list[IntArray]:
    """Return random disjoint subsets of nearly equal size, as indices; they depend on content, not on order."""
    by_content = np.argsort(hashes, kind="stable")
    shuffled = by_content if n_subsets == 1 else rng.permutation(by_content)
    return [np.sort(subset) for subset in np.array_split(shuffled, n_subsets)]
