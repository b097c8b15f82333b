"""What a score's details say beyond its floor, at equal size: the numbers behind the sentences of ``where``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hseval.report import Score

TOLD = 0.5  # of the largest excess: what comes near it belongs to it

Numbers = Sequence[float]


class Bands:
    """Band centres, and how they are written.

    Args:
        centres: nm by band, or the band's index.
        known: whether they are nm.
    """

    def __init__(self, centres: Numbers, known: bool) -> None:
        self.centres, self.known = centres, known

    def near(self, curve: Numbers) -> str:
        """Return where a curve over bands is highest and, where that is more than one band, how far it reaches."""
        if len(curve) != len(self.centres) or max(curve) <= 0:
            return ""
        first, top, last = reach(curve)
        peak = f"near {self._one(top)}" if self.known else f"at band {self._one(top)}"
        wide = 0 < last - first < len(curve) - 1
        return f"{peak} ({self._one(first, unit=False)} to {self._one(last)})" if wide else peak

    def _one(self, place: int, *, unit: bool = True) -> str:
        return f"{self.centres[place]:.0f}{' nm' if self.known and unit else ''}"


def reach(curve: Numbers) -> tuple[int, int, int]:
    """Return the first, highest and last place of the stretch around a curve's peak that stays above half of it."""
    top = max(range(len(curve)), key=lambda place: curve[place])
    first = last = top
    while first > 0 and curve[first - 1] >= TOLD * curve[top]:
        first -= 1
    while last < len(curve) - 1 and curve[last + 1] >= TOLD * curve[top]:
        last += 1
    return first, top, last


def at(details: Mapping[str, Any], *path: str) -> Any:
    """Return what lies at a path of keys, or None."""
    found: Any = details
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def both(score: Score, *path: str) -> tuple[Any, Any] | None:
    """Return value and floor of a detail at equal size, or None where one is missing."""
    value, floor = at(score.details, "at_n", *path), at(score.details, "floor_at_n", *path)
    return None if value is None or floor is None else (value, floor)


def excess(score: Score, *path: str) -> list[float]:
    """Return how far a curve lies above its floor; empty where one is missing."""
    curves = both(score, *path)
    return [a - b for a, b in zip(*curves, strict=True)] if curves and len(curves[0]) == len(curves[1]) else []


def worst(score: Score, where: str, *, least: float | None = None) -> list[str]:
    """Return the entries of a detail whose value exceeds its floor, worst first: the top and those near it.

    With ``least``, those whose excess is at least that.
    """
    found = {}
    for name in at(score.details, "at_n", where) or {}:
        pair = both(score, where, name, "value")
        if pair is not None:
            found[name] = pair[0] - pair[1]
    bar = TOLD * max(found.values(), default=0.0) if least is None else least
    return [name for name in sorted(found, key=lambda name: -found[name]) if found[name] > 0 and found[name] >= bar]
