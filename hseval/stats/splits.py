"""Floors: every score at equal size, beside what two sets of real cubes score, over the same seeded splits."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.report import Direction

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_SPLIT_SIZE = 2  # cubes a side: of one cube there is no spread
MIN_JOINT_STDS = 2.0  # a score is told from its floor when they are this many joint spreads apart


@dataclasses.dataclass(frozen=True)
class Split:
    """Three sets of equal size: two disjoint ones of the reference and one of the samples (indices)."""

    real: NDArray[np.int64]
    holdout: NDArray[np.int64]
    generated: NDArray[np.int64]


def draw_splits(
    *, real_groups: NDArray[Any], generated_groups: NDArray[Any], repeats: int, rng: np.random.Generator
) -> list[Split]:
    """Return seeded splits at ``m = min(n_samples, n_ref // 2)`` cubes a side; no group is on both sides.

    They come in complementary pairs: what is ``real`` in one is ``held`` in the other, so that every real cube weighs
    the same in their mean. What has been drawn least comes first, which spreads the splits over sets larger than m.
    The reference's halves depend on the reference, m and ``rng`` alone, so that two sets of samples meet the same ones.
    With groups of unequal size m is what whole groups leave. Empty where the reference can't be halved.
    """
    real_rng, generated_rng = rng.spawn(2)
    reals, generated = (
        BalancedGroupSampler(real_groups, real_rng),
        BalancedGroupSampler(generated_groups, generated_rng),
    )
    wanted = min(len(real_groups) // 2, len(generated_groups))
    found = []
    for _ in range(-(-repeats // 2)):
        one, other = reals.draw_subsets(2, wanted)
        for real, held in ((one, other), (other, one)):
            found.append((real, held, generated.draw_subsets(1, wanted)[0]))
    smallest = min((min(map(len, each)) for each in found), default=0)
    if smallest < MIN_SPLIT_SIZE:
        return []
    return [Split(*(side[:smallest] for side in each)) for each in found[:repeats]]


class BalancedGroupSampler:
    """Deals whole groups again and again, those first that were dealt least.

    Args:
        groups: ``(n,)``; their order has to come from their cubes (rows are sorted by content), not from their names.
        rng: decides between groups that were dealt as often.
    """

    def __init__(self, groups: NDArray[Any], rng: np.random.Generator) -> None:
        _, inverse = np.unique(groups, return_inverse=True)
        found = np.split(np.argsort(inverse, kind="stable"), np.cumsum(np.bincount(inverse))[:-1])
        self.members = sorted(found, key=lambda each: int(each[0]))
        self.draw_counts = np.zeros(len(self.members))
        self.rng = rng

    def draw_subsets(self, subset_count: int, min_size: int) -> list[NDArray[np.int64]]:
        """Return that many disjoint sides, each group on the side that is smaller, until all have ``min_size`` rows."""
        found: list[list[int]] = [[] for _ in range(subset_count)]
        order = self.rng.permutation(len(self.members))
        for group in order[np.argsort(self.draw_counts[order], kind="stable")]:
            smallest = min(found, key=len)
            if len(smallest) >= min_size:
                break
            smallest.extend(self.members[group].tolist())
            self.draw_counts[group] += 1
        return [np.array(side, dtype=np.int64) for side in found]


def compute_std(values: Sequence[float]) -> float:
    """Return the standard deviation over splits (0 for one)."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def decide_verdict(values: Sequence[float], floors: Sequence[float], better: Direction) -> str:
    """Return the plain phrase that value minus floor and the two spreads allow.

    The difference is judged against both spreads together, never as a ratio to the floor, which may be near 0; or
    the value lies beyond the floor in every split, which tells a few wild samples that spread the value widely.
    Two spreads are a cautious bar: where samples are real cubes, heavy tails and few cubes included, at most
    2.5 % are told from the floor (``ms-ssim``, of few blocks: 4 %; ``benchmarks/evidence/verdicts.py``), at the price of power.
    """
    excess = float(np.mean(values) - np.mean(floors))
    joint = float(np.hypot(compute_std(floors), compute_std(values)))
    # Rounding alone must not tell two numbers apart where nothing varies (a duplicated set, say).
    resolution = 1e-9 * max(abs(float(np.mean(values))), abs(float(np.mean(floors))), 1e-300)
    if abs(excess) <= resolution or (abs(excess) <= MIN_JOINT_STDS * joint and not is_separated(values, floors)):
        return "like real"
    if better == "floor":
        return "too high" if excess > 0 else "too low"
    return "worse than real" if (excess > 0) == (better == "lower") else "closer than real"


def is_separated(values: Sequence[float], floors: Sequence[float]) -> bool:
    """Return whether every split's value lies beyond every split's floor."""
    return min(values) > max(floors) or max(values) < min(floors)


def average_details(details: Sequence[Any]) -> Any:
    """Return the mean over splits of what their details hold in numbers; the rest is left out (None)."""
    first = details[0]
    if isinstance(first, dict):
        shared = [key for key in first if all(isinstance(each, dict) and key in each for each in details)]
        averaged = {key: average_details([each[key] for each in details]) for key in shared}
        return {key: value for key, value in averaged.items() if value is not None} or None
    if any(isinstance(each, (bool, str)) or each is None for each in details):
        return None
    try:
        stacked = np.stack([np.asarray(each, dtype=np.float64) for each in details])
    except (TypeError, ValueError):
        return None
    return stacked.mean(axis=0).tolist()
