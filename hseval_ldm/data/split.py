"""The split into training and held-out cubes: whole groups, drawn from their names and the seed alone."""

from __future__ import annotations

from typing import NamedTuple

from hseval.plugin import CubeSet, HsevalError, create_rng, format_count

CubeGroups = dict[tuple[str, str], list[int]]


class HeldOutSplit(NamedTuple):
    """Indices into the set, ascending; every cube is in one of the two."""

    train: tuple[int, ...]
    held_out: tuple[int, ...]


def split_held_out(data: CubeSet, *, share: float, seed: int, min_cubes: int = 2) -> HeldOutSplit:
    """Hold out about ``share`` of the cubes, in whole groups, drawn from the stream (seed, "split").

    The split depends on ids, groups and the seed, not on the order of the cubes in the set. A cube whose group is
    empty is a group of its own, as in reports. ``share`` is 0 (none is held out) or more and below 1; each part has
    ``min_cubes`` or more.

    Raises:
        HsevalError: the set has too few cubes or groups for two parts.
    """
    location, count = data.info.location, len(data)
    groups = _group_cubes(data)
    min_count, min_groups = (2 * min_cubes, 2) if share else (min_cubes, 1)
    if count < min_count or len(groups) < min_groups:
        content = f"{format_count(count, 'cube')} in {format_count(len(groups), 'group')}"
        required = f"{format_count(min_count, 'cube')} in {format_count(min_groups, 'group')} or more"
        hint = " (or held_out=0)" if share and count >= min_cubes else ""
        raise HsevalError(f"{location}: {content}; hseval_ldm needs {required}{hint}")
    if not share:
        return HeldOutSplit(tuple(range(count)), ())
    held_out = _draw_held_out(groups, count=count, share=share, seed=seed, min_cubes=min_cubes)
    if not min_cubes <= len(held_out) <= count - min_cubes:
        largest = max(map(len, groups.values()))
        content = f"the largest of {len(groups)} groups holds {largest} of {count} cubes"
        required = f"{min_cubes} or more cubes for training and as many held out (or held_out=0)"
        raise HsevalError(f"{location}: {content}; hseval_ldm needs {required}")
    return HeldOutSplit(tuple(i for i in range(count) if i not in held_out), tuple(sorted(held_out)))


def _group_cubes(data: CubeSet) -> CubeGroups:
    groups: CubeGroups = {}
    for index, name in enumerate(data.ids):
        group = data.groups[index] if data.groups is not None else ""
        groups.setdefault(("group", group) if group else ("cube", name), []).append(index)
    return groups


def _draw_held_out(groups: CubeGroups, *, count: int, share: float, seed: int, min_cubes: int) -> set[int]:
    """Take groups in random order, skipping those that do not bring the number of cubes closer to the target."""
    target, max_count = max(round(share * count), min_cubes), count - min_cubes
    names = sorted(groups)
    shuffled = [groups[names[index]] for index in create_rng(seed, "split").permutation(len(names))]
    held_out: set[int] = set()
    for members in shuffled:
        new_count = len(held_out) + len(members)
        if new_count <= max_count and abs(new_count - target) < abs(len(held_out) - target):
            held_out.update(members)
    for members in sorted(shuffled, key=len):  # if all groups are too large, the smallest ones are held out
        if len(held_out) < min_cubes:
            held_out.update(members)
    return held_out
