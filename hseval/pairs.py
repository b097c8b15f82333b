"""Pairs: blocks of cubes in which every pair is compared, for metrics that look at two cubes at a time.

A block holds cubes of different groups, so dependent cubes never meet; in splits a block stays whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.cache import Cache
from hseval.comm import Comm
from hseval.cubes import FIELD, CubeSet
from hseval.describe import Description
from hseval.describer import Plan
from hseval.errors import NotComputable
from hseval.field import bounding_box
from hseval.identity import key
from hseval.prepare import prepare, valid_pixels
from hseval.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZE = "pairs/cubes"  # column: how many cubes a block holds
BLOCK = 8  # cubes: what each costs alone is shared by 28 pairs, and eight fit in memory at 672 x 672 x 16


def blocks(
    *, groups: Sequence[str], shapes: Sequence[tuple[int, ...]], pairs: int, rng: np.random.Generator
) -> list[list[int]]:
    """Return disjoint blocks of cubes, each of one shape and of different groups, with about ``pairs`` pairs in all.

    Small sets get smaller blocks, so that at least four are left to split where there are eight cubes.
    """
    size = int(np.clip(len(groups) // 4, 2, BLOCK))
    wanted = -(-pairs // (size * (size - 1) // 2))
    open_blocks: list[list[int]] = []
    full: list[list[int]] = []
    for i in rng.permutation(len(groups)):
        if len(full) >= wanted:
            break
        home = next((block for block in open_blocks if _fits(i, block, groups, shapes)), None)
        if home is None:
            open_blocks.append(home := [])
        home.append(int(i))
        if len(home) == size:
            open_blocks.remove(home)
            full.append(home)
    return full or [block for block in open_blocks if len(block) > 1]


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
    keys = [key("pairs", about, [rows.hashes[i] for i in block], _fields(plan, description, block)) for block in chosen]
    found: dict[str, Any] = dict(cache.rows(keys))
    mine = [i for i in comm.share(len(chosen)) if keys[i] not in found]
    for done, i in enumerate(mine):
        places = [int(description.index[member]) for member in chosen[i]]
        found[keys[i]] = _one_row(metric, cubes, places, plan, reference)
        cache.store_rows({keys[i]: found[keys[i]]})
        if progress is not None:
            progress(done + 1, len(mine))
    found.update(_gathered(found, comm.share(len(chosen)), keys, comm))
    return _rows([found[name] for name in keys], chosen, keys, rows)


def _fits(i: int, block: list[int], groups: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> bool:
    return shapes[i] == shapes[block[0]] and all(groups[i] != groups[other] for other in block)


def _about(metric: Any, plan: Plan, reference: Rows) -> Any:
    """Return what besides the cubes decides a block's row."""
    digest = hashlib.sha256()
    for column in _needed(metric, reference):
        digest.update(np.ascontiguousarray(reference[column]).data)
    options = repr(getattr(metric, "options", None))
    return (metric.name, getattr(metric, "version", "1"), options, plan.wavelengths.tolist(), digest.hexdigest())


def _needed(metric: Any, reference: Rows) -> list[str]:
    wanted = metric.needs.rows
    return sorted(column for column in reference.columns if column.split("/")[0] in wanted)


def _fields(plan: Plan, description: Description, block: Sequence[int]) -> Any:
    """Return what identifies the fields of a block's cubes: the shared one, or each cube's own."""
    if plan.field is not None:
        return hashlib.sha256(np.packbits(plan.field).data).hexdigest()
    return [description.masks[i] for i in block]


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


def _rows(
    found: Sequence[dict[str, Any]], chosen: Sequence[list[int]], keys: Sequence[str], rows: Rows
) -> Rows:
    columns = {name: np.concatenate([row[name] for row in found]) for name in found[0]}
    columns[SIZE] = np.array([len(block) for block in chosen])
    names = np.array([f"block-{i}" for i in range(len(found))])
    return Rows(columns, names, np.array(keys), names, rows.wavelengths, rows.wavelengths_known, rows.structures)
