"""Base of the feature metrics: one vector per cube, each feature standardized by its variation in real cubes."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from hseval.core.feature_table import FeatureTable, RelatedTables
from hseval.core.options import option
from hseval.core.protocols import Needs
from hseval.utils.arrays import Array, Float64Array
from hseval.utils.errors import NotComputable
from hseval.utils.plural import format_count

MIN_STD_RATIO = 0.03  # least standard deviation of a feature, relative to the median feature's


class FeatureScale(NamedTuple):
    """Mean and standard deviation by feature, ``(d,)`` each; small standard deviations are raised."""

    mean: Float64Array
    std: Float64Array


@dataclasses.dataclass(frozen=True)
class ExtractorOptions:
    """Options of a metric of standardized features."""

    extractor: str = option(
        "scattering", "extractor whose features are compared; scores are not comparable across extractors"
    )


class FeatureMetric:
    """Base class of metrics of standardized features: the extractor they need, the scale that splits share."""

    relates_anew = True
    extractor: str

    @property
    def needs(self) -> Needs:
        """The features of the chosen extractor."""
        return Needs(features=(self.extractor,))

    def relate(self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None) -> RelatedTables:
        """Add the column of features standardized by the full reference, so that all splits share one scale.

        The scale is fitted on the full reference and never on pooled sets: pooled standard deviations hide the effects
        of a collapsed or scattered generator. With raw features, the few of largest variance would dominate every
        distance.

        Raises:
            NotComputable: fewer than two reference cubes, or as :func:`get_features` and :func:`fit_scale`.
        """
        check_min_cubes(2, real=real)
        scale = fit_scale(get_features(real, self.extractor))

        def add_standardized(table: FeatureTable) -> FeatureTable:
            features = standardize(get_features(table, self.extractor), scale)
            return table.add_columns({name_standardized_column(self.extractor): features})

        return add_standardized(real), add_standardized(generated), None if train is None else add_standardized(train)

    def get_standardized(
        self, *, real: FeatureTable, generated: FeatureTable, min_cubes: int = 2
    ) -> tuple[Float64Array, Float64Array]:
        """Return the standardized features ``(n, d)`` and ``(m, d)``, by ``real``'s scale where :meth:`relate` did not.

        Raises:
            NotComputable: a side has fewer than ``min_cubes`` cubes, or a feature is not finite.
        """
        check_min_cubes(min_cubes, real=real, generated=generated)
        column = name_standardized_column(self.extractor)
        if column not in real.columns or column not in generated.columns:
            real, generated, _ = FeatureMetric.relate(self, real=real, generated=generated, train=None)
        return real[column], generated[column]


def name_standardized_column(extractor: str) -> str:
    """Return the name of the column that :meth:`FeatureMetric.relate` adds."""
    return f"standardized/{extractor}"


def check_min_cubes(min_cubes: int, *, real: FeatureTable | None = None, generated: FeatureTable | None = None) -> None:
    """Raise if a side has fewer than ``min_cubes`` cubes.

    Raises:
        NotComputable: a side has too few cubes.
    """
    for side, table in (("reference", real), ("sample", generated)):
        if table is not None and len(table) < min_cubes:
            raise NotComputable(f"needs at least {format_count(min_cubes, f'{side} cube')}, found {len(table)}")


def get_features(table: FeatureTable, extractor: str) -> Float64Array:
    """Return an extractor's vectors as float64 ``(n, d)``.

    Raises:
        NotComputable: the extractor returns several columns, or features that are not finite.
    """
    if extractor not in table.columns:
        several = ", ".join(sorted(column for column in table.columns if column.startswith(f"{extractor}/")))
        raise NotComputable(
            f"extractor {extractor!r} returns several columns ({several}), expected one vector per cube"
        )
    features = table[extractor].reshape(len(table), -1).astype(np.float64)
    n_broken = int((~np.isfinite(features)).any(axis=1).sum())
    if n_broken:
        raise NotComputable(
            f"extractor {extractor!r} returns features that are not finite for {format_count(n_broken, 'cube')}"
        )
    return features


def fit_scale(features: Array) -> FeatureScale:
    """Return the scale that standardizes real features ``(n, d)``, n >= 2.

    Standard deviations below :data:`MIN_STD_RATIO` times their median are raised to that: a feature that hardly varies
    (a dead band, say) still counts, but a negligible difference in it can't outweigh all others. Constant features are
    left out of the median.

    Raises:
        NotComputable: no feature varies.
    """
    std = features.std(axis=0, ddof=1)
    # A constant in float32 varies by rounding.
    varies = std > 1e-6 * np.abs(features).max(axis=0)
    if not varies.any():
        raise NotComputable("the reference's features do not vary: are its cubes all the same?")
    min_std = MIN_STD_RATIO * np.median(std[varies])
    return FeatureScale(features.mean(axis=0), np.maximum(std, min_std))


def standardize(features: Array, scale: FeatureScale) -> Float64Array:
    """Return features ``(n, d)`` minus the scale's mean, divided by its standard deviation."""
    return (features - scale.mean) / scale.std
