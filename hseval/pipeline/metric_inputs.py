"""The rows that a metric compares: what it needs of the described sets, with what it adds once from the full ones."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.hookspecs import ScoreParts
from hseval.pipeline.context import Described, Run
from hseval.pipeline.pairs import SIZE, describe_pairs
from hseval.utils.errors import NotComputable
from hseval.utils.random_streams import stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.feature_table import Rows
    from hseval.core.hookspecs import Metric


@dataclasses.dataclass(frozen=True)
class Related:
    """The rows that ``compare`` gets: one a cube, or one a block of cubes for metrics of pairs."""

    real: Rows
    fake: Rows
    train: Rows | None

    def cubes(self, index: Any) -> int:
        """Return how many reference cubes the rows at ``index`` stand for."""
        return int(self.real[SIZE][index].sum()) if SIZE in self.real.columns else len(index)

    def cubes_of(self, rows: Rows) -> int:
        """Return how many cubes all rows of a side stand for."""
        return int(rows[SIZE].sum()) if SIZE in rows.columns else len(rows)


@dataclasses.dataclass(frozen=True)
class Comparable:
    """A metric on described sets, ready to compare any subset of their rows.

    Attributes:
        metric: what compares.
        seed: of its own draws.
        plain: the rows before ``relate``.
        rows: the rows after it.
        again: relates the plain rows anew; None: relating says nothing that other cubes would change.
    """

    metric: Metric
    seed: int
    plain: Related
    rows: Related
    again: Callable[[Related], Related] | None

    def parts(self, real: Rows, fake: Rows, train: Rows | None) -> ScoreParts:
        """Return the metric's answer.

        Raises:
            NotComputable: there is none, or it is not finite.
        """
        # The same stream in every call, so that a metric's own draws do not add to the spread over splits.
        found = self.metric.compare(real=real, fake=fake, train=train, rng=stream(self.seed, self.metric.name))
        parts = found if isinstance(found, ScoreParts) else ScoreParts(float(found))
        if not np.isfinite(parts.value):
            raise NotComputable(f"its value is {parts.value}")
        return parts

    def number(self, real: Rows, fake: Rows, train: Rows | None) -> float:
        """Return the metric's headline alone (signed, where it is the absolute value of a difference)."""
        headline = getattr(self.metric, "headline", None)
        if headline is None:
            return signed(self.parts(real, fake, train))
        found = float(headline(real=real, fake=fake, train=train))
        if not np.isfinite(found):
            raise NotComputable(f"its value is {found}")
        return found

    def without(self, real_out: NDArray[np.int64]) -> tuple[Related, NDArray[np.int64]]:
        """Return the rows as related without some reference rows, and the place among them of each row of all."""
        everything = np.arange(len(self.rows.real))
        if self.again is None or not len(real_out):
            return self.rows, everything
        kept = np.delete(everything, real_out)
        places = np.full(len(everything), -1)
        places[kept] = np.arange(len(kept))
        plain = dataclasses.replace(self.plain, real=self.plain.real.take(kept))
        return self.again(plain), places


def signed(parts: ScoreParts) -> float:
    """Return the headline, or the difference that it is the absolute value of."""
    return float(parts.value if parts.signed is None else parts.signed)


def comparable(metric: Metric, described: Described, run: Run) -> Comparable:
    """Return the metric with its rows."""
    wanted = metric.needs.rows
    train = described.train.rows.only(wanted) if described.train is not None and metric.needs.train else None
    if metric.needs.pairs:
        real, fake = (_pairs(metric, described, role, run) for role in ("reference", "samples"))
    else:
        real, fake = described.reference.rows.only(wanted), described.samples.rows.only(wanted)
    plain = Related(real, fake, train)
    if not hasattr(metric, "relate"):
        return Comparable(metric, run.seed, plain, plain, None)
    more: dict[str, Any] = {"cubes": described.sets} if metric.needs.cubes else {}

    def relate(rows: Related) -> Related:
        return Related(*metric.relate(real=rows.real, fake=rows.fake, train=rows.train, **more))

    again = relate if getattr(metric, "relates_anew", False) and not more else None
    related = relate(plain)
    if run.shown is not None and hasattr(metric, "shown_values"):
        with contextlib.suppress(Exception):  # a histogram that fails costs no score
            # By the first rows: a score by other masks comes later.
            run.shown.setdefault(metric.name, metric.shown_values(real=related.real, fake=related.fake))
    return Comparable(metric, run.seed, plain, related, again)


def _pairs(metric: Metric, described: Described, role: str, run: Run) -> Rows:
    return describe_pairs(
        metric,
        getattr(described.sets, role),
        getattr(described, role),
        plan=described.plans[role],
        reference=described.reference.rows,
        rng=stream(run.seed, f"{metric.name} pairs"),
        cache=run.cache,
        workers=run.workers,
        comm=run.comm,
        progress=run.told(f"{metric.name} of {role}"),
    )
