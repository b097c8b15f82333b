"""Verdicts corrected for multiple testing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hseval.core.report import Score
from hseval.core.score_records import SplitStatistics
from hseval.stats.multiple_testing import adjust_holm, adjust_verdicts


def make_score(name: str, p: float | None, verdict: str = "worse than real", **fields: Any) -> Score:
    return Score(name=name, value=1.0, floor=0.5, p_value=p, better="lower", verdict=verdict, n=30, **fields)


def test_holm_by_hand() -> None:
    assert adjust_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjust_holm([0.02, 0.03, 0.025]) == pytest.approx([0.06, 0.06, 0.06])  # monotone in the order of p
    assert adjust_holm([0.9, 0.6]) == [1.0, 1.0]
    assert adjust_holm([0.04]) == [0.04]
    assert adjust_holm([]) == []


def test_the_family_wise_error_rate_is_five_percent() -> None:
    rng = np.random.default_rng(0)
    error_rate = np.mean([min(adjust_holm(rng.uniform(size=8).tolist())) < 0.05 for _ in range(2000)])
    assert 0.035 < error_rate < 0.065  # unadjusted: 1 - 0.95 ** 8 = 0.34


def test_a_verdict_needs_a_p_value_adjusted_for_all_scores() -> None:
    alone = adjust_verdicts([make_score("a", 0.03)])[0]
    assert (alone.verdict, alone.p_adjusted) == ("worse than real", 0.03)
    many = adjust_verdicts([make_score("a", 0.03), make_score("b", 0.5, "like real"), make_score("c", 0.001)])
    assert [score.verdict for score in many] == ["like real", "like real", "worse than real"]
    assert [score.p_adjusted for score in many] == pytest.approx([0.06, 0.5, 0.003])


def test_a_small_p_value_alone_is_not_significant() -> None:
    """The splits have to differ as well: adjustment only withdraws verdicts."""
    assert adjust_verdicts([make_score("a", 1e-6, "like real")])[0].verdict == "like real"


def test_splits_that_do_not_overlap_need_no_p_value() -> None:
    statistics = SplitStatistics(6, 20, 40, 1.0, is_separated=True)
    adjusted = adjust_verdicts([make_score("a", 0.2, statistics=statistics), make_score("b", 0.9, "like real")])
    assert [score.verdict for score in adjusted] == ["worse than real", "like real"]


def test_scores_without_a_p_value_stay_and_are_not_counted() -> None:
    missing = make_score("a", None, "not computed: needs --train")
    adjusted = adjust_verdicts([missing, make_score("b", 0.04)])
    assert adjusted[0] is missing
    assert adjusted[1].p_adjusted == 0.04
