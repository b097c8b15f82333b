"""Features of blocks of cubes in which every pair is compared, for metrics that compare two cubes at a time.

A block holds cubes of different groups, so that dependent cubes are never compared; splits keep a block whole, and
blocks that may share a group together.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.cubes import FOV, CubeSet
from hseval.core.feature_table import FeatureTable
from hseval.core.options import options_to_dict
from hseval.core.plugin_manager import get_plugins
from hseval.data.content_hash import compute_key
from hseval.data.field_of_view import compute_bounding_box
from hseval.data.preprocessing import compute_valid_mask, preprocess_cube
from hseval.pipeline.extract import ExtractedSet
from hseval.pipeline.pair_blocks import PairBlock, draw_pair_blocks
from hseval.pipeline.worker import ExtractionPlan
from hseval.utils.distributed import Communicator
from hseval.utils.errors import NotComputable, format_error
from hseval.utils.feature_cache import FeatureCache
from hseval.utils.parallel import JobSpec, run_chunks

if TYPE_CHECKING:
    from numpy.typing import NDArray

Columns = Mapping[str, "NDArray[Any]"]

BLOCK_SIZE_COLUMN = "pairs/cubes"  # column: number of cubes in a block
CHUNK_BLOCKS = 1  # blocks handed to a worker at a time


@dataclasses.dataclass(frozen=True)
class PairBlockJob:
    """Extracts the features of a set's blocks, in this process or in a worker.

    Attributes:
        metric: its ``describe_block`` returns the features of a block.
        cubes: the set.
        block_indices: of each block, its cubes' indices in the set.
        plan: which field of view to use.
        reference: the reference's features that the metric reads.
    """

    metric: Any
    cubes: CubeSet
    block_indices: tuple[tuple[int, ...], ...]
    plan: ExtractionPlan
    reference: FeatureTable

    def run_chunk(self, chunk: list[int]) -> dict[int, Columns]:
        """Return the features of each block."""
        return {i: self._extract_block(self.block_indices[i]) for i in chunk}

    def get_spec(self) -> JobSpec:
        """Return how a worker builds this job: the metric by its name and options."""
        named = (self.metric.name, options_to_dict(getattr(self.metric, "options", None)))
        return _build_pair_job, (*named, self.cubes, self.block_indices, self.plan, self.reference)

    def _extract_block(self, indices: Sequence[int]) -> Columns:
        block = [self.cubes[index] for index in indices]
        field = self.plan.field
        box = compute_bounding_box(np.logical_or.reduce([compute_valid_mask(cube, field) for cube in block]))
        prepared = [visible for cube in block if (visible := preprocess_cube(cube, (), fov=field, box=box)) is not None]
        row = self.metric.describe_block(
            np.stack([cube.data for cube in prepared]),
            field=np.stack([cube.masks[FOV] for cube in prepared]),
            reference=self.reference,
        )
        return {name: np.asarray(column) for name, column in row.items()}


def extract_pair_features(
    metric: Any,
    cubes: CubeSet,
    extracted: ExtractedSet,
    *,
    plan: ExtractionPlan,
    reference: FeatureTable,
    rng: np.random.Generator,
    cache: FeatureCache,
    workers: int | None = 0,
    comm: Communicator | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FeatureTable:
    """Return one row per block: what ``metric.describe_block`` returns for it.

    Raises:
        NotComputable: there are no two cubes of different groups and equal shape.
    """
    comm = comm or Communicator()
    features = extracted.features
    shapes = [cubes.shape(int(i)) for i in extracted.index]
    blocks = draw_pair_blocks(groups=features.groups.tolist(), shapes=shapes, pairs=metric.needs.pairs, rng=rng)
    if not blocks:
        raise NotComputable(f"{cubes.info.location}: no two cubes of different groups and equal shape to compare")
    key_parts = _collect_key_parts(metric, plan, reference)
    keys = [
        compute_key(
            "pairs-2", key_parts, [(extracted.content_hashes[i], extracted.mask_hashes[i]) for i in b.cube_indices]
        )
        for b in blocks
    ]
    columns_by_key: dict[str, Any] = dict(cache.load_features(keys))
    pending = [i for i in comm.shard_indices(len(blocks)) if keys[i] not in columns_by_key]
    block_indices = tuple(tuple(int(extracted.index[member]) for member in block.cube_indices) for block in blocks)
    job = PairBlockJob(metric, cubes, block_indices, plan, reference)
    error, done = None, 0
    try:
        for chunk in run_chunks(
            job, [pending[i : i + CHUNK_BLOCKS] for i in range(0, len(pending), CHUNK_BLOCKS)], workers
        ):
            computed = {keys[i]: columns for i, columns in chunk.items()}
            cache.store_features(computed)
            columns_by_key.update(computed)
            done += len(chunk)
            if progress is not None:
                progress(done, len(pending))
    except Exception as failure:
        if comm.size == 1:
            raise
        error = format_error(failure)
    comm.raise_first_error(error)
    columns_by_key.update(_gather_blocks(columns_by_key, comm.shard_indices(len(blocks)), keys, comm))
    return _build_feature_table([columns_by_key[name] for name in keys], blocks, keys, features)


def _collect_key_parts(metric: Any, plan: ExtractionPlan, reference: FeatureTable) -> Any:
    """Return everything besides the cubes that decides a block's features."""
    digest = hashlib.sha256()
    for column in _list_needed_columns(metric, reference):
        digest.update(np.ascontiguousarray(reference[column]).data)
    options = repr(getattr(metric, "options", None))
    version = (getattr(metric, "version", "1"), get_plugins().get_origin("metric", metric.name))
    return (metric.name, version, options, plan.wavelengths.tolist(), plan.compute_field_hash(), digest.hexdigest())


def _list_needed_columns(metric: Any, reference: FeatureTable) -> list[str]:
    names = metric.needs.features
    return sorted(column for column in reference.columns if column.split("/")[0] in names)


def _build_pair_job(name: str, options: dict[str, Any], *rest: Any) -> PairBlockJob:
    return PairBlockJob(get_plugins().build("metric", name, options), *rest)


def _gather_blocks(
    columns_by_key: dict[str, Any], own_indices: Sequence[int], keys: Sequence[str], comm: Communicator
) -> dict[str, Any]:
    packed = {f"{i}:{name}": column for i in own_indices for name, column in columns_by_key[keys[i]].items()}
    gathered: dict[str, Any] = {}
    for received in comm.gather(packed) if comm.size > 1 else ():
        for label, column in received.items():
            i, name = label.split(":", 1)
            gathered.setdefault(keys[int(i)], {})[name] = column
    return gathered


def _build_feature_table(
    block_columns: Sequence[dict[str, Any]],
    pair_blocks: Sequence[PairBlock],
    keys: Sequence[str],
    features: FeatureTable,
) -> FeatureTable:
    columns = {name: np.concatenate([row[name] for row in block_columns]) for name in block_columns[0]}
    columns[BLOCK_SIZE_COLUMN] = np.array([len(block.cube_indices) for block in pair_blocks])
    return FeatureTable(
        columns=columns,
        ids=np.array([f"block-{i}" for i in range(len(block_columns))]),
        hashes=np.array(keys),
        groups=np.array([f"bin-{block.group_bin}" for block in pair_blocks]),
        wavelengths=features.wavelengths,
        wavelengths_known=features.wavelengths_known,
        structures=features.structures,
    )
