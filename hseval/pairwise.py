"""Two sets of samples scored against the same reference: which is better, on the resamples that both share.

Both met the same halves of the reference, and the same blocks of it were left out. What the reference adds to the two
scores is therefore alike, and cancels in their difference; what the samples add does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hseval.errors import HsevalError
from hseval.report import Score
from hseval.resample import surplus
from hseval.variances import LEAST, LEVEL, block_variance, freedom, pair_variance, quantile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SAME = 1e-4  # of a floor: what two computations of it may differ by
SHARED = {
    "reference": "reference sets",
    "train": "training sets",
    "size": "numbers of cubes a side",
    "settings": "settings",
    "seed": "seeds",
}
VALUE, FLOOR, EXCESS = 0, 1, 2


class Paired(NamedTuple):
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


def paired(a: Score, b: Score) -> Paired:
    """Compare two scores of one metric, computed here or read from reports.

    Raises:
        HsevalError: one has no interval, or they were not computed on the same reference, size, settings and seed.
    """
    one, two = _checked(a, b)
    if "draws" in one:
        return _of_draws(a, np.array(one["draws"]) - np.array(two["draws"]), _difference(a, b))
    if a.better == "floor" or one["signed"]:
        return _of_distances(a, b, one, two)
    error, degrees = _error(one, two, (VALUE, VALUE), (1.0, -1.0))
    return _told(_difference(a, b), error, degrees, lower=a.better == "lower")


def _checked(a: Score, b: Score) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
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
    for entry, what in SHARED.items():
        if _listed(one.get(entry)) != _listed(two.get(entry)):
            shown = f" ({one.get(entry)!s:.60} and {two.get(entry)!s:.60})"
            raise HsevalError(f"{a.name}: the two scores have different {what}{shown}: score both sets alike")
    alike = set(one) == set(two) and ("splits" not in one or np.shape(one["real"]) == np.shape(two["real"]))
    if not alike or a.floor is None or b.floor is None or not np.isclose(a.floor, b.floor, rtol=SAME, atol=1e-12):
        raise HsevalError(
            f"{a.name}: the floors differ ({_short(a.floor)} and {_short(b.floor)}): other structures or fields of "
            "view were compared"
        )
    return one, two


def _short(floor: float | None) -> str:
    return "none" if floor is None else f"{floor:.4g}"


def _listed(entry: Any) -> Any:
    return list(entry) if isinstance(entry, (list, tuple)) else entry


def _difference(a: Score, b: Score) -> float:
    assert a.value is not None and b.value is not None  # both have resamples
    return a.value - b.value


def _told(difference: float, error: float, degrees: float, *, lower: bool) -> Paired:
    from scipy.stats import t

    reach = float(quantile(LEVEL, np.array(degrees))) * error
    below = float(t.cdf(-difference / error, degrees)) if error > 0 else _step(-difference)
    return Paired(difference, (difference - reach, difference + reach), below if lower else 1 - below)


def _step(value: float) -> float:
    return 0.5 if value == 0 else float(value > 0)


def _error(
    one: Mapping[str, Any], two: Mapping[str, Any], places: tuple[int, int], signs: tuple[float, float]
) -> tuple[float, float]:
    """Return the standard error of a sum of both scores' figures, with signs, and its degrees of freedom."""
    real, within, splits = (_sum(one[name], two[name], places, signs) for name in ("real", "real_pairs", "splits"))
    g = len(real)
    added = [(block_variance(real), g - 1)]
    taken = [(pair_variance(within, g * (g - 1) / 2) + np.zeros(1), len(within))]
    for side, place in zip((one, two), places, strict=True):
        added.append((np.array([side["samples"]["variance"][place]]), side["samples"]["blocks"] - 1))
        taken.append((np.array([side["samples"]["twice"][place]]), side["samples"]["pairs"]))
    taken.append((surplus(splits, one["used"]), len(splits) // 2 - 1))
    plain = sum(part for part, _ in added)
    total = np.maximum(plain - sum(part for part, _ in taken), LEAST * plain)
    return float(np.sqrt(total[0])), float(freedom(total, added, taken)[0])


def _sum(one: Any, two: Any, places: tuple[int, int], signs: tuple[float, float]) -> Floats:
    first, second = (np.asarray(each, dtype=np.float64).reshape(-1, 3) for each in (one, two))
    count = min(len(first), len(second))
    total: Floats = signs[0] * first[:count, places[0]] + signs[1] * second[:count, places[1]]
    return total[:, None]


def _of_distances(a: Score, b: Score, one: Mapping[str, Any], two: Mapping[str, Any]) -> Paired:
    """Compare how far two figures lie from 0: signed differences, or excesses where the floor is best."""
    place = VALUE if one["signed"] else EXCESS
    centres = [float(np.mean(side["splits"], axis=0)[place]) for side in (one, two)]
    signs = [1.0 if centre >= 0 else -1.0 for centre in centres]
    error, degrees = _error(one, two, (place, place), (signs[0], -signs[1]))
    apart = abs(centres[0]) - abs(centres[1])
    told = _told(apart, error, degrees, lower=True)
    if a.better == "floor":
        return told
    shift = _difference(a, b) - apart
    return Paired(apart + shift, (told.interval[0] + shift, told.interval[1] + shift), told.probability)


def _of_draws(a: Score, draws: Floats, difference: float) -> Paired:
    # Half a group beyond all others pulls draws of few cubes to the middle: the interval is that of the draws, and of
    # the draws moved half way to the estimate.
    moved = draws + (difference - draws.mean()) / 2
    low, high = np.quantile(np.stack([draws, moved]), (0.5 - LEVEL / 2, 0.5 + LEVEL / 2), axis=1)
    below = float(np.mean(moved < 0) + np.mean(moved == 0) / 2)
    return Paired(difference, (float(low.min()), float(high.max())), below if a.better == "lower" else 1 - below)
