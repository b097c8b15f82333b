"""What all metrics of features share: one vector a cube, every feature weighed by how much it varies in real cubes."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hseval.core.feature_table import Rows
from hseval.core.hookspecs import Needs
from hseval.utils.errors import NotComputable

Array = NDArray[np.float64]

FLOOR = 0.03  # no feature counts as steadier than this share of the median feature's deviation


class Scale(NamedTuple):
    """Mean and floored deviation by feature, ``(d,)`` each."""

    mean: Array
    deviation: Array


class ExtractorOption(Protocol):
    """Options that name the extractor whose rows are compared."""

    @property
    def extractor(self) -> str:
        """The extractor's name."""


class OfFeatures:
    """What metrics of standardised features have in common: the rows that they need, the scale that splits share."""

    relates_anew: ClassVar[bool] = True
    options: ExtractorOption

    @property
    def needs(self) -> Needs:
        """The rows of the chosen extractor."""
        return Needs(rows=(self.options.extractor,))

    def relate(self, *, real: Rows, fake: Rows, train: Rows | None) -> tuple[Rows, Rows, Rows | None]:
        """Add the column of features standardised by the full reference, so that all splits share one scale."""
        return standardised_rows(real=real, fake=fake, train=train, extractor=self.options.extractor)


def standardised_rows(*, real: Rows, fake: Rows, train: Rows | None, extractor: str) -> tuple[Rows, Rows, Rows | None]:
    """Add the column of features standardised by the full reference, so that all splits share one scale.

    The scale is the full reference's and never a pooled one: pooled deviations shrink what a collapsed or
    scattered generator does. Compared with raw features, no few of them decide every distance.

    Raises:
        NotComputable: fewer than two reference cubes, or as :func:`features_of` and :func:`scale_of` say.
    """
    at_least(2, real=real)
    scale = scale_of(features_of(real, extractor))

    def add(rows: Rows) -> Rows:
        return rows.adding({standardised_column(extractor): standardised(features_of(rows, extractor), scale)})

    return add(real), add(fake), None if train is None else add(train)


def standardised_features(*, real: Rows, fake: Rows, extractor: str) -> tuple[Array, Array]:
    """Return the standardised features ``(n, d)`` and ``(m, d)``.

    Rows that :func:`standardised_rows` has not seen are standardised by ``real``.
    """
    column = standardised_column(extractor)
    if column not in real.columns or column not in fake.columns:
        real, fake, _ = standardised_rows(real=real, fake=fake, train=None, extractor=extractor)
    return real[column], fake[column]


def standardised_column(extractor: str) -> str:
    """Return the name of the column that :func:`standardised_rows` adds."""
    return f"standardised/{extractor}"


def at_least(count: int, *, real: Rows | None = None, fake: Rows | None = None) -> None:
    """Refuse sides of fewer than ``count`` cubes.

    Raises:
        NotComputable: which side has too few, and how many.
    """
    for side, rows in (("reference", real), ("sample", fake)):
        if rows is not None and len(rows) < count:
            raise NotComputable(f"needs at least {count} {side} cubes, found {len(rows)}")


def features_of(rows: Rows, extractor: str) -> Array:
    """Return an extractor's vectors as float64 ``(n, d)``.

    Raises:
        NotComputable: the extractor gives several columns, or features that are not finite.
    """
    if extractor not in rows.columns:
        several = ", ".join(sorted(column for column in rows.columns if column.startswith(f"{extractor}/")))
        raise NotComputable(f"extractor {extractor!r} gives several columns ({several}), expected one vector a cube")
    features = rows[extractor].reshape(len(rows), -1).astype(np.float64)
    broken = int((~np.isfinite(features)).any(axis=1).sum())
    if broken:
        raise NotComputable(f"extractor {extractor!r} gives features that are not finite for {broken} cubes")
    return features


def scale_of(features: NDArray[Any]) -> Scale:
    """Return the scale that real features ``(n, d)``, n >= 2, are standardised by.

    A deviation below :data:`FLOOR` times the median deviation is raised to that: a feature that hardly varies
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
    floor = FLOOR * np.median(deviation[varies])
    return Scale(features.mean(axis=0), np.maximum(deviation, floor))


def standardised(features: NDArray[Any], scale: Scale) -> Array:
    """Return features ``(n, d)`` less the scale's mean, over its deviation."""
    result: Array = (features - scale.mean) / scale.deviation
    return result
