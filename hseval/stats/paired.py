"""Two sets of samples scored against the same reference: which is better, on the resamples that both share.

Both met the same halves of the reference, and the same blocks of it were left out. What the reference adds to the two
scores is therefore alike, and cancels in their difference; what the samples add does not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hseval.core.report import Score
from hseval.stats import folded_normal as folded
from hseval.stats.resampling import compute_finite_split_variance
from hseval.stats.variance import (
    CONFIDENCE_LEVEL,
    MIN_DIFFERENCE_DEGREES_OF_FREEDOM,
    MIN_VARIANCE_RATIO,
    compute_block_variance,
    compute_degrees_of_freedom,
    compute_pair_variance,
    compute_t_quantile,
)
from hseval.utils.errors import HsevalError
from hseval.utils.random_streams import create_rng

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64Array = NDArray[np.float64]

VALUE_COLUMN, FLOOR_COLUMN, EXCESS_COLUMN = 0, 1, 2


class StoredResamples(NamedTuple):
    """One figure of a score in a sum: what was kept of its resamples, its place in them, and its sign."""

    resamples: Mapping[str, Any]
    column_index: int
    sign: float = 1.0

    def get_column(self, name: str) -> Float64Array:
        """Return the figure's replicates ``(n, 1)``, with its sign."""
        found = np.asarray(self.resamples[name], dtype=np.float64).reshape(-1, 3)
        return np.asarray(self.sign * found[:, [self.column_index]])


def compute_standard_error(terms: Sequence[StoredResamples]) -> tuple[float, float]:
    """Return the standard error of a sum of figures, such as a difference of two, and its degrees of freedom.

    The figures met one reference, whose blocks were left out of all of them alike; their samples are their own.
    """
    real, within, splits = (
        _sum_columns([term.get_column(name) for term in terms]) for name in ("real", "real_pairs", "splits")
    )
    g = len(real)
    added = [(compute_block_variance(real), g - 1)]
    taken = [(compute_pair_variance(within, g * (g - 1) / 2) + np.zeros(1), len(within))]
    for term in terms:
        own = term.resamples["samples"]
        added.append((np.array([own["variance"][term.column_index]]), own["blocks"] - 1))
        taken.append((np.array([own["twice"][term.column_index]]), own["pairs"]))
    taken.append((compute_finite_split_variance(splits, terms[0].resamples["used"]), len(splits) // 2 - 1))
    plain = sum(part for part, _ in added)
    total = np.maximum(plain - sum(part for part, _ in taken), MIN_VARIANCE_RATIO * plain)
    return math.sqrt(total[0]), float(
        compute_degrees_of_freedom(total, added, taken, min_degrees=MIN_DIFFERENCE_DEGREES_OF_FREEDOM)[0]
    )


def _sum_columns(columns: Sequence[Float64Array]) -> Float64Array:
    count = min(map(len, columns))
    return np.asarray(np.sum([column[:count] for column in columns], axis=0))


FLOOR_TOLERANCE = 1e-4  # of a floor: what two computations of it may differ by
MATCHED_SETTINGS = {
    "reference": "reference sets",
    "train": "training sets",
    "size": "numbers of cubes a side",
    "settings": "settings",
    "seed": "seeds",
}


class PairedComparison(NamedTuple):
    """How two scores compare.

    Attributes:
        difference: the first's value less the second's; where the best is nearest the floor, the first's distance from
            it less the second's.
        interval: its 95 % interval.
        probability: that the first is better.
    """

    difference: float
    interval: tuple[float, float]
    probability: float


def compare_paired(a: Score, b: Score) -> PairedComparison:
    """Compare two scores of one metric, computed here or read from reports.

    Raises:
        HsevalError: one has no interval, or they were not computed on the same reference, size, settings and seed.
    """
    one, two = _get_matching_resamples(a, b)
    if "draws" in one:
        return _compare_draws(a, np.array(one["draws"]) - np.array(two["draws"]), _compute_difference(a, b))
    if a.better == "floor":
        return _compare_excesses(one, two)
    if one["signed"]:
        return _compare_signed(a, b, one, two)
    error, degrees = compute_standard_error(
        [StoredResamples(one, VALUE_COLUMN), StoredResamples(two, VALUE_COLUMN, -1.0)]
    )
    return _compare_by_t(_compute_difference(a, b), error, degrees, lower_is_better=a.better == "lower")


def _get_matching_resamples(a: Score, b: Score) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return what both know of their resamples.

    Raises:
        HsevalError: they can't be compared.
    """
    if a.name != b.name:
        raise HsevalError(f"{a.name} and {b.name} are different scores: compare scores of one name")
    for score in (a, b):
        if "resamples" not in score.details:
            why = score.details.get("no_interval") or score.verdict
            raise HsevalError(f"{a.name}: a score without resamples can't be compared ({why})")
    one, two = a.details["resamples"], b.details["resamples"]
    if any(kept.get("signed") and not kept.get("shares") for kept in (one, two)):
        raise HsevalError(f"{a.name}: a report of an earlier hseval has no shares of its splits: score again")
    for entry, what in MATCHED_SETTINGS.items():
        if _convert_to_list(one.get(entry)) != _convert_to_list(two.get(entry)):
            shown = f" ({one.get(entry)!s:.60} and {two.get(entry)!s:.60})"
            raise HsevalError(f"{a.name}: the two scores have different {what}{shown}: score both sets alike")
    first, second = (set(each) - {"shares"} for each in (one, two))
    alike = first == second and ("splits" not in one or np.shape(one["real"]) == np.shape(two["real"]))
    if (
        not alike
        or a.floor is None
        or b.floor is None
        or not np.isclose(a.floor, b.floor, rtol=FLOOR_TOLERANCE, atol=1e-12)
    ):
        raise HsevalError(
            f"{a.name}: the floors differ ({_format_floor(a.floor)} and {_format_floor(b.floor)}): other structures or fields of "
            "view were compared"
        )
    return one, two


def _format_floor(floor: float | None) -> str:
    return "none" if floor is None else f"{floor:.4g}"


def _convert_to_list(entry: Any) -> Any:
    return list(entry) if isinstance(entry, (list, tuple)) else entry


def _compute_difference(a: Score, b: Score) -> float:
    return _get_value(a) - _get_value(b)


def _get_value(score: Score) -> float:
    assert score.value is not None  # it has resamples
    return score.value


def _compare_by_t(difference: float, error: float, degrees: float, *, lower_is_better: bool) -> PairedComparison:
    from scipy.stats import t

    reach = float(compute_t_quantile(CONFIDENCE_LEVEL, np.array(degrees))) * error
    below = float(t.cdf(-difference / error, degrees)) if error > 0 else _compute_step_probability(-difference)
    return PairedComparison(
        difference, (difference - reach, difference + reach), below if lower_is_better else 1 - below
    )


def _compute_step_probability(value: float) -> float:
    return 0.5 if value == 0 else float(value > 0)


def _compare_signed(a: Score, b: Score, first: Mapping[str, Any], second: Mapping[str, Any]) -> PairedComparison:
    """Compare absolute values of differences, by draws of what both are expected to be."""
    sides = [
        folded.SignedDifference(
            difference=float(np.mean(each["splits"], axis=0)[VALUE_COLUMN]),
            real_replicates=np.asarray(each["real"], dtype=np.float64)[:, VALUE_COLUMN],
            generated=folded.SideVariance(
                each["samples"]["variance"][VALUE_COLUMN], each["samples"]["blocks"], each["shares"][1]
            ),
            share=each["shares"][0],
        )
        for each in (first, second)
    ]
    draws = folded.draw_differences(*sides, rng=create_rng(first["seed"], f"{a.name} difference"))
    return _compare_draws(a, draws, _compute_difference(a, b))


def _compare_excesses(first: Mapping[str, Any], second: Mapping[str, Any]) -> PairedComparison:
    """Compare how far two scores lie from their floor, where that is best."""
    place = VALUE_COLUMN if first["signed"] else EXCESS_COLUMN
    centres = [float(np.mean(side["splits"], axis=0)[place]) for side in (first, second)]
    signs = [1.0 if centre >= 0 else -1.0 for centre in centres]
    error, degrees = compute_standard_error(
        [StoredResamples(first, place, signs[0]), StoredResamples(second, place, -signs[1])]
    )
    return _compare_by_t(abs(centres[0]) - abs(centres[1]), error, degrees, lower_is_better=True)


def _compare_draws(a: Score, draws: Float64Array, difference: float) -> PairedComparison:
    """Return what draws ``(n,)`` of the expected difference say, and the estimate.

    Draws of few cubes are pulled away from the estimate, by half a group beyond all others or by what folding is shrunk
    for, and could call the one better that scored worse. The probability is that of the draws moved half way to the
    estimate; the interval holds these, the draws themselves, and the estimate.
    """
    moved = draws + (difference - draws.mean()) / 2
    low, high = np.quantile(np.stack([draws, moved]), (0.5 - CONFIDENCE_LEVEL / 2, 0.5 + CONFIDENCE_LEVEL / 2), axis=1)
    below = float(np.mean(moved < 0) + np.mean(moved == 0) / 2)
    interval = (min(float(low.min()), difference), max(float(high.max()), difference))
    return PairedComparison(difference, interval, below if a.better == "lower" else 1 - below)
