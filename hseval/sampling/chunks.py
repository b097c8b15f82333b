"""Cubes of a set that is being sampled, stored as chunks in a folder next to it until the set is complete.

The folder ``.samples.h5.parts/`` holds the chunks in hseval's format, ``000000.h5`` and on, and ``parts.json``
(:mod:`hseval.sampling.manifest`). Each file is written atomically, and a chunk counts once the manifest lists it, so
that the process can be killed at any moment.

Chunks, and not one growing file: HDF5 holds its indices in memory, and a file whose writer was killed may be lost
entirely. The price is that a set of several chunks is written twice, and needs space for both when it is joined.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hseval.core.protocols import Sample
from hseval.data.writer import SetWriter
from hseval.sampling.manifest import (
    MANIFEST_NAME,
    Chunk,
    Manifest,
    check_same_inputs,
    read_manifest,
    to_plain_json,
    write_manifest,
)
from hseval.utils.errors import HsevalError
from hseval.utils.file_lock import hold_lock
from hseval.utils.hashing import compute_sha256
from hseval.utils.signals import defer_signals

CubeLayout = tuple[tuple[int, ...], tuple[str, ...]]  # shape of a cube, names of its masks


def read_ids(path: Path) -> tuple[list[str], CubeLayout]:
    """Return the ids of a chunk's cubes, and their layout."""
    import h5py

    with h5py.File(path) as file:
        datasets: list[str] = []  # names may contain slashes, which make groups
        file.visititems(lambda name, item: datasets.append(name) if isinstance(item, h5py.Dataset) else None)
        structures = sorted(name.removeprefix("masks/") for name in datasets if name.startswith("masks/"))
        return list(file["ids"].asstr()[()]), (file["cubes"].shape[1:], tuple(structures))


def read_samples(path: Path) -> Iterator[Sample]:
    """Yield cubes and masks (uint8, not converted to bool: the set gets what the generator returned).

    Raises:
        HsevalError: the file can't be read.
    """
    import h5py

    try:
        names, (_, structures) = read_ids(path)
        with h5py.File(path) as file:
            for index, name in enumerate(names):
                masks = {structure: file[f"masks/{structure}"][index] for structure in structures}
                yield Sample(file["cubes"][index], masks, name)
    except (OSError, KeyError) as error:
        raise HsevalError(f"{path}: can't be read ({error}); the same command samples it again") from error


# The work that a kill may cost; in seconds, because a cube takes from a millisecond to a minute. A sampling that takes
# less time makes one chunk, which becomes the set without being written again.
CHUNK_SECONDS = 30.0
LOCK_NAME = "lock"

ProgressCallback = Callable[[int], None]


class ChunkStore:
    """The cubes of a set sampled so far. Made by :func:`open_chunks`, for one process at a time.

    Args:
        out: the file that the set will become.
        inputs: all that determines the cubes, as values that JSON can store.
        metadata: wavelengths, units and provenance, as :class:`SetWriter` takes them.
    """

    def __init__(self, out: Path, inputs: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        self.out, self.folder, self.metadata = out.resolve(), get_chunk_folder(out), metadata
        self.manifest = Manifest(to_plain_json(inputs))
        self.is_complete = False
        self._ids: set[str] = set()
        self._layout: CubeLayout | None = None  # of every cube; None before the first

    @property
    def count(self) -> int:
        """Number of cubes stored."""
        return sum(chunk.n_cubes for chunk in self.manifest.chunks)

    def resume(self, *, force: bool) -> str | None:
        """Adopt the chunks of an earlier process; return a one-line note on chunks that had to be discarded, or None.

        ``force`` discards chunks of other inputs. Chunks of the same inputs are retained even then: sampling them again
        would give the same cubes, and a command with ``--force``, too, resumes where it was interrupted.

        Raises:
            HsevalError: chunks of other inputs, or an unreadable manifest, without ``force``.
        """
        try:
            stored = read_manifest(self.folder)
            if stored is not None:
                check_same_inputs(self.folder, stored, self.manifest.inputs)
        except HsevalError:
            if not force:
                raise
            stored = None
        note = None if stored is None else self._adopt_chunks(stored)
        write_manifest(self.folder, self.manifest)
        self._remove_orphans()
        return note

    def write_samples(self, samples: Iterator[Sample], on_progress: ProgressCallback) -> None:
        """Write samples to chunks. Whatever ends the sampling, the cubes sampled before it are stored.

        Args:
            samples: the cubes that follow the stored ones.
            on_progress: called with the number of cubes so far.

        Raises:
            HsevalError: a sample that does not match the first one, a duplicate id, or a full disk (which loses the
                chunk being written).
            BaseException: whatever the iterator raises.
        """
        start_time, stored = time.monotonic(), 0

        def is_full(n_cubes: int) -> bool:
            # By the mean rate: cubes that are sampled in batches come in bursts, and by the clock alone all but the
            # first of a batch would stay unwritten while the next batch is sampled.
            return n_cubes * (time.monotonic() - start_time) >= CHUNK_SECONDS * (stored + n_cubes)

        for first in samples:  # no chunk is started before there is a cube for it
            sample = self._validate_sample(first)
            with contextlib.ExitStack() as closing:
                with SetWriter(self._get_chunk_path(len(self.manifest.chunks)), **self.metadata) as writer:
                    interruption = self._fill_chunk(writer, sample, samples, on_progress, is_full)
                    closing.enter_context(defer_signals())
                self._append_chunk(Chunk(len(writer.ids), compute_sha256(writer.path)))
            stored += len(writer.ids)
            if interruption is not None:
                raise interruption

    def join(self, count: int, on_progress: ProgressCallback) -> None:
        """Write the first ``count`` cubes to the set's own file, atomically; the chunks are not needed afterwards.

        Raises:
            HsevalError: a chunk can't be read, or the disk is full; the chunks are preserved.
        """
        if [chunk.n_cubes for chunk in self.manifest.chunks] == [count]:
            self._get_chunk_path(0).replace(self.out)
            self.is_complete = True
            return
        stored = itertools.chain.from_iterable(map(read_samples, self._list_chunk_paths()))
        with SetWriter(self.out, **self.metadata) as writer:
            for sample in itertools.islice(stored, count):
                writer.add(*sample)
                on_progress(len(writer.ids))
        self.is_complete = True

    def remove(self) -> None:
        """Remove the folder; its manifest first, without which no chunk counts."""
        self.manifest = Manifest(self.manifest.inputs)
        write_manifest(self.folder, self.manifest)
        self._remove_orphans()
        with contextlib.suppress(OSError):  # another process may already use the folder
            (self.folder / LOCK_NAME).unlink()
            self.folder.rmdir()

    def _adopt_chunks(self, stored: Manifest) -> str | None:
        """Adopt the chunks before the first damaged one; return a note that names it, or None."""
        self.manifest = dataclasses.replace(stored, chunks=())
        for number, chunk in enumerate(stored.chunks):
            path = self._get_chunk_path(number)
            ids, layout = read_ids(path) if _is_intact(path, chunk) else ([], None)
            if not ids or len(ids) != chunk.n_cubes:
                return f"{path}: damaged or missing; sampling again from there"
            self._layout = layout
            self.manifest = dataclasses.replace(stored, chunks=stored.chunks[: number + 1])
            self._ids.update(ids)
        return None

    def _append_chunk(self, chunk: Chunk) -> None:
        """Add a chunk to the manifest; it counts from here on."""
        manifest = dataclasses.replace(self.manifest, chunks=(*self.manifest.chunks, chunk))
        write_manifest(self.folder, manifest)
        self.manifest = manifest

    def _fill_chunk(
        self,
        writer: SetWriter,
        sample: Sample,
        samples: Iterator[Sample],
        on_progress: ProgressCallback,
        is_full: Callable[[int], bool],
    ) -> BaseException | None:
        """Add samples until the chunk is full; return any interruption, so that the chunk is closed first."""
        while True:
            writer.add(*sample)
            try:
                on_progress(self.count + len(writer.ids))
                if is_full(len(writer.ids)):
                    return None
                sample = self._validate_sample(next(samples))
            except StopIteration:
                return None
            except BaseException as error:  # noqa: BLE001 - raised again once the chunk is stored
                return error

    def _validate_sample(self, sample: Sample) -> Sample:
        """Raise at once what would be refused when the chunks are joined; number a sample without an id."""
        sample = sample._replace(id=f"{len(self._ids):06d}" if sample.id is None else str(sample.id))
        layout = (tuple(sample.cube.shape), tuple(sorted(sample.masks)))
        self._layout = self._layout or layout
        name = f"{self.out}: cube {sample.id!r}"
        if layout != self._layout:
            raise HsevalError(f"{name}: shape and masks {layout}, but the first cube has {self._layout}")
        if sample.id in self._ids:
            raise HsevalError(f"{name}: duplicate id; every cube needs an id of its own")
        self._ids.add(sample.id)
        return sample

    def _remove_orphans(self) -> None:
        """Remove half-written files of a killed process, and chunks that the manifest does not list."""
        listed = self._list_chunk_paths()
        for path in [*self.folder.glob("*.h5"), *self.folder.glob(".*.part")]:
            if path not in listed:
                path.unlink(missing_ok=True)

    def _list_chunk_paths(self) -> list[Path]:
        return [self._get_chunk_path(number) for number in range(len(self.manifest.chunks))]

    def _get_chunk_path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.h5"


@contextlib.contextmanager
def open_chunks(out: Path, inputs: Mapping[str, Any], metadata: Mapping[str, Any]) -> Iterator[ChunkStore]:
    """Open the chunks of a set for this process alone; they are removed once the set is complete.

    Raises:
        HsevalError: another process has them open.
    """
    message = f"{out}: another process is sampling to it; wait until it has ended, or use another --out"
    with hold_lock(get_chunk_folder(out) / LOCK_NAME, message=message):
        store = ChunkStore(out, inputs, metadata)
        try:
            yield store
        finally:
            # Once and last: after it, another process may have started in a folder of the same name.
            if store.is_complete or not (store.folder / MANIFEST_NAME).exists():
                store.remove()


def get_chunk_folder(out: Path) -> Path:
    """Return the folder of a set's chunks: next to the file itself, where ``out`` is a link to it."""
    out = out.resolve()
    return out.with_name(f".{out.name}.parts")


def _is_intact(path: Path, chunk: Chunk) -> bool:
    try:
        return compute_sha256(path) == chunk.sha256
    except OSError:
        return False
