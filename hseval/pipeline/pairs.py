"""Features of blocks of cubes in which every pair is compared, for metrics that compare two cubes at a time.

A block holds cubes of different groups, so that dependent cubes are never compared; splits keep a block whole, and
blocks that may share a group together.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hseval.core.capabilities import get_options, get_plugin_version
from hseval.core.cubes import FOV, CubeSet
from hseval.core.evaluation import BLOCK_SIZE_COLUMN
from hseval.core.feature_table import FeatureTable
from hseval.core.options import get_option_values
from hseval.core.plugin_manager import get_plugins
from hseval.data.content_hash import compute_key
from hseval.data.field_of_view import compute_bounding_box, find_valid_pixels
from hseval.data.preprocessing import get_fov_mask, preprocess_cube
from hseval.pipeline.cached_columns import CachedColumns, Columns, raise_on_all_ranks
from hseval.pipeline.extract import ExtractedSet, UnchangedSet
from hseval.pipeline.pair_blocks import draw_pair_blocks
from hseval.pipeline.worker import ExtractionPlan
from hseval.utils.distributed import Ranks
from hseval.utils.errors import NotComputable
from hseval.utils.feature_cache import FeatureCache
from hseval.utils.parallel import JobSpec

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
        named = (self.metric.name, get_option_values(self.metric))
        return _build_pair_job, (*named, self.cubes, self.block_indices, self.plan, self.reference)

    def _extract_block(self, indices: Sequence[int]) -> Columns:
        block = [self.cubes[index] for index in indices]
        field = self.plan.field
        valid = [find_valid_pixels(cube.data, get_fov_mask(cube, field)) for cube in block]
        box = compute_bounding_box(np.logical_or.reduce(valid))
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
    ranks: Ranks | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FeatureTable:
    """Return one row per block: what ``metric.describe_block`` returns for it.

    Raises:
        NotComputable: there are no two cubes of different groups and equal shape.
    """
    ranks = ranks or Ranks()
    features = extracted.features
    shapes = [cubes.shape(int(i)) for i in extracted.index]
    blocks = draw_pair_blocks(groups=features.groups.tolist(), shapes=shapes, pairs=metric.needs.pairs, rng=rng)
    if not blocks:
        raise NotComputable(f"{cubes.info.location}: no two cubes of different groups and equal shape to compare")
    key_parts = _collect_key_parts(metric, plan, reference)
    identities = list(zip(extracted.content_hashes, extracted.mask_hashes, strict=True))
    keys = [compute_key("pairs-2", key_parts, [identities[i] for i in block.cube_indices]) for block in blocks]
    block_indices = tuple(tuple(int(extracted.index[member]) for member in block.cube_indices) for block in blocks)
    job = PairBlockJob(metric, UnchangedSet(cubes, extracted), block_indices, plan, reference)
    cached = CachedColumns(dict(enumerate(keys)), cache, ranks)
    with raise_on_all_ranks(ranks):
        cached.compute(job, chunk_size=CHUNK_BLOCKS, workers=workers, progress=progress)
    block_columns = cached.gather()
    columns = {name: np.concatenate([row[name] for row in block_columns]) for name in block_columns[0]}
    columns[BLOCK_SIZE_COLUMN] = np.array([len(block.cube_indices) for block in blocks])
    return FeatureTable(
        columns=columns,
        ids=np.array([f"block-{i}" for i in range(len(block_columns))]),
        hashes=np.array(keys),
        groups=np.array([f"bin-{block.group_bin}" for block in blocks]),
        wavelengths=features.wavelengths,
        wavelengths_known=features.wavelengths_known,
        structures=features.structures,
    )


def _collect_key_parts(metric: Any, plan: ExtractionPlan, reference: FeatureTable) -> Any:
    """Return everything besides the cubes that decides a block's features."""
    digest = hashlib.sha256()
    for _, column in sorted(reference.select_extractors(metric.needs.features).columns.items()):
        digest.update(np.ascontiguousarray(column).data)
    options = repr(get_options(metric))
    version = (get_plugin_version(metric) or "1", get_plugins().get_origin("metric", metric.name))
    return (metric.name, version, options, plan.wavelengths.tolist(), plan.compute_field_hash(), digest.hexdigest())


def _build_pair_job(name: str, options: dict[str, Any], *rest: Any) -> PairBlockJob:
    return PairBlockJob(get_plugins().build("metric", name, options), *rest)
