"""Verdicts corrected for multiple testing: every score of a report is one more chance of a false positive.

Holm's step-down procedure (Holm 1979) keeps the probability of any false positive among a report's scores at 5 %,
whatever their dependence. A score differs significantly from its floor if they lie more than two joint standard
deviations apart and its Holm-adjusted p-value is below 5 %, or if every split's value lies beyond every split's floor.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hseval.core.report import Score

ALPHA = 0.05
NOT_SIGNIFICANT = "like real"


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted by Holm's procedure, in the same order."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def adjust_verdicts(scores: Sequence[Score]) -> list[Score]:
    """Return a report's scores with adjusted p-values; verdicts that these do not support become "like real"."""
    tested = [score for score in scores if score.p_value is not None]
    adjusted = dict(zip(map(id, tested), adjust_holm([score.p_value or 0.0 for score in tested]), strict=True))
    return [_adjust_verdict(score, adjusted[id(score)]) if id(score) in adjusted else score for score in scores]


def _adjust_verdict(score: Score, adjusted_p: float) -> Score:
    is_separated = score.statistics is not None and score.statistics.is_separated
    verdict = score.verdict if adjusted_p < ALPHA or is_separated else NOT_SIGNIFICANT
    return dataclasses.replace(score, verdict=verdict, p_adjusted=adjusted_p)
