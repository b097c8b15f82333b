"""Membership inference by one number a cube: how well it tells members from non-members."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.metrics.data_copying import copy_threshold

if TYPE_CHECKING:
    from numpy.typing import NDArray


def attack_auc(*, members: NDArray[Any], others: NDArray[Any]) -> float:
    """Return the probability that a member's distance is below a non-member's, equal ones counted half.

    The area under the ROC curve of an attacker who calls "member" what is near: 0.5, nothing is given away; 1,
    members are told without error.
    """
    from scipy.stats import rankdata

    m, n = len(members), len(others)
    beyond = float(rankdata(np.concatenate([members, others]))[:m].sum()) - m * (m + 1) / 2
    return 1 - beyond / (m * n)


def true_positives(*, members: NDArray[Any], others: NDArray[Any]) -> float:
    """Return the share of members told at no more than 1 % of non-members taken for members.

    Carlini et al., Membership inference attacks from first principles, IEEE S&P 2022: an attack that is sure of a few
    cubes harms these, whatever it does on average. Fewer than 100 non-members resolve no 1 %: then none is allowed.
    """
    return float(np.mean(members < copy_threshold(others)))
