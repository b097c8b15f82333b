"""``ms-ssim``: are samples as diverse as real cubes? Mean similarity of pairs within each set."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hseval.core.feature_table import FeatureTable, RelatedTables
from hseval.core.options import option
from hseval.core.protocols import Needs, ScoreParts
from hseval.core.report import Direction
from hseval.metrics.ssim.fields import MAX_SCALES, WINDOW_SIZE, count_scales
from hseval.metrics.ssim.ssim import SsimTerms, compute_block_terms
from hseval.utils.arrays import Array, Float64Array
from hseval.utils.errors import NotComputable

LOW_QUANTILE_INDEX, HIGH_QUANTILE_INDEX = 1, 5  # indices of p = 0.001 and 0.999 in the column ``values/quantiles``
CUBE_QUANTILE = 0.9  # this share of reference cubes lies below the top of the data range, and above its bottom
MIN_RANGE_RATIO = 0.01  # least data range of a band, relative to the widest band's
MIN_PAIR_SHARE = 0.9  # a number of scales is used if this share of each set's pairs has windows at all of them
BLOCK_PAIRS = 28  # pairs of a full block of eight cubes: rows of all blocks have one width
DATA_RANGE_RULE = (
    "by band: 10th percentile over reference cubes of quantile 0.001, to 90th percentile of quantile 0.999"
)

if TYPE_CHECKING:
    from hseval.utils.random_streams import Rng


class MeanSimilarities(NamedTuple):
    """A set's mean similarities at one number of scales."""

    mean_2d: float
    mean_3d: float
    by_band: Float64Array
    pairs: int


class MsSsim:
    """Absolute difference of the mean pairwise MS-SSIM within the samples and within the reference.

    Samples of a collapsed generator are more similar to each other than real cubes are; noise, or structures that
    do not belong together, make them less similar. The score does not measure whether samples look real.
    """

    name = "ms-ssim"
    version = "2"
    summary = "difference of the mean similarity of pairs, within samples and within real cubes"
    better: Direction = "lower"

    @dataclasses.dataclass(frozen=True)
    class Options:
        """Options of the metric."""

        pairs: int = option(960, "pairs of cubes to compare in each set")

        def __post_init__(self) -> None:
            if self.pairs < 1:
                raise ValueError(f"pairs = {self.pairs}: expected at least 1")

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    @property
    def needs(self) -> Needs:
        """Quantiles of the reference for the data range, and pairs of cubes."""
        return Needs(features=("values",), pairs=self.options.pairs)

    def describe_block(self, cubes: Array, *, field: Array, reference: FeatureTable) -> dict[str, Float64Array]:
        """Return one row: the mean similarity of all pairs of a block, for every number of scales.

        Args:
            cubes: float32 ``(n, band, y, x)``, n >= 2.
            field: bool ``(n, y, x)``, valid pixels.
            reference: features of the reference set, with ``values/quantiles``.

        Returns:
            ``ms-ssim/2d`` and ``ms-ssim/3d`` ``(1, 5)``, entry s - 1 with s scales, NaN if the block allows
            fewer; ``ms-ssim/2d-by-band`` ``(1, 5, band)``; ``ms-ssim/pairs`` ``(1, 5)``, how many pairs have
            windows inside both fields at that number of scales; ``ms-ssim/offered`` ``(1,)``, how many pairs there
            are; ``ms-ssim/each`` ``(1, 5, 28 or more)``, the 2D form pair by pair, NaN for a pair without a value.

        Raises:
            NotComputable: the cubes are smaller than a window, or the reference has no data range.
        """
        if count_scales(cubes.shape[2:]) == 0:
            size = " x ".join(map(str, cubes.shape[2:]))
            raise NotComputable(f"needs cubes of at least {WINDOW_SIZE} x {WINDOW_SIZE} px, found {size}")
        span = compute_data_range(reference["values/quantiles"])
        terms = compute_block_terms(cubes, data_range=span, fields=field)
        row = _build_row(terms, bands=cubes.shape[1])
        row["ms-ssim/offered"] = np.array(len(cubes) * (len(cubes) - 1) / 2)
        return {name: column[None] for name, column in row.items()}

    def shown_values(
        self, *, real: FeatureTable, generated: FeatureTable
    ) -> dict[str, tuple[Float64Array, Float64Array]]:
        """Return the similarity of each pair, within the reference and within the samples, for a histogram."""
        scales = int(real["ms-ssim/scales"][0])
        real_values, sample_values = (table["ms-ssim/each"][:, scales - 1].ravel() for table in (real, generated))
        return {
            "MS-SSIM of two cubes of one set, 2D": (
                real_values[np.isfinite(real_values)],
                sample_values[np.isfinite(sample_values)],
            )
        }

    def relate(self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None) -> RelatedTables:
        """Set the number of scales once for both sets and all splits: values are not comparable across scales."""
        scales = count_common_scales(real, generated)
        return _add_scales(real, scales), _add_scales(generated, scales), train

    def compare(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None, rng: Rng
    ) -> ScoreParts:
        """Return the absolute difference of the 2D means, with both means, the 3D form and bands.

        Raises:
            NotComputable: a side has no pair with a window inside both fields.
        """
        if "ms-ssim/scales" not in real.columns or "ms-ssim/scales" not in generated.columns:
            real, generated, _ = self.relate(real=real, generated=generated, train=None)
        scales = int(real["ms-ssim/scales"][0])
        sample_means = _compute_means(generated, scales, "sample")
        real_means = _compute_means(real, scales, "reference")
        details = {
            "samples_2d": sample_means.mean_2d,
            "reference_2d": real_means.mean_2d,
            "samples_3d": sample_means.mean_3d,
            "reference_3d": real_means.mean_3d,
            "difference_3d": abs(sample_means.mean_3d - real_means.mean_3d),
            "samples_2d_by_band": sample_means.by_band,
            "reference_2d_by_band": real_means.by_band,
            "samples_pairs": sample_means.pairs,
            "reference_pairs": real_means.pairs,
            "scales": scales,
            "data_range": DATA_RANGE_RULE,
            "shown": {
                "within samples, 2D": sample_means.mean_2d,
                "within reference, 2D": real_means.mean_2d,
                "difference, 3D": abs(sample_means.mean_3d - real_means.mean_3d),
                "scales": scales,
            },
        }
        difference = sample_means.mean_2d - real_means.mean_2d
        return ScoreParts(abs(difference), details, signed=difference)


def compute_data_range(quantiles: Array) -> Float64Array:
    """Return the data range ``(band,)`` of the similarities, from the reference alone.

    Per band from the 10th percentile over cubes of their quantile at 0.001 to the 90th percentile of their
    quantile at 0.999: neither a hot pixel nor an outlying cube changes it much. A span below a hundredth of the
    widest one's (that of a dead band, say) is raised to that, so that noise does not count as structure.

    Args:
        quantiles: ``(n, band, 7)`` at p = 0, 0.001, 0.01, 0.5, 0.99, 0.999, 1; NaN for a cube without pixels.

    Raises:
        NotComputable: all values are the same, or there are none.
    """
    finite = np.asarray(quantiles[np.isfinite(quantiles).all(axis=(1, 2))], dtype=np.float64)
    if len(finite) == 0:
        raise NotComputable("no reference cube has valid pixels, so there is no data range")
    low = np.quantile(finite[:, :, LOW_QUANTILE_INDEX], 1 - CUBE_QUANTILE, axis=0)
    high = np.quantile(finite[:, :, HIGH_QUANTILE_INDEX], CUBE_QUANTILE, axis=0)
    span = high - low
    if not span.max() > 0:
        raise NotComputable("the reference's values are all the same, so there is no data range")
    return np.asarray(np.maximum(span, MIN_RANGE_RATIO * span.max()))


def count_common_scales(*tables: FeatureTable) -> int:
    """Return the largest number of scales at which at least 90 % of the pairs of every set have a window.

    Raises:
        NotComputable: there is none.
    """
    enough = [table["ms-ssim/pairs"].sum(axis=0) >= MIN_PAIR_SHARE * table["ms-ssim/offered"].sum() for table in tables]
    usable = np.flatnonzero(np.logical_and.reduce(enough) & np.all([len(table) > 0 for table in tables]))
    if len(usable) == 0:
        raise NotComputable(f"most pairs have no window of {WINDOW_SIZE} px inside both fields of view")
    return int(usable[-1]) + 1


def _build_row(terms: list[SsimTerms], *, bands: int) -> dict[str, Float64Array]:
    n_pairs = terms[0].similarity.shape[1] if terms else 0
    row = {
        "ms-ssim/each": np.full((MAX_SCALES, max(n_pairs, BLOCK_PAIRS)), np.nan),
        "ms-ssim/2d": np.full(MAX_SCALES, np.nan),
        "ms-ssim/3d": np.full(MAX_SCALES, np.nan),
        "ms-ssim/2d-by-band": np.full((MAX_SCALES, bands), np.nan),
        "ms-ssim/pairs": np.zeros(MAX_SCALES),
    }
    for scales in range(1, 1 + (terms[0].scales if terms else 0)):
        plane, volume = (form.combine(scales) for form in terms)
        has_window = np.isfinite(plane).all(axis=1)
        row["ms-ssim/pairs"][scales - 1] = has_window.sum()
        row["ms-ssim/each"][scales - 1, :n_pairs] = plane.mean(axis=1)
        if has_window.any():
            row["ms-ssim/2d"][scales - 1] = plane[has_window].mean()
            row["ms-ssim/3d"][scales - 1] = volume[has_window].mean()
            row["ms-ssim/2d-by-band"][scales - 1] = plane[has_window].mean(axis=0)
    return row


def _add_scales(table: FeatureTable, scales: int) -> FeatureTable:
    return table.add_columns({"ms-ssim/scales": np.full(len(table), scales)})


def _compute_means(table: FeatureTable, scales: int, side: str) -> MeanSimilarities:
    """Return the means over all pairs of a set's blocks."""
    pairs = table["ms-ssim/pairs"][:, scales - 1]
    has_window = pairs > 0
    if not has_window.any():
        raise NotComputable(f"no two {side} cubes have a window of {WINDOW_SIZE} px inside both fields of view")

    def average(column: str) -> Any:
        return np.average(table[column][has_window, scales - 1], axis=0, weights=pairs[has_window])

    return MeanSimilarities(
        float(average("ms-ssim/2d")), float(average("ms-ssim/3d")), average("ms-ssim/2d-by-band"), int(pairs.sum())
    )
