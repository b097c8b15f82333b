"""Pairs: blocks of cubes in which every pair is compared, for metrics that look at two cubes at a time.

A block holds cubes of different groups, so dependent cubes never meet; in splits a block stays whole, and blocks that
may share a group stay together.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.cubes import FIELD, CubeSet
from hseval.core.feature_table import Rows
from hseval.core.options import as_dict
from hseval.core.plugin_manager import plugins
from hseval.data.content_hash import key
from hseval.data.field_of_view import bounding_box
from hseval.data.preprocessing import prepare, valid_pixels
from hseval.pipeline.extract import Description
from hseval.pipeline.pair_blocks import Block, blocks
from hseval.pipeline.worker import Plan
from hseval.utils.distributed import Comm
from hseval.utils.errors import NotComputable, first_line
from hseval.utils.feature_cache import Cache
from hseval.utils.parallel import Assignment, run

if TYPE_CHECKING:
    from numpy.typing import NDArray

Columns = Mapping[str, "NDArray[Any]"]

SIZE = "pairs/cubes"  # column: how many cubes a block holds
CHUNK = 1  # blocks handed to a worker at a time


@dataclasses.dataclass(frozen=True)
class PairJob:
    """Describes blocks of a set, in this process or in a worker.

    Attributes:
        metric: what describes them.
        cubes: the set.
        places: of each block, its cubes' places in the set.
        plan: which field of view they are seen through.
        reference: the reference's rows that the metric reads.
    """

    metric: Any
    cubes: CubeSet
    places: tuple[tuple[int, ...], ...]
    plan: Plan
    reference: Rows

    def work(self, chunk: list[int]) -> dict[int, Columns]:
        """Return the row of each block."""
        return {i: self._row(self.places[i]) for i in chunk}

    def assignment(self) -> Assignment:
        """Return how a worker builds this job: the metric by its name and options."""
        named = (self.metric.name, as_dict(getattr(self.metric, "options", None)))
        return _pair_job, (*named, self.cubes, self.places, self.plan, self.reference)

    def _row(self, places: Sequence[int]) -> Columns:
        block = [self.cubes[place] for place in places]
        field = self.plan.field
        box = bounding_box(np.logical_or.reduce([valid_pixels(cube, field) for cube in block]))
        prepared = [seen for cube in block if (seen := prepare(cube, (), field=field, box=box)) is not None]
        row = self.metric.describe_block(
            np.stack([cube.data for cube in prepared]),
            field=np.stack([cube.masks[FIELD] for cube in prepared]),
            reference=self.reference,
        )
        return {name: np.asarray(column) for name, column in row.items()}


def describe_pairs(
    metric: Any,
    cubes: CubeSet,
    description: Description,
    *,
    plan: Plan,
    reference: Rows,
    rng: np.random.Generator,
    cache: Cache,
    workers: int | None = 0,
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
    places = tuple(tuple(int(description.index[member]) for member in block.members) for block in chosen)
    job = PairJob(metric, cubes, places, plan, reference)
    error, done = None, 0
    try:
        for part in run(job, [mine[i : i + CHUNK] for i in range(0, len(mine), CHUNK)], workers):
            rows_of = {keys[i]: row for i, row in part.items()}
            cache.store_rows(rows_of)
            found.update(rows_of)
            done += len(part)
            if progress is not None:
                progress(done, len(mine))
    except Exception as failure:
        if comm.size == 1:
            raise
        error = first_line(failure)
    comm.agree(error)
    found.update(_gathered(found, comm.share(len(chosen)), keys, comm))
    return _rows([found[name] for name in keys], chosen, keys, rows)


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


def _pair_job(name: str, options: dict[str, Any], *rest: Any) -> PairJob:
    return PairJob(plugins().build("metric", name, options), *rest)


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
