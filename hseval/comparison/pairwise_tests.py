"""Significance tests of every two reports in every score, Holm-adjusted over all of them."""

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
    """The test of two reports in one score.

    Attributes:
        metric: the score.
        first: name of a report.
        second: name of another.
        difference: the first's value minus the second's; if the floor is best, the difference of their distances from
            it.
        interval: its 95 % interval, not adjusted for multiple testing.
        probability: that the first is better.
        p_value: two-sided.
        p_adjusted: Holm-adjusted over all pairs and scores that are compared.
        missing_reason: why the two can't be compared on shared resamples; None: they were compared.
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
        """The name of the significantly better report; None if the two do not differ significantly."""
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
        _compare_pair(metric, (a, b), (scores_by_name[a], scores_by_name[b]))
        for metric, scores_by_name in scores.items()
        for a, b in itertools.combinations(names, 2)
    ]
    tested = [pair for pair in pairs if pair.p_value is not None]
    adjusted = dict(zip(map(id, tested), adjust_holm([pair.p_value or 0.0 for pair in tested]), strict=True))
    return [dataclasses.replace(pair, p_adjusted=adjusted.get(id(pair))) for pair in pairs]


def _compare_pair(metric: str, names: tuple[str, str], scores: tuple[Score, Score]) -> PairwiseTest:
    try:
        comparison = compare_paired(*scores)
    except HsevalError as error:
        return PairwiseTest(metric, *names, missing_reason=str(error))
    p_value = _compute_p_value(comparison.probability, comparison.interval)
    return PairwiseTest(metric, *names, comparison.difference, comparison.interval, comparison.probability, p_value)


def _compute_p_value(probability: float, interval: tuple[float, float]) -> float:
    """Return twice the smaller tail, but at least the p-value of a normal distribution with this interval.

    If no draw lies on the other side, the probability is 0 or 1. That is no proof, but a p-value of 0 would remain 0
    after Holm's adjustment.
    """
    from scipy.special import ndtr

    low, high = interval
    standard_error = (high - low) / (2 * Z_95)
    if standard_error > 0:
        normal_tail = float(ndtr(-abs(low + high) / 2 / standard_error))
    else:
        normal_tail = 0.0 if low + high else 0.5
    return min(1.0, 2 * max(min(probability, 1 - probability), normal_tail))
