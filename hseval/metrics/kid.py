"""``kid``: kernel distance of feature rows, unbiased whatever the number of cubes."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hseval.core.feature_table import Rows
from hseval.core.hookspecs import ScoreParts
from hseval.core.options import option
from hseval.core.report import Better
from hseval.metrics.polynomial_mmd import polynomial_mmd
from hseval.metrics.standardized_features import OfFeatures, at_least, standardised_features


class Kid(OfFeatures):
    """Unbiased squared maximum mean discrepancy with the cubic polynomial kernel."""

    name: ClassVar[str] = "kid"
    summary: ClassVar[str] = "unbiased kernel distance (cubic) of features standardised by real cubes"
    better: ClassVar[Better] = "lower"

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

    def compare(self, *, real: Rows, fake: Rows, train: Rows | None = None, rng: np.random.Generator) -> ScoreParts:
        """Return the mean over subsets (one, of everything, unless a side is larger than ``largest``).

        Raises:
            NotComputable: a side has fewer than two cubes, or a feature is not finite.
        """
        at_least(2, real=real, fake=fake)
        a, b = standardised_features(real=real, fake=fake, extractor=self.options.extractor)
        count = -(-max(len(a), len(b)) // self.options.largest)
        count = min(count, len(a) // 2, len(b) // 2)
        dealt = zip(_deal(real.hashes, count, rng), _deal(fake.hashes, count, rng), strict=True)
        terms = [polynomial_mmd(real=a[one], fake=b[other]) for one, other in dealt]
        within_real, within_fake, across = (float(each) for each in np.mean(terms, axis=0))
        details = {
            "extractor": self.options.extractor,
            "dimension": a.shape[1],
            "subsets": count,
            "subset_size": min(len(a), len(b)) // count,
            "within_real": within_real,
            "within_samples": within_fake,
            "across": across,
            "shown": {
                "extractor": self.options.extractor,
                "mean kernel within samples / within real cubes / across": (
                    f"{within_fake:.4g} / {within_real:.4g} / {across:.4g}"
                ),
            },
        }
        return ScoreParts(float(np.mean([each.squared for each in terms])), details)


def _deal(hashes: NDArray[Any], count: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Deal rows at random into disjoint subsets of nearly equal size, whatever their order."""
    by_content = np.argsort(hashes, kind="stable")
    shuffled = by_content if count == 1 else rng.permutation(by_content)
    return [np.sort(part) for part in np.array_split(shuffled, count)]
