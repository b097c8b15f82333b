"""Describe: one streaming pass over a set computes every row that the chosen metrics need.

Rows come from the cache where their key is known. What is missing is computed cube by cube with one thread, in
this process or in several: so neither batch, worker count nor the cache's state changes a digit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.cubes import CubeSet
from hseval.core.feature_table import ALONE, Rows
from hseval.pipeline.worker import CORE, Described, Describer, Plan
from hseval.utils.distributed import Comm
from hseval.utils.errors import HsevalError, first_line
from hseval.utils.feature_cache import Cache
from hseval.utils.parallel import run

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK = 8
CHUNK_BYTES = 64 * 2**20


@dataclasses.dataclass(frozen=True)
class Description:
    """A described set.

    Attributes:
        rows: sorted by content.
        index: ``(n,)`` place of each row's cube in the set.
        contents: the sha256 of each row's pixels, the whole frame of them.
        masks: the sha256 of each row's masks.
        invalid: ids of the cubes without a valid pixel.
        computed: number of cubes that had to be read; the others came from the cache.
    """

    rows: Rows
    index: NDArray[np.int64]
    contents: tuple[str, ...]
    masks: tuple[str, ...]
    invalid: tuple[str, ...]
    computed: int


def describe(
    cubes: CubeSet,
    plan: Plan,
    *,
    cache: Cache,
    workers: int | None = 0,
    batch_size: int = 1,
    comm: Comm | None = None,
    verify: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Description:
    """Describe a set.

    Args:
        cubes: the set.
        plan: which rows.
        cache: where rows are looked up and kept.
        workers: worker processes; 0: this process; None: as many as there are cores, once it pays.
        batch_size: cubes an extractor gets at a time.
        comm: the ranks to share the set with.
        verify: hash every cube anew instead of trusting file stamps.
        progress: called with (cubes done, cubes in all) of this rank.

    Raises:
        HsevalError: a cube can't be read, or no cube has a valid pixel.
    """
    comm = comm or Comm()
    done: list[Described] = []
    error = None
    computed = 0
    try:
        indices = list(comm.share(len(cubes)))
        describer = Describer(cubes, plan, cache, batch_size)
        done = describer.known(indices, verify=verify)
        finished = {cube.index for cube in done}
        pending = [index for index in indices if index not in finished]
        computed = len(pending)
        step = _chunk_size(cubes, batch_size)
        chunks = [pending[i : i + step] for i in range(0, computed, step)]
        for part in run(describer, chunks, workers):
            describer.store(part)
            done.extend(part)
            if progress is not None:
                progress(len(done), len(indices))
    except Exception as failure:
        if comm.size == 1:
            raise
        error = first_line(failure)
    comm.agree(error)
    return _assembled(cubes, plan, _gathered(done, comm), computed)


def _chunk_size(cubes: CubeSet, batch_size: int) -> int:
    """Return how many cubes are read, looked up and stored together: few enough to keep memory flat."""
    bands, height, width = cubes.shape(0)
    return max(batch_size, min(CHUNK, CHUNK_BYTES // (4 * bands * height * width)), 1)


def _gathered(done: Sequence[Described], comm: Comm) -> list[Described]:
    """Return every rank's cubes."""
    if comm.size == 1:
        return list(done)
    everything: list[Described] = []
    for part in comm.gather(_packed(done)):
        everything.extend(_unpacked(part))
    return everything


def _packed(done: Sequence[Described]) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {
        "index": np.array([cube.index for cube in done], dtype=np.int64),
        "content": np.frombuffer("".join(c.content for c in done).encode(), dtype=np.uint8),
        "masks": np.frombuffer("".join(c.masks for c in done).encode(), dtype=np.uint8),
        "own_field": np.frombuffer("".join(c.own_field for c in done).encode(), dtype=np.uint8),
        "valid": np.array([cube.columns is not None for cube in done], dtype=np.uint8),
    }
    valid = [cube.columns for cube in done if cube.columns is not None]
    for extractor in valid[0] if valid else ():
        for field in valid[0][extractor]:
            arrays[f"column:{extractor}:{field}"] = np.stack([columns[extractor][field] for columns in valid])
    return arrays


def _unpacked(arrays: Mapping[str, NDArray[Any]]) -> Iterator[Described]:
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
        yield Described(int(index), content, masks, field, columns)


def _assembled(cubes: CubeSet, plan: Plan, done: Sequence[Described], computed: int) -> Description:
    ids = cubes.ids
    valid = [cube for cube in done if cube.columns is not None]
    invalid = tuple(sorted(ids[cube.index] for cube in done if cube.columns is None))
    if not valid:
        raise HsevalError(
            f"{cubes.info.location}: none of its {len(cubes)} cubes has a valid pixel "
            "(finite in every band, and inside 'fov' where there is one)"
        )
    valid.sort(key=lambda cube: (_seen(cube), cube.masks, ids[cube.index]))
    index = np.array([cube.index for cube in valid], dtype=np.int64)
    groups = [group or ALONE + ids[i] for i, group in enumerate(cubes.groups or [None] * len(ids))]
    rows = Rows(
        columns=_columns(valid),
        ids=np.array([ids[i] for i in index]),
        hashes=np.array([_seen(cube) for cube in valid]),
        groups=np.array([groups[i] for i in index]),
        wavelengths=plan.wavelengths,
        wavelengths_known=cubes.info.wavelengths_known,
        structures=plan.structures,
    )
    contents, masks = (tuple(getattr(cube, what) for cube in valid) for what in ("content", "masks"))
    return Description(rows, index, contents, masks, invalid, computed)


def _seen(cube: Described) -> str:
    """Return the hash of what is inside a cube's field: black padding does not make it another cube."""
    assert cube.columns is not None
    return bytes(cube.columns[CORE]["content"]).hex()


def _columns(valid: Sequence[Described]) -> dict[str, NDArray[Any]]:
    columns = [cube.columns for cube in valid if cube.columns is not None]
    return {
        f"{extractor}/{field}" if field else extractor: np.stack([each[extractor][field] for each in columns])
        for extractor, fields in columns[0].items()
        for field in fields
    }
