"""Numerics of a dose-response curve: is it monotone, from which severity is it told, which severity gives this much excess?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hseval.stats.jackknife import JackknifeReplicates
from hseval.stats.variance import (
    MIN_VARIANCE_RATIO,
    compute_degrees_of_freedom,
    compute_pair_variance,
    compute_t_quantile,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64Array = NDArray[np.float64]

ROUNDING_TOLERANCE = 1e-9  # of the values: an excess below that is no excess


class SeverityEstimate(NamedTuple):
    """Where a curve reaches an excess: ``"about"`` the severity, ``"below"`` the smallest, or ``"beyond"`` the largest."""

    relation: str
    severity: float


class ExcessStd(NamedTuple):
    """How an excess scatters: its standard deviation, and how many of these make 95 %."""

    std: float
    critical_value: float


def drop_missing_blocks(*jackknives: JackknifeReplicates) -> list[JackknifeReplicates]:
    """Return replicates without those that some of ``jackknives`` lack (NaN): blocks without which a metric has no value.

    All of them leave out the same blocks and pairs of blocks.
    """
    kept: dict[str, list[Any]] = {}
    for name in ("real", "generated", "real_pairs", "generated_pairs", "cross_pairs"):
        sides = [getattr(each, name) for each in jackknives]
        if any(side is None for side in sides):
            kept[name] = [None] * len(jackknives)
            continue
        have = np.logical_and.reduce([np.isfinite(side).all(axis=1) for side in sides])
        kept[name] = [side[have] for side in sides]
    return [
        dataclasses.replace(each, **{name: sides[i] for name, sides in kept.items()})
        for i, each in enumerate(jackknives)
    ]


def subtract_floor(value: JackknifeReplicates, floor: JackknifeReplicates) -> JackknifeReplicates:
    """Return the replicates of value less floor, where both leave out the same blocks."""
    value, floor = drop_missing_blocks(value, floor)
    pairs = [
        None if one is None or other is None else one - other
        for one, other in (
            (value.real_pairs, floor.real_pairs),
            (value.generated_pairs, floor.generated_pairs),
            (value.cross_pairs, floor.cross_pairs),
        )
    ]
    return JackknifeReplicates(
        value.value - floor.value, value.real - floor.real, value.generated - floor.generated, *pairs
    )


def compute_excess_std(*, value: JackknifeReplicates, floor: JackknifeReplicates) -> ExcessStd:
    """Return how ``value - floor`` scatters for a user whose sets are independent.

    Floor and value share the clean set, so its part is that of the difference. The spoiled set and the set of the floor
    are the same cubes here, but other ones for a user, so their parts add up. What pairs of blocks add is counted twice
    by the plain jackknife, and taken off once, as :class:`hseval.stats.jackknife.JackknifeReplicates` does.

    Args:
        value: replicates of the value; of several numbers the last one counts.
        floor: the same of the floor, over the same blocks.
    """
    value, floor = drop_missing_blocks(value, floor)
    both = subtract_floor(value, floor)
    g, h = len(value.real), len(value.generated)
    added = [
        (both.compute_real_variance(), g - 1),
        (value.compute_generated_variance(), h - 1),
        (floor.compute_generated_variance(), h - 1),
    ]
    taken = _estimate_pair_variance(both.real_pairs, g * (g - 1) / 2)
    for side in (value, floor):
        taken += _estimate_pair_variance(side.generated_pairs, h * (h - 1) / 2) + _estimate_pair_variance(
            side.cross_pairs, g * h
        )
    plain = np.sum([variance for variance, _ in added], axis=0)
    twice = np.sum([variance for variance, _ in taken], axis=0) if taken else np.zeros_like(plain)
    found = np.maximum(plain - twice, MIN_VARIANCE_RATIO * plain)
    reach = compute_t_quantile(0.95, compute_degrees_of_freedom(found, added, taken))
    return ExcessStd(float(np.sqrt(found[-1])), float(reach[-1]))


def _estimate_pair_variance(second_differences: Float64Array | None, count: float) -> list[tuple[Float64Array, int]]:
    """Return the variance of so many pairs of blocks, and how many of them it was estimated from; none of none."""
    return (
        []
        if second_differences is None or not len(second_differences)
        else [(np.asarray(compute_pair_variance(second_differences, count)), len(second_differences))]
    )


def compute_null_std(floor: JackknifeReplicates) -> float:
    """Return the standard deviation of ``value - floor`` where nothing is wrong: two real sets against a third one.

    The third one's part cancels, and the parts of the two others are alike: twice what the floor's other side adds.
    """
    (floor,) = drop_missing_blocks(floor)
    g, h = len(floor.real), len(floor.generated)
    plain = floor.compute_generated_variance()
    taken = [
        *_estimate_pair_variance(floor.generated_pairs, h * (h - 1) / 2),
        *_estimate_pair_variance(floor.cross_pairs, g * h),
    ]
    twice = np.sum([variance for variance, _ in taken], axis=0) if taken else np.zeros_like(plain)
    return float(np.sqrt(2 * np.maximum(plain - twice, MIN_VARIANCE_RATIO * plain)[-1]))


def is_excess_significant(excess: float, excess_std: ExcessStd, *, null_std: float, magnitude: float) -> bool:
    """Say whether an excess is told from 0, given how it scatters, and how it scatters where nothing is wrong.

    A gross fault makes values that scatter as much as they are large, each of them far beyond every floor. So the
    excess is judged on the scale on which its scatter is even: with variance ``null^2 + (k excess)^2`` that is
    ``asinh(k excess / null) / k`` (Bartlett 1947), which is ``excess / null`` where the scatter has not grown and
    logarithmic where it has.

    Args:
        excess: value less floor.
        excess_std: how it scatters at this severity.
        null_std: its standard deviation at severity 0; 0: not known, and nothing is rescaled.
        magnitude: of the values that the excess comes from.
    """
    if abs(excess) <= ROUNDING_TOLERANCE * magnitude:
        return False
    if null_std <= ROUNDING_TOLERANCE * magnitude:
        return abs(excess) > excess_std.critical_value * excess_std.std
    grown = float(np.sqrt(max((excess_std.std / null_std) ** 2 - 1, 0.0)))
    shrink = float(np.arcsinh(grown)) / grown if grown > 0 else 1.0
    return abs(excess) / null_std * shrink > excess_std.critical_value


def find_detection_threshold(
    severities: Sequence[float], significant: Sequence[bool], excesses: Sequence[float]
) -> float | None:
    """Return the smallest severity from which on every severity is told, on the side of the floor where the largest one is."""
    found = None
    for severity, apart_here, excess in zip(
        reversed(severities), reversed(significant), reversed(excesses), strict=True
    ):
        if not apart_here or (excess > 0) != (excesses[-1] > 0):
            break
        found = severity
    return found


def spearman(severities: Sequence[float], values: Sequence[float]) -> float | None:
    """Return the rank correlation (ties share their mean rank), or None where one side never changes.

    Differences of no more than rounding are ties: an idle degradation must not look like a trend.
    """
    from scipy.stats import rankdata

    seen = np.asarray(values, dtype=np.float64)
    unit = ROUNDING_TOLERANCE * np.abs(seen).max(initial=0.0)
    one = rankdata(severities)
    two = rankdata(np.round(seen / unit) if unit > 0 else seen)
    if np.ptp(one) == 0 or np.ptp(two) == 0:
        return None
    return float(np.corrcoef(one, two)[0, 1])


def isotonic_regression(values: Sequence[float]) -> Float64Array:
    """Return the non-decreasing sequence nearest to ``values`` by least squares (pool adjacent violators)."""
    pools: list[tuple[float, int]] = []
    for value in values:
        mean, size = float(value), 1
        while pools and pools[-1][0] >= mean:
            before, count = pools.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        pools.append((mean, size))
    return np.repeat([mean for mean, _ in pools], [size for _, size in pools])


def find_equivalent_severity(severities: Sequence[float], excesses: Sequence[float], target: float) -> SeverityEstimate:
    """Return the severity at which a curve's excess over the floor is ``target``.

    The curve is made monotone away from the floor (in the direction of its last point) and read between two severities
    linearly in the excess and in the logarithm of the severity. Below the smallest severity nothing was measured.

    Args:
        severities: ascending, above 0.
        excesses: value less floor at each.
        target: the score's own excess.
    """
    sign = 1.0 if excesses[-1] > 0 else -1.0
    curve = isotonic_regression([sign * excess for excess in excesses])
    target = sign * target
    if target < curve[0]:
        return SeverityEstimate("below", float(severities[0]))
    if target > curve[-1]:
        return SeverityEstimate("beyond", float(severities[-1]))
    # Where the curve is level several severities give the same excess: their geometric mean stands for them.
    levels, place = np.unique(curve, return_inverse=True)
    logs = np.bincount(place, np.log(np.asarray(severities, dtype=np.float64))) / np.bincount(place)
    return SeverityEstimate("about", float(np.exp(np.interp(target, levels, logs))))
