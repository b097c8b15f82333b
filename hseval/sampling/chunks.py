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
from hseval.sampling.manifest import RECORD, Part, PartList, as_json, check_same, read_list, write_list
from hseval.utils.errors import HsevalError
from hseval.utils.file_lock import held
from hseval.utils.hashing import sha256_of
from hseval.utils.signals import put_off


def ids_in(path: Path) -> list[str]:
    """Return the ids of a part's cubes."""
    import h5py

    with h5py.File(path) as file:
        return [str(name) for name in file["ids"].asstr()[()]]


def samples_in(path: Path, structures: Sequence[str]) -> Iterator[Sample]:
    """Yield cubes and masks (uint8, not read as bool: the set gets what the generator gave).

    Raises:
        HsevalError: it can't be read.
    """
    import h5py

    try:
        names = ids_in(path)
        with h5py.File(path) as file:
            for index, name in enumerate(names):
                masks = {structure: file[f"masks/{structure}"][index] for structure in structures}
                yield Sample(file["cubes"][index], masks, name)
    except (OSError, KeyError) as error:
        raise HsevalError(f"{path}: can't be read ({error}); the same command draws it again") from error


# The work that a kill may cost. In seconds and not in cubes, which take a millisecond here and a minute there; and what
# is drawn in less time makes one part, which becomes the set without being written again.
PART_SECONDS = 30.0
LOCK = "lock"

Told = Callable[[int], None]


class Parts:
    """What is drawn of a set so far. Made by :func:`parts_of`, for one process at a time.

    Args:
        out: the file that the set is to become.
        of: what decides the cubes, as JSON can hold it.
        about: wavelengths, units and provenance, as :class:`SetWriter` takes them.
    """

    def __init__(self, out: Path, of: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        self.out, self.folder, self.about = out.resolve(), folder_of(out), about
        self.listed = PartList(as_json(of))
        self.is_whole = False
        self._ids: set[str] = set()

    @property
    def count(self) -> int:
        """How many cubes are kept."""
        return sum(part.cubes for part in self.listed.parts)

    def take_up(self, *, force: bool) -> str | None:
        """Take over what an earlier process left; return in one line what had to be given up of it.

        ``force`` gives up parts of anything else. Parts that fit are kept all the same: nothing else would be drawn
        again, and a command with ``--force`` in it, too, has to go on where it was cut off.

        Raises:
            HsevalError: parts of something else, or an unreadable list, without ``force``.
        """
        try:
            found = read_list(self.folder)
            if found is not None:
                check_same(self.folder, found, self.listed.of)
        except HsevalError:
            if not force:
                raise
            found = None
        given_up = None if found is None else self._take(found)
        write_list(self.folder, self.listed)
        self._sweep()
        return given_up

    def keep(self, samples: Iterator[Sample], told: Told) -> None:
        """Write samples to parts. Whatever ends the drawing, what was drawn before is kept.

        Args:
            samples: the cubes that come after those kept.
            told: called with the number of cubes that are there.

        Raises:
            HsevalError: a sample that does not fit those before it, an id that comes twice, or a full disk (which
                costs the part that met it).
            BaseException: whatever the iterator raises.
        """
        began, drawn = time.monotonic(), 0

        def enough(cubes: int) -> bool:
            # By the mean rate: cubes that are drawn in batches come in bursts, and by the clock alone all but the
            # first of a batch would wait, unkept, while the next batch is drawn.
            return cubes * (time.monotonic() - began) >= PART_SECONDS * (drawn + cubes)

        for first in samples:  # no part is begun before there is something to put in
            sample = self._checked(first)
            with contextlib.ExitStack() as closing:
                with SetWriter(self._path(len(self.listed.parts)), **self.about) as writer:
                    stopped = self._fill(writer, sample, samples, told, enough)
                    closing.enter_context(put_off())
                self._add(Part(len(writer.ids), sha256_of(writer.path) or ""))
            drawn += len(writer.ids)
            if stopped is not None:
                raise stopped

    def join(self, count: int, told: Told) -> None:
        """Make the set's own file of the first ``count`` cubes, whole or not at all; its parts have served then.

        Raises:
            HsevalError: a part can't be read, or the disk is full; the parts are kept.
        """
        if [part.cubes for part in self.listed.parts] == [count]:
            self._path(0).replace(self.out)
            self.is_whole = True
            return
        structures = (self.listed.like or [[], []])[1]
        stored = itertools.chain.from_iterable(samples_in(path, structures) for path in self._paths())
        with SetWriter(self.out, **self.about) as writer:
            for sample in itertools.islice(stored, count):
                writer.add(*sample)
                told(len(writer.ids))
        self.is_whole = True

    def remove(self) -> None:
        """Remove the folder; its list first, without which nothing else counts."""
        self.listed = PartList(self.listed.of)
        write_list(self.folder, self.listed)
        self._sweep()
        with contextlib.suppress(OSError):  # another process may have come in already
            (self.folder / LOCK).unlink()
            self.folder.rmdir()

    def _take(self, found: PartList) -> str | None:
        """Take over the parts before the first damaged one; say which that is."""
        self.listed = dataclasses.replace(found, parts=())
        for number, part in enumerate(found.parts):
            path = self._path(number)
            if sha256_of(path) != part.sha256:
                return f"{path}: damaged or missing; drawn again from there on"
            self.listed = dataclasses.replace(found, parts=found.parts[: number + 1])
            self._ids.update(ids_in(path))
        return None

    def _add(self, part: Part) -> None:
        """List a part; it counts from here on."""
        listed = dataclasses.replace(self.listed, parts=(*self.listed.parts, part))
        write_list(self.folder, listed)
        self.listed = listed

    def _fill(
        self, writer: SetWriter, sample: Sample, samples: Iterator[Sample], told: Told, enough: Callable[[int], bool]
    ) -> BaseException | None:
        """Add samples until the part is large enough; return what stopped the drawing, for the part to be closed."""
        while True:
            writer.add(*sample)
            try:
                told(self.count + len(writer.ids))
                if enough(len(writer.ids)):
                    return None
                sample = self._checked(next(samples))
            except StopIteration:
                return None
            except BaseException as error:  # noqa: BLE001 - raised again once the part is kept
                return error

    def _checked(self, sample: Sample) -> Sample:
        """Refuse at once what would be refused when the parts are joined; number what has no id."""
        sample = sample._replace(id=f"{len(self._ids):06d}" if sample.id is None else str(sample.id))
        like = [list(sample.cube.shape), sorted(sample.masks)]
        if self.listed.like is None:
            self.listed = dataclasses.replace(self.listed, like=like)
        where = f"{self.out}: cube {sample.id!r}"
        if like != self.listed.like:
            raise HsevalError(f"{where}: shape and masks {like}, but the first cube has {self.listed.like}")
        if sample.id in self._ids:
            raise HsevalError(f"{where}: its id was given before; one id a cube expected")
        self._ids.add(sample.id)
        return sample

    def _sweep(self) -> None:
        """Remove what counts for nothing: half-written files of a killed process, parts that are not listed."""
        listed = self._paths()
        for path in [*self.folder.glob("*.h5"), *self.folder.glob(".*.part")]:
            if path not in listed:
                path.unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        return [self._path(number) for number in range(len(self.listed.parts))]

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.h5"


@contextlib.contextmanager
def parts_of(out: Path, of: Mapping[str, Any], about: Mapping[str, Any]) -> Iterator[Parts]:
    """Open the parts of a set for this process alone; none are left behind once the set is whole.

    Raises:
        HsevalError: another process has them open.
    """
    told = f"{out}: another process is sampling to it; wait until it has ended, or name another --out"
    with held(folder_of(out) / LOCK, told=told):
        parts = Parts(out, of, about)
        try:
            yield parts
        finally:
            # Once and last: after it, another process may have begun in a folder of the same name.
            if parts.is_whole or not (parts.folder / RECORD).exists():
                parts.remove()


def folder_of(out: Path) -> Path:
    """Return the folder of a set's parts: beside the file itself, where ``out`` is a link to it."""
    out = out.resolve()
    return out.with_name(f".{out.name}.parts")
