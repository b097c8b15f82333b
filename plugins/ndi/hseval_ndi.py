"""The metric ``ndi``: are normalised difference indices of pixels distributed in the samples as they are in real cubes?

An index joins two bands of one pixel, ``(a - b) / (a + b)``: vegetation (NDVI: 800 and 670 nm), water, oxygenation. It
does not see gain. Metrics that look at bands one by one do not see it, as each band's histogram can be right while the
pairs are not. All of the plugin is in this file: an extractor, which looks at cubes, and a metric, which compares rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hseval import Needs, NotComputable, ScoreParts, hookimpl, option

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hseval import FeatureTable

QUANTILE_COUNT = 64  # order statistics of each cube's pixels
COLUMN = "ndi-levels"
FIELD = "fov"


class NdiQuantiles:
    """Order statistics of an index over the pixels of each structure."""

    name: ClassVar[str] = COLUMN
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "order statistics of a normalised difference index, by structure"
    needs_nm: ClassVar[bool] = True

    @dataclasses.dataclass(frozen=True)
    class Options:
        """What ``--set ndi-levels.high=...`` can set."""

        high: float = option(800.0, "nm, of the band that counts positive")
        low: float = option(670.0, "nm, of the band that counts negative")

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def __call__(
        self, cubes: NDArray[np.float32], *, wavelengths: NDArray[Any], masks: Mapping[str, NDArray[np.bool_]]
    ) -> NDArray[np.float32]:
        """Return float32 ``(n, S, 64)``, structures sorted by name.

        NaN: the cube has no such structure, or the bands do not reach the two wavelengths.
        """
        import numpy as np

        rows = np.full((len(cubes), len(masks), QUANTILE_COUNT), np.nan, dtype=np.float32)
        places = (np.arange(QUANTILE_COUNT) + 0.5) / QUANTILE_COUNT
        for number, cube in enumerate(cubes):
            index = compute_difference_index(cube, wavelengths, high=self.options.high, low=self.options.low)
            for place, name in enumerate(sorted(masks)):
                values = index[masks[name][number] & np.isfinite(index)]
                if values.size:
                    rows[number, place] = np.quantile(values, places)
        return rows


def compute_difference_index(
    cube: NDArray[Any], wavelengths: NDArray[Any], *, high: float, low: float
) -> NDArray[np.float64]:
    """Return ``(a - b) / (a + b)``, ``(y, x)``, of a cube ``(band, y, x)`` at two wavelengths in nm.

    Between two bands their values are interpolated. NaN where ``a + b`` is not above 0, and everywhere if a wavelength
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

    place = float(np.interp(nm, wavelengths, np.arange(len(wavelengths))))
    below = min(int(place), len(cube) - 2) if len(cube) > 1 else 0
    share = place - below
    upper = cube[below + 1] if share else cube[below]
    return np.asarray((1 - share) * cube[below].astype(np.float64) + share * upper)


class Ndi:
    """Wasserstein distance of the index' distributions, real against generated."""

    name: ClassVar[str] = "ndi"
    summary: ClassVar[str] = "distance of the distributions of a normalised difference index (NDVI)"
    better: ClassVar[Literal["lower"]] = "lower"
    bounds: ClassVar[tuple[float, float]] = (0.0, 2.0)  # an index lies between -1 and 1 where no value is negative
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

        The earth mover's distance in one dimension, in units of the index; every cube has equal weight.

        Raises:
            NotComputable: one side has no index at all.
        """
        from scipy.stats import wasserstein_distance

        distances = {}
        for name in sorted({*real.structures} & {*generated.structures}):
            ours, theirs = (_collect_quantiles(rows, name) for rows in (real, generated))
            if ours.size and theirs.size:
                distances[name] = float(wasserstein_distance(ours, theirs))
        if FIELD not in distances:
            reach = f"{real.wavelengths[0]:g} to {real.wavelengths[-1]:g} nm"
            told = f"no pixel has an index; its two wavelengths have to lie within the bands, {reach}"
            raise NotComputable(f"{told}: --set {COLUMN}.high=... --set {COLUMN}.low=...")
        return ScoreParts(distances[FIELD], {"structures": {name: {"value": each} for name, each in distances.items()}})


def _collect_quantiles(features: FeatureTable, name: str) -> NDArray[np.float32]:
    """Return the order statistics of all cubes that have a structure, in one array."""
    import numpy as np

    levels = features[COLUMN][:, features.structures.index(name)]
    kept: NDArray[np.float32] = levels[np.isfinite(levels).all(axis=1)].ravel()
    return kept


@hookimpl
def hseval_extractors() -> list[type]:
    """Give the extractor."""
    return [NdiQuantiles]


@hookimpl
def hseval_metrics() -> list[type]:
    """Give the metric."""
    return [Ndi]
