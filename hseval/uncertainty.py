"""Floors: every score at equal size, beside what two sets of real cubes score, over the same seeded splits."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.report import Better

if TYPE_CHECKING:
    from numpy.typing import NDArray

MINIMUM = 2  # cubes a side: of one cube there is no spread
TOLD = 2.0  # a score is told from its floor when they are this many joint spreads apart


@dataclasses.dataclass(frozen=True)
class Split:
    """Three sets of equal size: two disjoint ones of the reference and one of the samples (indices)."""

    real: NDArray[np.int64]
    held: NDArray[np.int64]
    fake: NDArray[np.int64]


def splits(
    *, real_groups: NDArray[Any], fake_groups: NDArray[Any], repeats: int, rng: np.random.Generator
) -> list[Split]:
    """Return seeded splits at ``m = min(n_samples, n_ref // 2)`` cubes a side; no group is on both sides.

    With groups of unequal size m is what whole groups leave. Empty where the reference can't be halved.
    """
    found = []
    for _ in range(repeats):
        one, other = _halves(real_groups, rng)
        size = min(len(one), len(other), len(fake_groups))
        found.append((one, other, _whole_groups(fake_groups, rng), size))
    smallest = min((size for *_, size in found), default=0)
    if smallest < MINIMUM:
        return []
    return [Split(one[:smallest], other[:smallest], fake[:smallest]) for one, other, fake, _ in found]


def spread(values: Sequence[float]) -> float:
    """Return the standard deviation over splits (0 for one)."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def verdict(values: Sequence[float], floors: Sequence[float], better: Better) -> str:
    """Return the plain phrase that value minus floor and the two spreads allow.

    The difference is judged against both spreads together, never as a ratio to the floor, which may be near 0; or
    the value lies beyond the floor in every split, which tells a few wild samples that spread the value widely.
    Two spreads are a cautious bar: where samples are real cubes, heavy tails and few cubes included, at most
    2 % are told from the floor (``benchmarks/verdicts.py``), at the price of power.
    """
    excess = float(np.mean(values) - np.mean(floors))
    joint = float(np.hypot(spread(floors), spread(values)))
    # Rounding alone must not tell two numbers apart where nothing varies (a duplicated set, say).
    resolution = 1e-9 * max(abs(float(np.mean(values))), abs(float(np.mean(floors))), 1e-300)
    apart = min(values) > max(floors) or max(values) < min(floors)
    if abs(excess) <= resolution or (abs(excess) <= TOLD * joint and not apart):
        return "like real"
    if better == "floor":
        return "too high" if excess > 0 else "too low"
    return "worse than real" if (excess > 0) == (better == "lower") else "closer than real"


def mean_details(details: Sequence[Any]) -> Any:
    """Return the mean over splits of what their details hold in numbers; the rest is left out (None)."""
    first = details[0]
    if isinstance(first, dict):
        shared = [key for key in first if all(isinstance(each, dict) and key in each for each in details)]
        averaged = {key: mean_details([each[key] for each in details]) for key in shared}
        return {key: value for key, value in averaged.items() if value is not None} or None
    if any(isinstance(each, (bool, str)) or each is None for each in details):
        return None
    try:
        stacked = np.stack([np.asarray(each, dtype=np.float64) for each in details])
    except (TypeError, ValueError):
        return None
    return stacked.mean(axis=0).tolist()


def _halves(groups: NDArray[Any], rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Deal whole groups, in random order, each to the smaller side."""
    sides: tuple[list[int], list[int]] = ([], [])
    for members in _shuffled(groups, rng):
        (sides[0] if len(sides[0]) <= len(sides[1]) else sides[1]).extend(members)
    return np.array(sides[0], dtype=np.int64), np.array(sides[1], dtype=np.int64)


def _whole_groups(groups: NDArray[Any], rng: np.random.Generator) -> NDArray[np.int64]:
    return np.array([i for members in _shuffled(groups, rng) for i in members], dtype=np.int64)


def _shuffled(groups: NDArray[Any], rng: np.random.Generator) -> Iterator[list[int]]:
    names, inverse = np.unique(groups, return_inverse=True)
    members: list[list[int]] = [[] for _ in names]
    for i, group in enumerate(inverse):
        members[group].append(i)
    # The order of groups has to come from their cubes (rows are sorted by content), not from their names.
    members.sort(key=lambda each: each[0])
    for place in rng.permutation(len(members)):
        yield members[place]
