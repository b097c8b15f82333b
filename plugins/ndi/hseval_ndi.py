"""The metric ``ndi``: are normalized difference indices of pixels distributed in the samples as in real cubes?

An index joins two bands of one pixel, ``(a - b) / (a + b)``: vegetation (NDVI: 800 and 670 nm), water, oxygenation. It
is insensitive to gain. Metrics of single bands are insensitive to it, as each band's histogram can be right while the
pairs are not. The whole plugin is in this file: an extractor, which computes features of cubes, and a metric, which
compares features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hseval.plugin import Needs, NotComputable, ScoreParts, hookimpl, option

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hseval.plugin import FeatureTable

QUANTILE_COUNT = 64  # order statistics of each cube's pixels
COLUMN = "ndi-levels"
FIELD = "fov"


class NdiQuantiles:
    """Order statistics of an index over the pixels of each structure."""

    name: ClassVar[str] = COLUMN
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "order statistics of a normalized difference index, by structure"
    needs_nm: ClassVar[bool] = True

    @dataclasses.dataclass(frozen=True)
    class Options:
        """Options that ``--set ndi-levels.high=...`` can set."""

        high: float = option(800.0, "nm, of the band that counts positive")
        low: float = option(670.0, "nm, of the band that counts negative")

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def __call__(
        self, cubes: NDArray[np.float32], *, wavelengths: NDArray[Any], masks: Mapping[str, NDArray[np.bool_]]
    ) -> NDArray[np.float32]:
        """Return float32 ``(n, S, 64)``, structures sorted by name.

        NaN if the cube has no such structure, or the bands do not cover the two wavelengths.
        """
        import numpy as np

        quantiles = np.full((len(cubes), len(masks), QUANTILE_COUNT), np.nan, dtype=np.float32)
        probabilities = (np.arange(QUANTILE_COUNT) + 0.5) / QUANTILE_COUNT
        for cube_index, cube in enumerate(cubes):
            index = compute_difference_index(cube, wavelengths, high=self.options.high, low=self.options.low)
            for structure_index, name in enumerate(sorted(masks)):
                values = index[masks[name][cube_index] & np.isfinite(index)]
                if values.size:
                    quantiles[cube_index, structure_index] = np.quantile(values, probabilities)
        return quantiles


def compute_difference_index(
    cube: NDArray[Any], wavelengths: NDArray[Any], *, high: float, low: float
) -> NDArray[np.float64]:
    """Return ``(a - b) / (a + b)``, ``(y, x)``, of a cube ``(band, y, x)`` at two wavelengths in nm.

    Values between two bands are interpolated. NaN where ``a + b`` is not above 0, and everywhere if a wavelength
    lies outside the bands.
    """
    import numpy as np

    if not wavelengths[0] <= min(high, low) <= max(high, low) <= wavelengths[-1]:
        return np.full(cube.shape[1:], np.nan)
    a, b = (_interpolate_band(cube, wavelengths, nm) for nm in (high, low))
    total = a + b
    index: NDArray[np.float64] = np.divide(a - b, total, out=np.full(total.shape, np.nan), where=total > 0)
    return index


def _interpolate_band(cube: NDArray[Any], wavelengths: NDArray[Any], nm: float) -> NDArray[np.float64]:
    import numpy as np

    position = float(np.interp(nm, wavelengths, np.arange(len(wavelengths))))
    lower = min(int(position), len(cube) - 2) if len(cube) > 1 else 0
    share = position - lower
    upper = cube[lower + 1] if share else cube[lower]
    return np.asarray((1 - share) * cube[lower].astype(np.float64) + share * upper)


class Ndi:
    """Wasserstein distance between the distributions of the index, real and generated."""

    name: ClassVar[str] = "ndi"
    summary: ClassVar[str] = "distance of the distributions of a normalized difference index (NDVI)"
    better: ClassVar[Literal["lower"]] = "lower"
    bounds: ClassVar[tuple[float, float]] = (0.0, 2.0)  # the index is between -1 and 1 if no value is negative
    needs: ClassVar[Needs] = Needs(features=(COLUMN,), nm=True)

    def compare(
        self,
        *,
        real: FeatureTable,
        generated: FeatureTable,
        train: FeatureTable | None = None,
        rng: np.random.Generator,
    ) -> ScoreParts:
        """Return the distance in the field of view; in ``details``, that of every structure that both sides have.

        The earth mover's distance in one dimension, in units of the index; all cubes have equal weight.

        Raises:
            NotComputable: one side has no index at all.
        """
        from scipy.stats import wasserstein_distance

        distances = {}
        for name in sorted({*real.structures} & {*generated.structures}):
            real_values, generated_values = (_collect_quantiles(features, name) for features in (real, generated))
            if real_values.size and generated_values.size:
                distances[name] = float(wasserstein_distance(real_values, generated_values))
        if FIELD not in distances:
            nm_range = f"{real.wavelengths[0]:g} to {real.wavelengths[-1]:g} nm"
            message = f"no pixel has an index; its two wavelengths have to lie within the bands, {nm_range}"
            raise NotComputable(f"{message}: --set {COLUMN}.high=... --set {COLUMN}.low=...")
        return ScoreParts(
            distances[FIELD], {"structures": {name: {"value": distance} for name, distance in distances.items()}}
        )


def _collect_quantiles(features: FeatureTable, name: str) -> NDArray[np.float32]:
    """Return the order statistics of all cubes that have a structure, in one array."""
    import numpy as np

    levels = features[COLUMN][:, features.structures.index(name)]
    known: NDArray[np.float32] = levels[np.isfinite(levels).all(axis=1)].ravel()
    return known


@hookimpl
def hseval_extractors() -> list[type]:
    """Return the extractor."""
    return [NdiQuantiles]


@hookimpl
def hseval_metrics() -> list[type]:
    """Return the metric."""
    return [Ndi]
