"""Seeded splits, over which a score and its floor are computed at equal size, and verdicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.core.report import Direction

MIN_SPLIT_SIZE = 2  # cubes per side: one cube has no variance
MIN_JOINT_STDS = 2.0  # of value and floor: a smaller excess is not significant


@dataclasses.dataclass(frozen=True)
class Split:
    """Three sets of equal size: two disjoint ones of the reference and one of the samples (indices)."""

    real: NDArray[np.int64]
    holdout: NDArray[np.int64]
    generated: NDArray[np.int64]


def draw_splits(
    *, real_groups: NDArray[Any], generated_groups: NDArray[Any], repeats: int, rng: np.random.Generator
) -> list[Split]:
    """Return seeded splits at ``m = min(n_samples, n_ref // 2)`` cubes per side; no group is on both sides.

    They come in complementary pairs: ``real`` of one is ``holdout`` of the other, so that every real cube has the same
    weight in their mean. Groups that were drawn least come first, so that splits cover sets larger than m evenly.
    The reference's halves depend only on the reference, m and ``rng``, so that two sets of samples get the same ones.
    With groups of unequal size, m is what whole groups allow. Empty where the reference can't be halved.
    """
    real_rng, generated_rng = rng.spawn(2)
    real_sampler = BalancedGroupSampler(real_groups, real_rng)
    generated_sampler = BalancedGroupSampler(generated_groups, generated_rng)
    size = min(len(real_groups) // 2, len(generated_groups))
    triples = []
    for _ in range(-(-repeats // 2)):
        first, second = real_sampler.draw_subsets(2, size)
        for real, holdout in ((first, second), (second, first)):
            triples.append((real, holdout, generated_sampler.draw_subsets(1, size)[0]))
    smallest = min((min(map(len, triple)) for triple in triples), default=0)
    if smallest < MIN_SPLIT_SIZE:
        return []
    return [Split(*(indices[:smallest] for indices in triple)) for triple in triples[:repeats]]


class BalancedGroupSampler:
    """Draws disjoint subsets of whole groups, repeatedly; groups that were drawn least come first.

    Args:
        groups: ``(n,)``, in the order of the cubes' content: the order decides draws, names do not.
        rng: decides between groups that were drawn equally often.
    """

    def __init__(self, groups: NDArray[Any], rng: np.random.Generator) -> None:
        _, inverse = np.unique(groups, return_inverse=True)
        members = np.split(np.argsort(inverse, kind="stable"), np.cumsum(np.bincount(inverse))[:-1])
        self.members = sorted(members, key=lambda indices: int(indices[0]))
        self.draw_counts = np.zeros(len(self.members))
        self.rng = rng

    def draw_subsets(self, subset_count: int, min_size: int) -> list[NDArray[np.int64]]:
        """Return disjoint subsets of at least ``min_size`` rows, if there are enough; each group joins the smallest."""
        subsets: list[list[int]] = [[] for _ in range(subset_count)]
        order = self.rng.permutation(len(self.members))
        for group in order[np.argsort(self.draw_counts[order], kind="stable")]:
            smallest = min(subsets, key=len)
            if len(smallest) >= min_size:
                break
            smallest.extend(self.members[group].tolist())
            self.draw_counts[group] += 1
        return [np.array(subset, dtype=np.int64) for subset in subsets]


def compute_std(values: Sequence[float]) -> float:
    """Return the standard deviation over splits (0 for one)."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def decide_verdict(values: Sequence[float], floors: Sequence[float], better: Direction) -> str:
    """Return the verdict for value and floor over splits.

    The excess is compared with the joint standard deviation of both, never as a ratio to the floor, which may be near
    0; or the value lies beyond the floor in every split, which detects a few outlying samples that inflate the value's
    standard deviation. Two standard deviations are conservative: of samples that are real cubes, heavy tails and few
    cubes included, at most 2.5 % are called different (``ms-ssim``, of few blocks: 4 %;
    ``benchmarks/evidence/verdicts.py``), at the price of power.
    """
    excess = float(np.mean(values) - np.mean(floors))
    joint_std = float(np.hypot(compute_std(floors), compute_std(values)))
    # Rounding errors must not be significant where nothing varies (a duplicated set, say).
    resolution = 1e-9 * max(abs(float(np.mean(values))), abs(float(np.mean(floors))), 1e-300)
    if abs(excess) <= resolution or (abs(excess) <= MIN_JOINT_STDS * joint_std and not is_separated(values, floors)):
        return "like real"
    if better == "floor":
        return "too high" if excess > 0 else "too low"
    return "worse than real" if (excess > 0) == (better == "lower") else "closer than real"


def is_separated(values: Sequence[float], floors: Sequence[float]) -> bool:
    """Return whether every split's value lies beyond every split's floor."""
    return min(values) > max(floors) or max(values) < min(floors)


def average_details(details: Sequence[Any]) -> Any:
    """Return the mean over splits of the numbers in their details; everything else is left out (None)."""
    first = details[0]
    if isinstance(first, dict):
        shared = [key for key in first if all(isinstance(item, dict) and key in item for item in details)]
        averaged = {key: average_details([item[key] for item in details]) for key in shared}
        return {key: value for key, value in averaged.items() if value is not None} or None
    if any(isinstance(item, (bool, str)) or item is None for item in details):
        return None
    try:
        stacked = np.stack([np.asarray(item, dtype=np.float64) for item in details])
    except (TypeError, ValueError):
        return None
    return stacked.mean(axis=0).tolist()
