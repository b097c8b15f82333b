"""Which reports are told apart: every pair in every score, held together by Holm's procedure."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

from hseval.comparison.protocol import Entry
from hseval.core.report import Score
from hseval.stats.multiple_testing import ALPHA, adjust_holm
from hseval.stats.paired import compare_paired
from hseval.utils.errors import HsevalError

Z_95 = 1.959964


@dataclasses.dataclass(frozen=True)
class PairwiseTest:
    """Two reports in one score.

    Attributes:
        metric: the score.
        first: name of a report.
        second: name of another.
        difference: the first's value less the second's; where the floor is best, of their distances from it.
        interval: its 95 % interval, for this pair alone.
        probability: that the first is better.
        p_value: two-sided.
        p_adjusted: among all pairs and scores compared together.
        missing_reason: why the two can't be compared on shared resamples; None: they were.
    """

    metric: str
    first: str
    second: str
    difference: float | None = None
    interval: tuple[float, float] | None = None
    probability: float | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    missing_reason: str | None = None

    @property
    def better(self) -> str | None:
        """Return the name of the one that is told to be better; None where neither is."""
        if self.p_adjusted is None or self.probability is None or self.p_adjusted >= ALPHA:
            return None
        return self.first if self.probability > 0.5 else self.second


def compare_all_pairs(entries: Sequence[Entry], scores: Mapping[str, Mapping[str, Score]]) -> list[PairwiseTest]:
    """Compare every two reports in every score.

    Args:
        entries: the reports.
        scores: metric -> name of a report -> its score.
    """
    names = [entry.name for entry in entries]
    pairs = [
        _compare_pair(metric, (a, b), (of[a], of[b]))
        for metric, of in scores.items()
        for a, b in itertools.combinations(names, 2)
    ]
    tested = [pair for pair in pairs if pair.p_value is not None]
    adjusted = dict(zip(map(id, tested), adjust_holm([pair.p_value or 0.0 for pair in tested]), strict=True))
    return [dataclasses.replace(pair, p_adjusted=adjusted.get(id(pair))) for pair in pairs]


def _compare_pair(metric: str, names: tuple[str, str], scores: tuple[Score, Score]) -> PairwiseTest:
    try:
        found = compare_paired(*scores)
    except HsevalError as error:
        return PairwiseTest(metric, *names, missing_reason=str(error))
    p = _compute_p_value(found.probability, found.interval)
    return PairwiseTest(metric, *names, found.difference, found.interval, found.probability, p)


def _compute_p_value(probability: float, interval: tuple[float, float]) -> float:
    """Return twice the smaller tail, and no less than the interval allows a normal distribution.

    A probability from draws is 0 or 1 where no draw lies on the other side; that is no proof, and Holm's factor times 0
    would be one.
    """
    from scipy.special import ndtr

    low, high = interval
    error = (high - low) / (2 * Z_95)
    beyond = float(ndtr(-abs(low + high) / 2 / error)) if error > 0 else 0.0 if low + high else 0.5
    return min(1.0, 2 * max(min(probability, 1 - probability), beyond))
