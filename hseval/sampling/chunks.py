"""Cubes of a set that is being drawn, kept in a folder beside it until the set is whole.

The folder ``.samples.h5.parts/`` holds parts in the house format, ``000000.h5`` and on, and ``parts.json``
(:mod:`hseval.sampling.manifest`). Each file is written whole or not at all, and a part counts once the list has it, so
that the process can be killed anywhere.

Parts, and not one growing file: HDF5 holds its indices in memory, and a file whose writer was killed may be lost as a
whole. The price is that a set of several parts is written twice, and needs room for both at its end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hseval.core.hookspecs import Sample
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


def read_ids(path: Path) -> list[str]:
    """Return the ids of a part's cubes."""
    import h5py

    with h5py.File(path) as file:
        return [str(name) for name in file["ids"].asstr()[()]]


def read_samples(path: Path, structures: Sequence[str]) -> Iterator[Sample]:
    """Yield cubes and masks (uint8, not read as bool: the set gets what the generator gave).

    Raises:
        HsevalError: it can't be read.
    """
    import h5py

    try:
        names = read_ids(path)
        with h5py.File(path) as file:
            for index, name in enumerate(names):
                masks = {structure: file[f"masks/{structure}"][index] for structure in structures}
                yield Sample(file["cubes"][index], masks, name)
    except (OSError, KeyError) as error:
        raise HsevalError(f"{path}: can't be read ({error}); the same command draws it again") from error


# The work that a kill may cost. In seconds and not in cubes, which take a millisecond here and a minute there; and what
# is drawn in less time makes one part, which becomes the set without being written again.
CHUNK_SECONDS = 30.0
LOCK_NAME = "lock"

ProgressCallback = Callable[[int], None]


class ChunkStore:
    """What is drawn of a set so far. Made by :func:`open_chunks`, for one process at a time.

    Args:
        out: the file that the set is to become.
        of: what decides the cubes, as JSON can hold it.
        metadata: wavelengths, units and provenance, as :class:`SetWriter` takes them.
    """

    def __init__(self, out: Path, inputs: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        self.out, self.folder, self.metadata = out.resolve(), get_chunk_folder(out), metadata
        self.manifest = Manifest(to_plain_json(inputs))
        self.is_complete = False
        self._ids: set[str] = set()

    @property
    def count(self) -> int:
        """How many cubes are kept."""
        return sum(part.cubes for part in self.manifest.parts)

    def resume(self, *, force: bool) -> str | None:
        """Take over what an earlier process left; return in one line what had to be given up of it.

        ``force`` gives up parts of anything else. Parts that fit are kept all the same: nothing else would be drawn
        again, and a command with ``--force`` in it, too, has to go on where it was cut off.

        Raises:
            HsevalError: parts of something else, or an unreadable list, without ``force``.
        """
        try:
            found = read_manifest(self.folder)
            if found is not None:
                check_same_inputs(self.folder, found, self.manifest.of)
        except HsevalError:
            if not force:
                raise
            found = None
        given_up = None if found is None else self._adopt_chunks(found)
        write_manifest(self.folder, self.manifest)
        self._remove_orphans()
        return given_up

    def write_samples(self, samples: Iterator[Sample], on_progress: ProgressCallback) -> None:
        """Write samples to parts. Whatever ends the drawing, what was drawn before is kept.

        Args:
            samples: the cubes that come after those kept.
            on_progress: called with the number of cubes that are there.

        Raises:
            HsevalError: a sample that does not fit those before it, an id that comes twice, or a full disk (which
                costs the part that met it).
            BaseException: whatever the iterator raises.
        """
        began, drawn = time.monotonic(), 0

        def enough(cubes: int) -> bool:
            # By the mean rate: cubes that are drawn in batches come in bursts, and by the clock alone all but the
            # first of a batch would wait, unkept, while the next batch is drawn.
            return cubes * (time.monotonic() - began) >= CHUNK_SECONDS * (drawn + cubes)

        for first in samples:  # no part is begun before there is something to put in
            sample = self._validate_sample(first)
            with contextlib.ExitStack() as closing:
                with SetWriter(self._get_chunk_path(len(self.manifest.parts)), **self.metadata) as writer:
                    stopped = self._fill_chunk(writer, sample, samples, on_progress, enough)
                    closing.enter_context(defer_signals())
                self._append_chunk(Chunk(len(writer.ids), compute_sha256(writer.path) or ""))
            drawn += len(writer.ids)
            if stopped is not None:
                raise stopped

    def join(self, count: int, on_progress: ProgressCallback) -> None:
        """Make the set's own file of the first ``count`` cubes, whole or not at all; its parts have served then.

        Raises:
            HsevalError: a part can't be read, or the disk is full; the parts are kept.
        """
        if [part.cubes for part in self.manifest.parts] == [count]:
            self._get_chunk_path(0).replace(self.out)
            self.is_complete = True
            return
        structures = (self.manifest.like or [[], []])[1]
        stored = itertools.chain.from_iterable(read_samples(path, structures) for path in self._list_chunk_paths())
        with SetWriter(self.out, **self.metadata) as writer:
            for sample in itertools.islice(stored, count):
                writer.add(*sample)
                on_progress(len(writer.ids))
        self.is_complete = True

    def remove(self) -> None:
        """Remove the folder; its list first, without which nothing else counts."""
        self.manifest = Manifest(self.manifest.of)
        write_manifest(self.folder, self.manifest)
        self._remove_orphans()
        with contextlib.suppress(OSError):  # another process may have come in already
            (self.folder / LOCK_NAME).unlink()
            self.folder.rmdir()

    def _adopt_chunks(self, stored: Manifest) -> str | None:
        """Take over the parts before the first damaged one; say which that is."""
        self.manifest = dataclasses.replace(stored, parts=())
        for number, part in enumerate(stored.parts):
            path = self._get_chunk_path(number)
            if compute_sha256(path) != part.sha256:
                return f"{path}: damaged or missing; drawn again from there on"
            self.manifest = dataclasses.replace(stored, parts=stored.parts[: number + 1])
            self._ids.update(read_ids(path))
        return None

    def _append_chunk(self, chunk: Chunk) -> None:
        """List a part; it counts from here on."""
        listed = dataclasses.replace(self.manifest, parts=(*self.manifest.parts, chunk))
        write_manifest(self.folder, listed)
        self.manifest = listed

    def _fill_chunk(
        self,
        writer: SetWriter,
        sample: Sample,
        samples: Iterator[Sample],
        on_progress: ProgressCallback,
        is_full: Callable[[int], bool],
    ) -> BaseException | None:
        """Add samples until the part is large enough; return what stopped the drawing, for the part to be closed."""
        while True:
            writer.add(*sample)
            try:
                on_progress(self.count + len(writer.ids))
                if is_full(len(writer.ids)):
                    return None
                sample = self._validate_sample(next(samples))
            except StopIteration:
                return None
            except BaseException as error:  # noqa: BLE001 - raised again once the part is kept
                return error

    def _validate_sample(self, sample: Sample) -> Sample:
        """Refuse at once what would be refused when the parts are joined; number what has no id."""
        sample = sample._replace(id=f"{len(self._ids):06d}" if sample.id is None else str(sample.id))
        like = [list(sample.cube.shape), sorted(sample.masks)]
        if self.manifest.like is None:
            self.manifest = dataclasses.replace(self.manifest, like=like)
        where = f"{self.out}: cube {sample.id!r}"
        if like != self.manifest.like:
            raise HsevalError(f"{where}: shape and masks {like}, but the first cube has {self.manifest.like}")
        if sample.id in self._ids:
            raise HsevalError(f"{where}: its id was given before; one id a cube expected")
        self._ids.add(sample.id)
        return sample

    def _remove_orphans(self) -> None:
        """Remove what counts for nothing: half-written files of a killed process, parts that are not listed."""
        listed = self._list_chunk_paths()
        for path in [*self.folder.glob("*.h5"), *self.folder.glob(".*.part")]:
            if path not in listed:
                path.unlink(missing_ok=True)

    def _list_chunk_paths(self) -> list[Path]:
        return [self._get_chunk_path(number) for number in range(len(self.manifest.parts))]

    def _get_chunk_path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.h5"


@contextlib.contextmanager
def open_chunks(out: Path, inputs: Mapping[str, Any], metadata: Mapping[str, Any]) -> Iterator[ChunkStore]:
    """Open the parts of a set for this process alone; none are left behind once the set is whole.

    Raises:
        HsevalError: another process has them open.
    """
    told = f"{out}: another process is sampling to it; wait until it has ended, or name another --out"
    with hold_lock(get_chunk_folder(out) / LOCK_NAME, message=told):
        parts = ChunkStore(out, inputs, metadata)
        try:
            yield parts
        finally:
            # Once and last: after it, another process may have begun in a folder of the same name.
            if parts.is_complete or not (parts.folder / MANIFEST_NAME).exists():
                parts.remove()


def get_chunk_folder(out: Path) -> Path:
    """Return the folder of a set's parts: beside the file itself, where ``out`` is a link to it."""
    out = out.resolve()
    return out.with_name(f".{out.name}.parts")
