"""Pairs: blocks of cubes in which every pair is compared, for metrics that look at two cubes at a time.

A block holds cubes of different groups, so dependent cubes never meet; in splits a block stays whole, and blocks that
may share a group stay together.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.cache import Cache
from hseval.comm import Comm
from hseval.cubes import FIELD, CubeSet
from hseval.describe import Description
from hseval.describer import Plan
from hseval.errors import NotComputable, first_line
from hseval.field import bounding_box
from hseval.identity import key
from hseval.plugins import plugins
from hseval.prepare import prepare, valid_pixels
from hseval.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZE = "pairs/cubes"  # column: how many cubes a block holds
BLOCK = 8  # cubes: what each costs alone is shared by 28 pairs, and eight fit in memory at 672 x 672 x 16


@dataclasses.dataclass(frozen=True)
class Block:
    """Cubes of one shape and of different groups, and the bin of groups that they come from."""

    members: tuple[int, ...]
    bin: int


def blocks(
    *, groups: Sequence[str], shapes: Sequence[tuple[int, ...]], pairs: int, rng: np.random.Generator
) -> list[Block]:
    """Return disjoint blocks with about ``pairs`` pairs in all.

    Groups are dealt into bins first, and a block draws from one bin: bins are what splits may keep apart, so that no
    group is on both sides. Few groups get smaller bins, so that at least four are left where there are eight groups.
    """
    members = _by_group(groups, rng)
    size = int(np.clip(len(members) // 4, 2, BLOCK))
    wanted = -(-pairs // (size * (size - 1) // 2))
    bins = [members[start : start + size] for start in range(0, len(members), size)]
    found: list[Block] = []
    for turn in range(max(map(len, members), default=0)):
        for place, dealt in enumerate(bins):
            drawn = [group[turn] for group in dealt if turn < len(group)]
            found.extend(Block(same, place) for same in _by_shape(drawn, shapes) if len(same) > 1)
        if len(found) >= wanted:
            break
    full = [block for block in found if len(block.members) == size]
    return (full or found)[:wanted]


def describe_pairs(
    metric: Any,
    cubes: CubeSet,
    description: Description,
    *,
    plan: Plan,
    reference: Rows,
    rng: np.random.Generator,
    cache: Cache,
    comm: Comm | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Rows:
    """Return one row a block: what ``metric.describe_block`` says of it.

    Raises:
        NotComputable: no two cubes of different groups and equal shape are there.
    """
    comm = comm or Comm()
    rows = description.rows
    shapes = [cubes.shape(int(i)) for i in description.index]
    chosen = blocks(groups=rows.groups.tolist(), shapes=shapes, pairs=metric.needs.pairs, rng=rng)
    if not chosen:
        raise NotComputable(f"{cubes.info.location}: no two cubes of different groups and equal shape to compare")
    about = _about(metric, plan, reference)
    keys = [key("pairs-2", about, [(description.contents[i], description.masks[i]) for i in b.members]) for b in chosen]
    found: dict[str, Any] = dict(cache.rows(keys))
    mine = [i for i in comm.share(len(chosen)) if keys[i] not in found]
    error = None
    try:
        for done, i in enumerate(mine):
            places = [int(description.index[member]) for member in chosen[i].members]
            found[keys[i]] = _one_row(metric, cubes, places, plan, reference)
            cache.store_rows({keys[i]: found[keys[i]]})
            if progress is not None:
                progress(done + 1, len(mine))
    except Exception as failure:
        if comm.size == 1:
            raise
        error = first_line(failure)
    comm.agree(error)
    found.update(_gathered(found, comm.share(len(chosen)), keys, comm))
    return _rows([found[name] for name in keys], chosen, keys, rows)


def _by_group(groups: Sequence[str], rng: np.random.Generator) -> list[list[int]]:
    """Return each group's cubes, groups and cubes in random order that depends on content order alone."""
    members: dict[str, list[int]] = {}
    for i in rng.permutation(len(groups)):
        members.setdefault(groups[i], []).append(int(i))
    return list(members.values())


def _by_shape(drawn: Sequence[int], shapes: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    found: dict[tuple[int, ...], list[int]] = {}
    for i in drawn:
        found.setdefault(shapes[i], []).append(i)
    return [tuple(same) for same in found.values()]


def _about(metric: Any, plan: Plan, reference: Rows) -> Any:
    """Return what besides the cubes decides a block's row."""
    digest = hashlib.sha256()
    for column in _needed(metric, reference):
        digest.update(np.ascontiguousarray(reference[column]).data)
    options = repr(getattr(metric, "options", None))
    version = (getattr(metric, "version", "1"), plugins().origin("metric", metric.name))
    return (metric.name, version, options, plan.wavelengths.tolist(), plan.field_hash(), digest.hexdigest())


def _needed(metric: Any, reference: Rows) -> list[str]:
    wanted = metric.needs.rows
    return sorted(column for column in reference.columns if column.split("/")[0] in wanted)


def _one_row(
    metric: Any, cubes: CubeSet, places: Sequence[int], plan: Plan, reference: Rows
) -> dict[str, NDArray[Any]]:
    block = [cubes[place] for place in places]
    fields = [valid_pixels(cube, plan.field) for cube in block]
    box = bounding_box(np.logical_or.reduce(fields))
    prepared = [prepare(cube, (), field=plan.field, box=box) for cube in block]
    data = np.stack([cube.data for cube in prepared if cube is not None])
    field = np.stack([cube.masks[FIELD] for cube in prepared if cube is not None])
    row = metric.describe_block(data, field=field, reference=reference)
    return {name: np.asarray(column) for name, column in row.items()}


def _gathered(found: dict[str, Any], mine: Sequence[int], keys: Sequence[str], comm: Comm) -> dict[str, Any]:
    packed = {f"{i}:{name}": column for i in mine for name, column in found[keys[i]].items()}
    gathered: dict[str, Any] = {}
    for part in comm.gather(packed) if comm.size > 1 else ():
        for label, column in part.items():
            i, name = label.split(":", 1)
            gathered.setdefault(keys[int(i)], {})[name] = column
    return gathered


def _rows(found: Sequence[dict[str, Any]], chosen: Sequence[Block], keys: Sequence[str], rows: Rows) -> Rows:
    columns = {name: np.concatenate([row[name] for row in found]) for name in found[0]}
    columns[SIZE] = np.array([len(block.members) for block in chosen])
    return Rows(
        columns=columns,
        ids=np.array([f"block-{i}" for i in range(len(found))]),
        hashes=np.array(keys),
        groups=np.array([f"bin-{block.bin}" for block in chosen]),
        wavelengths=rows.wavelengths,
        wavelengths_known=rows.wavelengths_known,
        structures=rows.structures,
    )
