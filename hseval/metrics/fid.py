"""``fid``: the Frechet distance of feature rows, every feature weighed by how much it varies in real cubes."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hseval.errors import NotComputable
from hseval.hookspecs import Needs, ScoreParts
from hseval.metrics.frechet import frechet_terms
from hseval.options import option
from hseval.report import Better
from hseval.rows import Rows

Array = NDArray[np.float64]

FLOOR = 0.01  # no feature counts as steadier than this share of the median feature's deviation


class Scale(NamedTuple):
    """Mean and floored deviation by feature, ``(d,)`` each."""

    mean: Array
    deviation: Array


class Fid:
    """Squared Frechet distance of features standardised by the reference.

    The scale is the full reference's and never a pooled one: pooled deviations shrink what a collapsed or
    scattered generator does. Compared with raw features, no few of them hold most of the trace.
    """

    name: ClassVar[str] = "fid"
    summary: ClassVar[str] = "squared Frechet distance of texture and colour features, standardised by real cubes"
    better: ClassVar[Better] = "lower"

    @dataclasses.dataclass(frozen=True)
    class Options:
        """What can be set."""

        extractor: str = option("scattering", "extractor whose rows are compared; numbers of two never compare")

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    @property
    def needs(self) -> Needs:
        """The rows of the chosen extractor."""
        return Needs(rows=(self.options.extractor,))

    def relate(self, *, real: Rows, fake: Rows, train: Rows | None) -> tuple[Rows, Rows, Rows | None]:
        """Add the column of features standardised by the full reference, so that all splits share one scale."""
        if len(real) < 2:
            raise NotComputable(f"needs at least 2 reference cubes, found {len(real)}")
        scale = scale_of(self._features(real))

        def add(rows: Rows) -> Rows:
            return rows.adding({self._column: standardised(self._features(rows), scale)})

        return add(real), add(fake), None if train is None else add(train)

    def compare(
        self, *, real: Rows, fake: Rows, train: Rows | None = None, rng: np.random.Generator
    ) -> ScoreParts:
        """Return the distance, with its mean and covariance terms.

        Rows that :meth:`relate` has not seen are standardised by ``real``.

        Raises:
            NotComputable: a side has fewer than two cubes, or a feature is not finite.
        """
        for side, rows in (("reference", real), ("sample", fake)):
            if len(rows) < 2:
                raise NotComputable(f"needs at least 2 {side} cubes, found {len(rows)}")
        if self._column not in real.columns or self._column not in fake.columns:
            real, fake, _ = self.relate(real=real, fake=fake, train=None)
        a, b = real[self._column], fake[self._column]
        terms = frechet_terms(real=a, fake=b)
        details = {
            "extractor": self.options.extractor,
            "dimension": a.shape[1],
            "mean_term": terms.mean,
            "covariance_term": terms.covariance,
            **_largest(a, b),
            "shown": {
                "extractor": self.options.extractor,
                "from means": terms.mean,
                "from covariances": terms.covariance,
            },
        }
        return ScoreParts(terms.distance, details)

    @property
    def _column(self) -> str:
        return f"fid/{self.options.extractor}"

    def _features(self, rows: Rows) -> Array:
        name = self.options.extractor
        if name not in rows.columns:
            several = ", ".join(sorted(column for column in rows.columns if column.startswith(f"{name}/")))
            raise NotComputable(f"extractor {name!r} gives several columns ({several}); fid needs one vector a cube")
        features = rows[name].reshape(len(rows), -1).astype(np.float64)
        broken = int((~np.isfinite(features)).any(axis=1).sum())
        if broken:
            raise NotComputable(f"extractor {name!r} gives features that are not finite for {broken} cubes")
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


def _largest(real: Array, fake: Array) -> dict[str, float | int]:
    """Return which feature's own (one-dimensional) Frechet distance is largest, and its share of their sum."""
    own = (real.mean(axis=0) - fake.mean(axis=0)) ** 2
    own += (real.std(axis=0, ddof=1) - fake.std(axis=0, ddof=1)) ** 2
    top = int(own.argmax())
    total = float(own.sum())
    return {"top_feature": top, "top_feature_share": float(own[top]) / total if total > 0 else 0.0}
