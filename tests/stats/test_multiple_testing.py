"""Many verdicts at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hseval.core.report import Score
from hseval.stats.multiple_testing import adjust_holm, adjust_verdicts


def scored(name: str, p: float | None, verdict: str = "worse than real", **details: Any) -> Score:
    more = {} if p is None else {"p_value": p}
    return Score(name, 1.0, 0.5, None, "lower", verdict, 30, {**more, **details})


def test_holm_by_hand() -> None:
    assert adjust_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjust_holm([0.02, 0.03, 0.025]) == pytest.approx([0.06, 0.06, 0.06])  # no later one is below an earlier one
    assert adjust_holm([0.9, 0.6]) == [1.0, 1.0]
    assert adjust_holm([0.04]) == [0.04]
    assert adjust_holm([]) == []


def test_one_false_alarm_among_many_is_as_rare_as_one_alone() -> None:
    rng = np.random.default_rng(0)
    alarms = np.mean([min(adjust_holm(rng.uniform(size=8).tolist())) < 0.05 for _ in range(2000)])
    assert 0.035 < alarms < 0.065  # 0.34 without: 1 - 0.95 ** 8


def test_a_verdict_needs_the_p_value_that_is_adjusted_for_all_scores() -> None:
    alone = adjust_verdicts([scored("a", 0.03)])[0]
    assert (alone.verdict, alone.details["p_adjusted"]) == ("worse than real", 0.03)
    many = adjust_verdicts([scored("a", 0.03), scored("b", 0.5, "like real"), scored("c", 0.001)])
    assert [score.verdict for score in many] == ["like real", "like real", "worse than real"]
    assert [score.details["p_adjusted"] for score in many] == pytest.approx([0.06, 0.5, 0.003])


def test_a_small_p_value_alone_tells_nothing() -> None:
    """The splits have to say so as well: Holm's rule only takes verdicts back."""
    assert adjust_verdicts([scored("a", 1e-6, "like real")])[0].verdict == "like real"


def test_splits_that_lie_apart_need_no_p_value() -> None:
    found = adjust_verdicts([scored("a", 0.2, splits_apart=True), scored("b", 0.9, "like real")])
    assert [score.verdict for score in found] == ["worse than real", "like real"]


def test_scores_without_a_p_value_stay_and_are_not_counted() -> None:
    bare = scored("a", None, "not computed: needs --train")
    found = adjust_verdicts([bare, scored("b", 0.04)])
    assert found[0] is bare
    assert found[1].details["p_adjusted"] == 0.04
