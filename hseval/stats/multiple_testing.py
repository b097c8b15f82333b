"""Many verdicts at once: every score of a report is one more chance to tell real cubes from real cubes.

Holm's step-down procedure (Holm 1979) holds the chance of even one false alarm among a report's scores at 5 %, whatever
their dependence. A score is told from its floor if its splits say so and its adjusted p-value is below 5 %, or if
every split's value lies beyond every split's floor.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hseval.core.report import Score

ALPHA = 0.05
NOT_SIGNIFICANT = "like real"


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted by Holm's procedure, in the order given."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def adjust_verdicts(scores: Sequence[Score]) -> list[Score]:
    """Return a report's scores with adjusted p-values, and the verdicts that these allow."""
    tested = [score for score in scores if score.details.get("p_value") is not None]
    adjusted = dict(zip(map(id, tested), adjust_holm([score.details["p_value"] for score in tested]), strict=True))
    return [_adjust_verdict(score, adjusted.get(id(score))) for score in scores]


def _adjust_verdict(score: Score, adjusted_p: float | None) -> Score:
    if adjusted_p is None:
        return score
    told = adjusted_p < ALPHA or score.details.get("splits_apart", False)
    details = {**score.details, "p_adjusted": adjusted_p}
    return dataclasses.replace(score, verdict=score.verdict if told else NOT_SIGNIFICANT, details=details)
