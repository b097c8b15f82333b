"""Feature extraction: one streaming pass over a set computes all features that the chosen metrics need.

Features whose key is known come from the cache. The others are computed cube by cube with one thread, in this process
or in several, so that neither batch size, worker count nor the state of the cache changes a digit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.core.cubes import Cube, CubeSet, DerivedSet
from hseval.core.feature_table import UNGROUPED_PREFIX, FeatureTable
from hseval.data.content_hash import compute_content_hash
from hseval.pipeline.cached_columns import raise_on_all_ranks
from hseval.pipeline.worker import ExtractedCube, ExtractionPlan, ExtractionWorker
from hseval.utils.distributed import Ranks
from hseval.utils.errors import HsevalError
from hseval.utils.feature_cache import FeatureCache
from hseval.utils.parallel import run_chunks

MAX_CHUNK_CUBES = 8
MAX_CHUNK_BYTES = 64 * 2**20


@dataclasses.dataclass(frozen=True)
class ExtractedSet:
    """A set's features.

    Attributes:
        features: one row per cube, sorted by content.
        index: ``(n,)`` index in the set of each row's cube.
        content_hashes: the sha256 of each row's pixels, the whole frame of them.
        mask_hashes: the sha256 of each row's masks.
        invalid_ids: ids of the cubes without a valid pixel.
        computed_count: number of cubes that had to be read; the others came from the cache.
    """

    features: FeatureTable
    index: NDArray[np.int64]
    content_hashes: tuple[str, ...]
    mask_hashes: tuple[str, ...]
    invalid_ids: tuple[str, ...]
    computed_count: int

    def select(self, rows: NDArray[np.int64]) -> ExtractedSet:
        """Return the features of some rows."""
        return dataclasses.replace(
            self,
            features=self.features.select(rows),
            index=self.index[rows],
            content_hashes=tuple(self.content_hashes[i] for i in rows),
            mask_hashes=tuple(self.mask_hashes[i] for i in rows),
        )


class UnchangedSet(DerivedSet):
    """A set whose cubes are read again after their features were extracted; a cube that has changed is refused.

    What is computed from such a cube is stored under the content hash that it had before.
    """

    def __init__(self, base: CubeSet, extracted: ExtractedSet) -> None:
        self.base, self.info = base, base.info
        self.content_hashes = dict(zip(extracted.index.tolist(), extracted.content_hashes, strict=True))

    def read(self, index: int) -> Cube:
        """Read one cube.

        Raises:
            HsevalError: it is not the cube that features were extracted from.
        """
        cube = self.base.read(index)
        if self.content_hashes.get(index) not in (None, compute_content_hash(cube.data)):
            name = f"{self.info.location}: cube {self.ids[index]}"
            raise HsevalError(f"{name} has changed since it was first read; run it again when nothing writes there")
        return cube

    def read_masks(self, index: int) -> Mapping[str, NDArray[np.bool_]]:
        """Read the masks of one cube."""
        return self.base.read_masks(index)


def extract_features(
    cubes: CubeSet,
    plan: ExtractionPlan,
    *,
    cache: FeatureCache,
    workers: int | None = 0,
    batch_size: int = 1,
    ranks: Ranks | None = None,
    verify: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ExtractedSet:
    """Extract the features of a set.

    Args:
        cubes: the set.
        plan: which features.
        cache: where features are looked up and stored.
        workers: worker processes; 0: this process; None: as many as there are cores, once it pays.
        batch_size: cubes that an extractor gets at a time.
        ranks: those to share the set with.
        verify: hash every cube again instead of trusting file stamps.
        progress: called with (cubes done, total cubes) of this rank.

    Raises:
        HsevalError: a cube can't be read, or no cube has a valid pixel.
    """
    ranks = ranks or Ranks()
    with raise_on_all_ranks(ranks):
        indices = list(ranks.shard_indices(len(cubes)))
        worker = ExtractionWorker(cubes, plan, cache, batch_size)
        done = worker.load_cached(indices, verify=verify)
        finished = {cube.index for cube in done}
        pending = [index for index in indices if index not in finished]
        step = _compute_chunk_size(cubes, batch_size)
        chunks = [pending[i : i + step] for i in range(0, len(pending), step)]
        for processed in run_chunks(worker, chunks, workers):
            worker.store_cubes(processed)
            done.extend(processed)
            if progress is not None:
                progress(len(done), len(indices))
    if ranks.size > 1:
        done = [cube for arrays in ranks.gather_arrays(_pack_arrays(done)) for cube in _unpack_arrays(arrays)]
    return _assemble_set(cubes, plan, done, len(pending))


def _compute_chunk_size(cubes: CubeSet, batch_size: int) -> int:
    """Return how many cubes are read, looked up and stored together: few enough to keep memory flat."""
    bands, height, width = cubes.shape(0)
    return max(batch_size, min(MAX_CHUNK_CUBES, MAX_CHUNK_BYTES // (4 * bands * height * width)), 1)


def _pack_arrays(processed: Sequence[ExtractedCube]) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {
        "index": np.array([cube.index for cube in processed], dtype=np.int64),
        "hashes": np.frombuffer("".join("".join(cube.hashes) for cube in processed).encode(), dtype=np.uint8),
        "valid": np.array([bool(cube.columns) for cube in processed], dtype=np.uint8),
    }
    valid = [cube.columns for cube in processed if cube.columns]
    for extractor in valid[0] if valid else ():
        for field in valid[0][extractor]:
            arrays[f"column:{extractor}:{field}"] = np.stack([columns[extractor][field] for columns in valid])
    return arrays


def _unpack_arrays(arrays: Mapping[str, NDArray[Any]]) -> Iterator[ExtractedCube]:
    hashes = bytes(arrays["hashes"]).decode()
    names = [name.split(":", 2)[1:] for name in arrays if name.startswith("column:")]
    row = 0
    for i, index in enumerate(arrays["index"]):
        columns: dict[str, dict[str, NDArray[Any]]] = {}
        if arrays["valid"][i]:
            for extractor, field in names:
                columns.setdefault(extractor, {})[field] = arrays[f"column:{extractor}:{field}"][row]
            row += 1
        content, masks, field = (hashes[start : start + 64] for start in range(192 * i, 192 * (i + 1), 64))
        yield ExtractedCube(int(index), (content, masks, field), columns)


def _assemble_set(
    cubes: CubeSet, plan: ExtractionPlan, processed: Sequence[ExtractedCube], computed_count: int
) -> ExtractedSet:
    ids = cubes.ids
    valid = [cube for cube in processed if cube.columns]
    invalid = tuple(sorted(ids[cube.index] for cube in processed if not cube.columns))
    if not valid:
        raise HsevalError(
            f"{cubes.info.location}: none of its {len(cubes)} cubes has a valid pixel "
            "(finite in every band, and inside 'fov' where there is one)"
        )
    valid.sort(key=lambda cube: (cube.visible_hash, cube.hashes[1], ids[cube.index]))
    index = np.array([cube.index for cube in valid], dtype=np.int64)
    groups = [group or UNGROUPED_PREFIX + ids[i] for i, group in enumerate(cubes.groups or [None] * len(ids))]
    columns: dict[str, NDArray[Any]] = {}
    for extractor, fields in valid[0].columns.items():
        for field in fields:
            name = f"{extractor}/{field}" if field else extractor
            columns[name] = np.stack([cube.columns[extractor][field] for cube in valid])
    features = FeatureTable(
        columns=columns,
        ids=np.array([ids[i] for i in index]),
        hashes=np.array([cube.visible_hash for cube in valid]),
        groups=np.array([groups[i] for i in index]),
        wavelengths=plan.wavelengths,
        wavelengths_known=cubes.info.wavelengths_known,
        structures=plan.structures,
    )
    contents, masks, _ = zip(*(cube.hashes for cube in valid), strict=True)
    return ExtractedSet(features, index, contents, masks, invalid, computed_count)
