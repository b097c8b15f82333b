"""Which cubes train and which are held out: whole groups, drawn from their names and the seed alone."""

from __future__ import annotations

from typing import NamedTuple

from hseval.core.cubes import CubeSet
from hseval.utils.errors import HsevalError
from hseval.utils.random_streams import create_rng

CubeGroups = dict[tuple[str, str], list[int]]


class HeldOutSplit(NamedTuple):
    """Indices into the set, ascending; together they are all of it."""

    train: tuple[int, ...]
    held_out: tuple[int, ...]


def split_held_out(data: CubeSet, *, share: float, seed: int, min_cubes: int = 2) -> HeldOutSplit:
    """Hold out about ``share`` of the cubes, in whole groups, drawn from the stream (seed, "split").

    Which cubes these are depends on ids, groups and the seed, not on the order of the cubes in the set. A cube
    whose group is empty stands alone, as it does in reports.

    Args:
        data: the set; only its ids and groups are read.
        share: of the cubes, from 0 (nothing is held out) to below 1.
        seed: the user's.
        min_cubes: number of cubes that each side needs.

    Raises:
        HsevalError: ``share`` is out of range, or the set has too few cubes or groups for two sides.
    """
    where, count = data.info.location, len(data)
    if not 0 <= share < 1:
        raise HsevalError(f"the share of cubes to hold out is {share:g}, expected 0 or more and less than 1")
    groups = _group_cubes(data)
    needed, kinds = (2 * min_cubes, 2) if share else (min_cubes, 1)
    if count < needed or len(groups) < kinds:
        found = f"{_format_count(count, 'cube')} of {_format_count(len(groups), 'group')}"
        wanted = f"{_format_count(needed, 'cube')} of {_format_count(kinds, 'group')} or more"
        way_out = " (or hold out a share of 0)" if share and count >= min_cubes else ""
        raise HsevalError(f"{where}: {found}; hseval_ldm needs {wanted}{way_out}")
    if not share:
        return HeldOutSplit(tuple(range(count)), ())
    held = _draw_held_out(groups, count=count, share=share, seed=seed, min_cubes=min_cubes)
    if not min_cubes <= len(held) <= count - min_cubes:
        largest = max(map(len, groups.values()))
        told = f"the largest of {len(groups)} groups holds {largest} of {count} cubes"
        raise HsevalError(
            f"{where}: {told}; hseval_ldm needs {min_cubes} or more on each side (or hold out a share of 0)"
        )
    return HeldOutSplit(tuple(i for i in range(count) if i not in held), tuple(sorted(held)))


def _group_cubes(data: CubeSet) -> CubeGroups:
    found: CubeGroups = {}
    for index, name in enumerate(data.ids):
        group = data.groups[index] if data.groups is not None else ""
        found.setdefault(("group", group) if group else ("cube", name), []).append(index)
    return found


def _draw_held_out(groups: CubeGroups, *, count: int, share: float, seed: int, min_cubes: int) -> set[int]:
    """Take groups in random order, each that brings the number of cubes nearer to what was asked for."""
    target, most = max(round(share * count), min_cubes), count - min_cubes
    names = sorted(groups)
    shuffled = [groups[names[place]] for place in create_rng(seed, "split").permutation(len(names))]
    held: set[int] = set()
    for members in shuffled:
        after = len(held) + len(members)
        if after <= most and abs(after - target) < abs(len(held) - target):
            held.update(members)
    for members in sorted(shuffled, key=len):  # all groups are large: the smallest ones then, or too few are held out
        if len(held) < min_cubes:
            held.update(members)
    return held


def _format_count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
