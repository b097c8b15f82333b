"""What all metrics of features share: one vector a cube, every feature weighed by how much it varies in real cubes."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hseval.core.feature_table import FeatureTable
from hseval.core.hookspecs import Needs
from hseval.utils.errors import NotComputable

Float64Array = NDArray[np.float64]

MIN_STD_RATIO = 0.03  # no feature counts as steadier than this share of the median feature's deviation


class FeatureScale(NamedTuple):
    """Mean and floored deviation by feature, ``(d,)`` each."""

    mean: Float64Array
    std: Float64Array


class ExtractorOptions(Protocol):
    """Options that name the extractor whose rows are compared."""

    @property
    def extractor(self) -> str:
        """The extractor's name."""


class FeatureMetric:
    """What metrics of standardised features have in common: the rows that they need, the scale that splits share."""

    relates_anew: ClassVar[bool] = True
    options: ExtractorOptions

    @property
    def needs(self) -> Needs:
        """The rows of the chosen extractor."""
        return Needs(features=(self.options.extractor,))

    def relate(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None
    ) -> tuple[FeatureTable, FeatureTable, FeatureTable | None]:
        """Add the column of features standardised by the full reference, so that all splits share one scale."""
        return add_standardized_features(real=real, generated=generated, train=train, extractor=self.options.extractor)


def add_standardized_features(
    *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None, extractor: str
) -> tuple[FeatureTable, FeatureTable, FeatureTable | None]:
    """Add the column of features standardised by the full reference, so that all splits share one scale.

    The scale is the full reference's and never a pooled one: pooled deviations shrink what a collapsed or
    scattered generator does. Compared with raw features, no few of them decide every distance.

    Raises:
        NotComputable: fewer than two reference cubes, or as :func:`get_features` and :func:`fit_scale` say.
    """
    check_min_cubes(2, real=real)
    scale = fit_scale(get_features(real, extractor))

    def add(rows: FeatureTable) -> FeatureTable:
        return rows.add_columns(
            {name_standardized_column(extractor): standardize(get_features(rows, extractor), scale)}
        )

    return add(real), add(generated), None if train is None else add(train)


def get_standardized_features(
    *, real: FeatureTable, generated: FeatureTable, extractor: str
) -> tuple[Float64Array, Float64Array]:
    """Return the standardised features ``(n, d)`` and ``(m, d)``.

    Rows that :func:`add_standardized_features` has not seen are standardised by ``real``.
    """
    column = name_standardized_column(extractor)
    if column not in real.columns or column not in generated.columns:
        real, generated, _ = add_standardized_features(real=real, generated=generated, train=None, extractor=extractor)
    return real[column], generated[column]


def name_standardized_column(extractor: str) -> str:
    """Return the name of the column that :func:`add_standardized_features` adds."""
    return f"standardised/{extractor}"


def check_min_cubes(min_cubes: int, *, real: FeatureTable | None = None, generated: FeatureTable | None = None) -> None:
    """Refuse sides of fewer than ``min_cubes`` cubes.

    Raises:
        NotComputable: which side has too few, and how many.
    """
    for side, rows in (("reference", real), ("sample", generated)):
        if rows is not None and len(rows) < min_cubes:
            raise NotComputable(f"needs at least {min_cubes} {side} cubes, found {len(rows)}")


def get_features(table: FeatureTable, extractor: str) -> Float64Array:
    """Return an extractor's vectors as float64 ``(n, d)``.

    Raises:
        NotComputable: the extractor gives several columns, or features that are not finite.
    """
    if extractor not in table.columns:
        several = ", ".join(sorted(column for column in table.columns if column.startswith(f"{extractor}/")))
        raise NotComputable(f"extractor {extractor!r} gives several columns ({several}), expected one vector a cube")
    features = table[extractor].reshape(len(table), -1).astype(np.float64)
    broken = int((~np.isfinite(features)).any(axis=1).sum())
    if broken:
        raise NotComputable(f"extractor {extractor!r} gives features that are not finite for {broken} cubes")
    return features


def fit_scale(features: NDArray[Any]) -> FeatureScale:
    """Return the scale that real features ``(n, d)``, n >= 2, are standardised by.

    A deviation below :data:`MIN_STD_RATIO` times the median deviation is raised to that: a feature that hardly varies
    (a dead band, say) still counts, but a trifling difference in it can't outweigh all others. Features
    that do not vary at all are left out of the median.

    Raises:
        NotComputable: no feature varies.
    """
    deviation = features.std(axis=0, ddof=1)
    # What float32 rows leave of a constant is rounding, not variation.
    varies = deviation > 1e-6 * np.abs(features).max(axis=0)
    if not varies.any():
        raise NotComputable("the reference's features do not vary: are its cubes all the same?")
    floor = MIN_STD_RATIO * np.median(deviation[varies])
    return FeatureScale(features.mean(axis=0), np.maximum(deviation, floor))


def standardize(features: NDArray[Any], scale: FeatureScale) -> Float64Array:
    """Return features ``(n, d)`` less the scale's mean, over its deviation."""
    result: Float64Array = (features - scale.mean) / scale.std
    return result
