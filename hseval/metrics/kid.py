"""``kid``: kernel distance of feature rows, unbiased whatever the number of cubes."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hseval.core.feature_table import FeatureTable
from hseval.core.hookspecs import ScoreParts
from hseval.core.options import option
from hseval.core.report import Direction
from hseval.metrics.polynomial_mmd import polynomial_mmd
from hseval.metrics.standardized_features import FeatureMetric, check_min_cubes, get_standardized_features


class Kid(FeatureMetric):
    """Unbiased squared maximum mean discrepancy with the cubic polynomial kernel."""

    name: ClassVar[str] = "kid"
    summary: ClassVar[str] = "unbiased kernel distance (cubic) of features standardised by real cubes"
    better: ClassVar[Direction] = "lower"

    @dataclasses.dataclass(frozen=True)
    class Options:
        """What can be set."""

        extractor: str = option("scattering", "extractor whose rows are compared; numbers of two never compare")
        largest: int = option(10_000, "cubes a side compared at once; larger sets are dealt into equal subsets")

        def __post_init__(self) -> None:
            """Refuse subsets without a pair."""
            if self.largest < 2:
                raise ValueError(f"largest is {self.largest}, expected at least 2")

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
        """Return the mean over subsets (one, of everything, unless a side is larger than ``largest``).

        Raises:
            NotComputable: a side has fewer than two cubes, or a feature is not finite.
        """
        check_min_cubes(2, real=real, generated=generated)
        a, b = get_standardized_features(real=real, generated=generated, extractor=self.options.extractor)
        count = -(-max(len(a), len(b)) // self.options.largest)
        count = min(count, len(a) // 2, len(b) // 2)
        dealt = zip(
            _split_into_subsets(real.hashes, count, rng), _split_into_subsets(generated.hashes, count, rng), strict=True
        )
        terms = [polynomial_mmd(real=a[one], generated=b[other]) for one, other in dealt]
        within_real, within_generated, across = (float(each) for each in np.mean(terms, axis=0))
        details = {
            "extractor": self.options.extractor,
            "dimension": a.shape[1],
            "subsets": count,
            "subset_size": min(len(a), len(b)) // count,
            "within_real": within_real,
            "within_samples": within_generated,
            "across": across,
            "shown": {
                "extractor": self.options.extractor,
                "mean kernel within samples / within real cubes / across": (
                    f"{within_generated:.4g} / {within_real:.4g} / {across:.4g}"
                ),
            },
        }
        return ScoreParts(float(np.mean([each.squared_mmd for each in terms])), details)


def _split_into_subsets(hashes: NDArray[Any], n_subsets: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Deal rows at random into disjoint subsets of nearly equal size, whatever their order."""
    by_content = np.argsort(hashes, kind="stable")
    shuffled = by_content if n_subsets == 1 else rng.permutation(by_content)
    return [np.sort(part) for part in np.array_split(shuffled, n_subsets)]
