"""What the folder of a training guarantees: one training at a time, and the same cubes whenever it is resumed.

The training set is recorded as one content hash per cube, in the order in which the first training read them. A
resumed training reads them in that order, so that neither names of folders nor the order in a file change its draws.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

from hseval.core.cubes import CubeSet
from hseval.data.content_hash import compute_cube_hashes, compute_file_stamp
from hseval.utils.atomic_files import write_text
from hseval.utils.distributed import Ranks, run_on_all_ranks, run_on_main_rank
from hseval.utils.errors import HsevalError
from hseval.utils.feature_cache import FeatureCache, get_cache_path
from hseval.utils.file_lock import hold_lock
from hseval.utils.plural import format_count
from hseval.utils.progress import ProgressReporter
from hseval.utils.structured_files import convert_record, read_json

LOCK_FILE = ".training.lock"
FORMAT, VERSION = "hseval-training-set", 1
HASH_LENGTH = 32  # hex digits of a sha256
CHUNK_CUBES = 500  # whose hashes are looked up and stored together


@dataclasses.dataclass(frozen=True)
class _TrainingSetRecord:
    """The content of the file; ``cubes`` maps ids to hashes, in order of training."""

    cubes: dict[str, str]


@contextlib.contextmanager
def hold_run_folder(folder: Path, ranks: Ranks | None = None) -> Iterator[None]:
    """Keep other trainings out of a run's folder; of several ranks, the main one holds the lock.

    Raises:
        HsevalError: another process trains into the folder.
    """
    ranks, path = ranks or Ranks(), folder / LOCK_FILE
    message = f"{folder}: another process is training into it; wait for it to end, or choose another folder"
    with contextlib.ExitStack() as stack:
        run_on_main_rank(ranks, lambda: stack.enter_context(hold_lock(path, message=message)))
        if ranks.is_main:
            stack.callback(path.unlink, missing_ok=True)  # while the lock is held
        yield


def get_training_set_path(folder: Path, name: str) -> Path:
    """Return the file that records the training set of the trainer ``name``."""
    return folder / f"training-set-{name}.json"


def sort_as_recorded(folder: Path, name: str, data: CubeSet) -> CubeSet:
    """Return the set in the order in which the trainer's first training in the folder read it.

    Unchanged where nothing is recorded, or other ids are; :func:`check_training_set` refuses those.

    Raises:
        HsevalError: the record is damaged.
    """
    path = get_training_set_path(folder, name)
    recorded = _read_hashes(path) if path.exists() else {}
    positions = {cube_id: index for index, cube_id in enumerate(data.ids)}
    if positions.keys() != recorded.keys() or list(positions) == list(recorded):
        return data
    return data.subset([positions[cube_id] for cube_id in recorded])


def check_training_set(folder: Path, name: str, data: CubeSet, ranks: Ranks | None = None, *, resume: bool) -> None:
    """Record the cubes of a new training, or compare those of a resumed one; all ranks call it and share the reading.

    A training of before this record was written is resumed with a note, and its set recorded.

    Raises:
        HsevalError: pixels, masks, groups or ids differ from those that the training started with; a cube can't be
            read; or the record is damaged or can't be written.
    """
    ranks, path = ranks or Ranks(), get_training_set_path(folder, name)
    recorded = run_on_all_ranks(ranks, lambda: _read_hashes(path) if resume and path.exists() else None)
    hashes = _hash_cubes(data, ranks)
    if recorded is not None:
        _compare(folder, data.info.location, recorded, hashes)
        return
    if resume and ranks.is_main:
        message = (
            "%s: holds no hashes of its training set, so it is not known whether %s changed; they are recorded now"
        )
        logging.getLogger("hseval.training").warning(message, folder, data.info.location)
    record = {"format": FORMAT, "version": VERSION, "cubes": hashes}
    run_on_main_rank(ranks, lambda: write_text(path, json.dumps(record) + "\n"))


def _compare(folder: Path, location: str, recorded: Mapping[str, str], hashes: Mapping[str, str]) -> None:
    missing, added = (sorted(ids) for ids in (recorded.keys() - hashes.keys(), hashes.keys() - recorded.keys()))
    changed = sorted(cube_id for cube_id in recorded.keys() & hashes.keys() if recorded[cube_id] != hashes[cube_id])
    verbs = {"changed": changed, "gone": missing, "new": added}
    parts = [f"{_format_first(ids)} {verb}" for verb, ids in verbs.items() if ids]
    if parts:
        reason = f"was trained on other pixels, masks or groups than those in {location} ({', '.join(parts)})"
        raise HsevalError(f"{folder}: {reason}; resume with the same set, or train into another folder")


def _read_hashes(path: Path) -> dict[str, str]:
    hint = "remove it to resume without comparing the set"
    record = read_json(path, "a record of a training set", format=FORMAT, version=VERSION, hint=hint)
    return convert_record(record, _TrainingSetRecord, path).cubes


def _format_first(ids: list[str]) -> str:
    return f"{format_count(len(ids), 'cube')} from {ids[0]!r} on" if len(ids) > 1 else f"cube {ids[0]!r}"


def _hash_cubes(data: CubeSet, ranks: Ranks) -> dict[str, str]:
    """Return id -> hash of pixels, masks and group; files whose hashes are known are not read."""
    import numpy as np

    local = run_on_all_ranks(ranks, lambda: _hash_local_cubes(data, ranks))
    shards = ranks.gather_arrays({"hashes": np.frombuffer("".join(local).encode(), dtype=np.uint8)})
    hashes = [""] * len(data)
    for rank, shard in enumerate(shards):
        text = bytes(shard["hashes"]).decode()
        hashes[rank :: ranks.size] = [text[i : i + HASH_LENGTH] for i in range(0, len(text), HASH_LENGTH)]
    return dict(zip(data.ids, hashes, strict=True))


def _hash_local_cubes(data: CubeSet, ranks: Ranks) -> list[str]:
    """Return the hashes of this rank's cubes, in their order."""
    indices, hashes = ranks.shard_indices(len(data)), []
    with FeatureCache(get_cache_path()) as cache, ProgressReporter(enabled=ranks.is_main) as progress:
        for start in range(0, len(indices), CHUNK_CUBES):
            chunk = indices[start : start + CHUNK_CUBES]
            stamps = {index: compute_file_stamp(data, index) for index in chunk}
            known = cache.load_hashes([stamp for stamp in stamps.values() if stamp])
            computed = {}
            for index, stamp in stamps.items():
                cube_hashes = known.get(stamp or "")
                if cube_hashes is None:
                    cube_hashes = compute_cube_hashes(data[index])
                    if stamp and compute_file_stamp(data, index) == stamp:  # the file did not change meanwhile
                        computed[stamp] = cube_hashes
                group = data.groups[index] if data.groups is not None else None
                content = json.dumps([*cube_hashes[:2], group or ""])
                hashes.append(hashlib.sha256(content.encode()).hexdigest()[:HASH_LENGTH])
                progress.update("hashing cubes", len(hashes), len(indices))
            cache.store_hashes(computed)
    return hashes
