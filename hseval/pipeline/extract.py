"""Feature extraction: one streaming pass over a set computes all features that the chosen metrics need.

Features whose key is known come from the cache. The others are computed cube by cube with one thread, in this process
or in several, so that neither batch size, worker count nor the state of the cache changes a digit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.cubes import CubeSet
from hseval.core.feature_table import UNGROUPED_PREFIX, FeatureTable
from hseval.pipeline.worker import CORE, ExtractedCube, ExtractionPlan, ExtractionWorker
from hseval.utils.distributed import Communicator
from hseval.utils.errors import HsevalError, format_error
from hseval.utils.feature_cache import FeatureCache
from hseval.utils.parallel import run_chunks

if TYPE_CHECKING:
    from numpy.typing import NDArray

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


def extract_features(
    cubes: CubeSet,
    plan: ExtractionPlan,
    *,
    cache: FeatureCache,
    workers: int | None = 0,
    batch_size: int = 1,
    comm: Communicator | None = None,
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
        comm: the ranks to share the set with.
        verify: hash every cube again instead of trusting file stamps.
        progress: called with (cubes done, total cubes) of this rank.

    Raises:
        HsevalError: a cube can't be read, or no cube has a valid pixel.
    """
    comm = comm or Communicator()
    done: list[ExtractedCube] = []
    error = None
    computed = 0
    try:
        indices = list(comm.shard_indices(len(cubes)))
        worker = ExtractionWorker(cubes, plan, cache, batch_size)
        done = worker.load_cached(indices, verify=verify)
        finished = {cube.index for cube in done}
        pending = [index for index in indices if index not in finished]
        computed = len(pending)
        step = _compute_chunk_size(cubes, batch_size)
        chunks = [pending[i : i + step] for i in range(0, computed, step)]
        for processed in run_chunks(worker, chunks, workers):
            worker.store_cubes(processed)
            done.extend(processed)
            if progress is not None:
                progress(len(done), len(indices))
    except Exception as failure:
        if comm.size == 1:
            raise
        error = format_error(failure)
    comm.raise_first_error(error)
    return _assemble_set(cubes, plan, _gather_cubes(done, comm), computed)


def _compute_chunk_size(cubes: CubeSet, batch_size: int) -> int:
    """Return how many cubes are read, looked up and stored together: few enough to keep memory flat."""
    bands, height, width = cubes.shape(0)
    return max(batch_size, min(MAX_CHUNK_CUBES, MAX_CHUNK_BYTES // (4 * bands * height * width)), 1)


def _gather_cubes(processed: Sequence[ExtractedCube], comm: Communicator) -> list[ExtractedCube]:
    """Return every rank's cubes."""
    if comm.size == 1:
        return list(processed)
    cubes: list[ExtractedCube] = []
    for arrays in comm.gather(_pack_arrays(processed)):
        cubes.extend(_unpack_arrays(arrays))
    return cubes


def _pack_arrays(processed: Sequence[ExtractedCube]) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {
        "index": np.array([cube.index for cube in processed], dtype=np.int64),
        "content": np.frombuffer("".join(c.content_hash for c in processed).encode(), dtype=np.uint8),
        "masks": np.frombuffer("".join(c.masks_hash for c in processed).encode(), dtype=np.uint8),
        "own_field": np.frombuffer("".join(c.own_field_hash for c in processed).encode(), dtype=np.uint8),
        "valid": np.array([cube.columns is not None for cube in processed], dtype=np.uint8),
    }
    valid = [cube.columns for cube in processed if cube.columns is not None]
    for extractor in valid[0] if valid else ():
        for field in valid[0][extractor]:
            arrays[f"column:{extractor}:{field}"] = np.stack([columns[extractor][field] for columns in valid])
    return arrays


def _unpack_arrays(arrays: Mapping[str, NDArray[Any]]) -> Iterator[ExtractedCube]:
    texts = [bytes(arrays[name]).decode() for name in ("content", "masks", "own_field")]
    names = [name.split(":", 2)[1:] for name in arrays if name.startswith("column:")]
    row = 0
    for i, index in enumerate(arrays["index"]):
        columns: dict[str, dict[str, NDArray[Any]]] | None = None
        if arrays["valid"][i]:
            columns = {}
            for extractor, field in names:
                columns.setdefault(extractor, {})[field] = arrays[f"column:{extractor}:{field}"][row]
            row += 1
        content, masks, field = (text[64 * i : 64 * i + 64] for text in texts)
        yield ExtractedCube(int(index), content, masks, field, columns)


def _assemble_set(
    cubes: CubeSet, plan: ExtractionPlan, processed: Sequence[ExtractedCube], computed_count: int
) -> ExtractedSet:
    ids = cubes.ids
    valid = [cube for cube in processed if cube.columns is not None]
    invalid = tuple(sorted(ids[cube.index] for cube in processed if cube.columns is None))
    if not valid:
        raise HsevalError(
            f"{cubes.info.location}: none of its {len(cubes)} cubes has a valid pixel "
            "(finite in every band, and inside 'fov' where there is one)"
        )
    valid.sort(key=lambda cube: (_get_visible_hash(cube), cube.masks_hash, ids[cube.index]))
    index = np.array([cube.index for cube in valid], dtype=np.int64)
    groups = [group or UNGROUPED_PREFIX + ids[i] for i, group in enumerate(cubes.groups or [None] * len(ids))]
    features = FeatureTable(
        columns=_stack_columns(valid),
        ids=np.array([ids[i] for i in index]),
        hashes=np.array([_get_visible_hash(cube) for cube in valid]),
        groups=np.array([groups[i] for i in index]),
        wavelengths=plan.wavelengths,
        wavelengths_known=cubes.info.wavelengths_known,
        structures=plan.structures,
    )
    contents, masks = (tuple(getattr(cube, name) for cube in valid) for name in ("content_hash", "masks_hash"))
    return ExtractedSet(features, index, contents, masks, invalid, computed_count)


def _get_visible_hash(cube: ExtractedCube) -> str:
    """Return the hash of the pixels inside a cube's field, which black padding does not change."""
    assert cube.columns is not None
    return bytes(cube.columns[CORE]["content"]).hex()


def _stack_columns(valid_cubes: Sequence[ExtractedCube]) -> dict[str, NDArray[Any]]:
    columns = [cube.columns for cube in valid_cubes if cube.columns is not None]
    return {
        f"{extractor}/{field}" if field else extractor: np.stack(
            [cube_columns[extractor][field] for cube_columns in columns]
        )
        for extractor, fields in columns[0].items()
        for field in fields
    }
