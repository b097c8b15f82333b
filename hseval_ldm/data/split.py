"""Which cubes train and which are held out: whole groups, drawn from their names and the seed alone."""

from __future__ import annotations

from typing import NamedTuple

from hseval.core.cubes import CubeSet
from hseval.utils.errors import HsevalError
from hseval.utils.random_streams import stream

Groups = dict[tuple[str, str], list[int]]


class Split(NamedTuple):
    """Indices into the set, ascending; together they are all of it."""

    train: tuple[int, ...]
    held_out: tuple[int, ...]


def split(data: CubeSet, *, share: float, seed: int, least: int = 2) -> Split:
    """Hold out about ``share`` of the cubes, in whole groups, drawn from the stream (seed, "split").

    Which cubes these are depends on ids, groups and the seed, not on the order of the cubes in the set. A cube
    whose group is empty stands alone, as it does in reports.

    Args:
        data: the set; only its ids and groups are read.
        share: of the cubes, from 0 (nothing is held out) to below 1.
        seed: the user's.
        least: number of cubes that each side needs.

    Raises:
        HsevalError: ``share`` is out of range, or the set has too few cubes or groups for two sides.
    """
    where, count = data.info.location, len(data)
    if not 0 <= share < 1:
        raise HsevalError(f"the share of cubes to hold out is {share:g}, expected 0 or more and less than 1")
    groups = _groups(data)
    needed, kinds = (2 * least, 2) if share else (least, 1)
    if count < needed or len(groups) < kinds:
        found = f"{_counted(count, 'cube')} of {_counted(len(groups), 'group')}"
        wanted = f"{_counted(needed, 'cube')} of {_counted(kinds, 'group')} or more"
        way_out = " (or hold out a share of 0)" if share and count >= least else ""
        raise HsevalError(f"{where}: {found}; hseval_ldm needs {wanted}{way_out}")
    if not share:
        return Split(tuple(range(count)), ())
    held = _held_out(groups, count=count, share=share, seed=seed, least=least)
    if not least <= len(held) <= count - least:
        largest = max(map(len, groups.values()))
        told = f"the largest of {len(groups)} groups holds {largest} of {count} cubes"
        raise HsevalError(f"{where}: {told}; hseval_ldm needs {least} or more on each side (or hold out a share of 0)")
    return Split(tuple(i for i in range(count) if i not in held), tuple(sorted(held)))


def _groups(data: CubeSet) -> Groups:
    found: Groups = {}
    for index, name in enumerate(data.ids):
        group = data.groups[index] if data.groups is not None else ""
        found.setdefault(("group", group) if group else ("cube", name), []).append(index)
    return found


def _held_out(groups: Groups, *, count: int, share: float, seed: int, least: int) -> set[int]:
    """Take groups in random order, each that brings the number of cubes nearer to what was asked for."""
    target, most = max(round(share * count), least), count - least
    names = sorted(groups)
    shuffled = [groups[names[place]] for place in stream(seed, "split").permutation(len(names))]
    held: set[int] = set()
    for members in shuffled:
        after = len(held) + len(members)
        if after <= most and abs(after - target) < abs(len(held) - target):
            held.update(members)
    for members in sorted(shuffled, key=len):  # all groups are large: the smallest ones then, or too few are held out
        if len(held) < least:
            held.update(members)
    return held


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
