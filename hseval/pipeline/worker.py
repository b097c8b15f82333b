"""One process's part of describing: cubes read, hashed, prepared, and handed to extractors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.cubes import FIELD, Cube, CubeSet
from hseval.core.options import as_dict
from hseval.core.plugin_manager import plugins
from hseval.data.content_hash import content_hash, key, masks_hash, stamp
from hseval.data.preprocessing import Prepared, prepare
from hseval.utils.errors import HsevalError, first_line
from hseval.utils.feature_cache import Cache
from hseval.utils.parallel import Assignment

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from hseval.core.hookspecs import Extractor

Columns = Mapping[str, "NDArray[Any]"]
PREPARED = "prepare-1"  # raised whenever the same cube comes out of `prepare` otherwise
CORE = "core"  # the rows that this module computes itself


@dataclasses.dataclass(frozen=True)
class Chosen:
    """An extractor by name and options: small enough to send to a worker process, which builds its own."""

    name: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    device: str = "cpu"

    @property
    def needs_nm(self) -> bool:
        """Whether the extractor says that it needs wavelengths in nm."""
        return bool(getattr(plugins().find("extractor", self.name), "needs_nm", False))

    def build(self) -> Extractor:
        """Return the extractor."""
        built: Extractor = plugins().build("extractor", self.name, self.options)
        if hasattr(built, "device"):
            built.device = self.device
        return built


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to compute for every cube of a set, and with which field of view.

    Attributes:
        extractors: which rows.
        structures: the structure axis of structure-wise rows, sorted, ``fov`` included.
        wavelengths: ``(band,)``.
        field: bool ``(y, x)`` in place of the cubes' own fields, or None.
    """

    extractors: tuple[Chosen, ...]
    structures: tuple[str, ...]
    wavelengths: NDArray[Any]
    field: NDArray[np.bool_] | None = None

    def recipe(self, chosen: Chosen, extractor: Extractor) -> str:
        """Return what, besides a cube's content and masks, decides its rows by one extractor."""
        fingerprint = extractor.fingerprint() if hasattr(extractor, "fingerprint") else ""
        origin = plugins().origin("extractor", chosen.name)
        described = (chosen.name, origin, extractor.version, _declared(extractor, chosen), fingerprint)
        structures = self.structures if reads_structures(extractor) else ()
        return key(PREPARED, described, structures, self.wavelengths.tolist(), self.field_hash(), "float32")

    def field_hash(self) -> str:
        """Return the hash of the field that stands in for the cubes' own, or ``""``."""
        return "" if self.field is None else masks_hash({FIELD: self.field})


@dataclasses.dataclass
class Described:
    """One cube, described: its identity and its columns (None: it has no valid pixel).

    ``masks`` is the hash of all its masks, ``own_field`` of ``fov`` alone.
    """

    index: int
    content: str
    masks: str
    own_field: str
    columns: Mapping[str, Columns] | None
    stamp: str | None = None


class Describer:
    """Reads, hashes and describes cubes of one set; lives in this process or in a worker."""

    def __init__(self, cubes: CubeSet, plan: Plan, cache: Cache, batch_size: int = 1) -> None:
        self.cubes, self.plan, self.cache, self.batch_size = cubes, plan, cache, batch_size
        self.extractors = [(chosen, chosen.build()) for chosen in plan.extractors]
        self.recipes = {chosen.name: plan.recipe(chosen, built) for chosen, built in self.extractors}
        self.recipes[CORE] = key(PREPARED, "core-2", plan.field_hash())
        self.by_structure = {chosen.name for chosen, built in self.extractors if reads_structures(built)}

    def keys(self, content: str, masks: str, own_field: str) -> dict[str, str]:
        """Return extractor name -> cache key for one cube; ``core`` is what this module finds out itself."""
        return {
            name: key(recipe, content, masks if name in self.by_structure else own_field)
            for name, recipe in self.recipes.items()
        }

    def known(self, indices: Sequence[int], *, verify: bool) -> list[Described]:
        """Return the cubes whose content is remembered and whose rows are all in the cache."""
        stamps = {} if verify else {stamp(self.cubes, index): index for index in indices}
        hashes = self.cache.hashes([name for name in stamps if name is not None])
        wanted = {index: (hashes[name], name) for name, index in stamps.items() if name in hashes}
        keys = {index: self.keys(*found) for index, (found, _) in wanted.items()}
        rows = self.cache.rows([name for names in keys.values() for name in names.values()])
        complete = [index for index, names in keys.items() if all(name in rows for name in names.values())]
        return [
            Described(index, *wanted[index][0], {name: rows[row] for name, row in keys[index].items()})
            for index in complete
        ]

    def work(self, chunk: list[int]) -> list[Described]:
        """Read some cubes and describe them, with whatever rows the cache already has."""
        read = [self._read(index) for index in chunk]
        keys = [self.keys(cube.content, cube.masks, cube.own_field) for cube, _ in read]
        cached = self.cache.rows([name for names in keys for name in names.values()])
        cached.update({n[CORE]: _core(prepared) for n, (_, prepared) in zip(keys, read, strict=True) if prepared})
        for chosen, extractor in self.extractors:
            missing = [i for i, (_, prepared) in enumerate(read) if prepared and keys[i][chosen.name] not in cached]
            for members in self._batches(missing, [prepared for _, prepared in read]):
                rows = self._extract(extractor, [prepared for _, prepared in (read[i] for i in members)])  # type: ignore[misc]
                cached.update({keys[i][chosen.name]: row for i, row in zip(members, rows, strict=True)})
        for (cube, prepared), names in zip(read, keys, strict=True):
            cube.columns = {name: cached[row] for name, row in names.items()} if prepared else None
        return [cube for cube, _ in read]

    def assignment(self) -> Assignment:
        """Return how a worker builds its own describer, with a connection of its own to the cache."""
        return _describer, (self.cubes, self.plan, self.cache.path, self.batch_size)

    def store(self, done: Sequence[Described]) -> None:
        """Put described cubes into the cache."""
        self.cache.store_hashes({c.stamp: (c.content, c.masks, c.own_field) for c in done if c.stamp})
        rows: dict[str, Columns] = {}
        for cube in done:
            if cube.columns is not None:
                names = self.keys(cube.content, cube.masks, cube.own_field)
                rows.update({names[name]: columns for name, columns in cube.columns.items()})
        self.cache.store_rows(rows)

    def _read(self, index: int) -> tuple[Described, Prepared | None]:
        before = stamp(self.cubes, index)
        cube = self._cube(index)
        unchanged = before is not None and stamp(self.cubes, index) == before
        field = {name: mask for name, mask in cube.masks.items() if name == FIELD}
        hashes = content_hash(cube.data), masks_hash(cube.masks), masks_hash(field)
        identity = Described(index, *hashes, None, before if unchanged else None)
        return identity, prepare(cube, self.plan.structures, field=self.plan.field)

    def _cube(self, index: int) -> Cube:
        """Read a cube.

        Raises:
            HsevalError: it can't be read, or has no field of view where others of its set have one: its surround
                would be taken for tissue.
        """
        name = f"{self.cubes.info.location}: cube {self.cubes.ids[index]}"
        try:
            cube = self.cubes[index]
        except (HsevalError, MemoryError):
            raise
        except Exception as error:  # a third party's reader may raise anything
            raise HsevalError(f"{name} can't be read: {first_line(error)}") from error
        if self.plan.field is None and FIELD in self.cubes.structures and FIELD not in cube.masks:
            raise HsevalError(f"{name} has no 'fov' mask, but others of the set have; give it to all cubes or to none")
        return cube

    def _batches(self, members: Sequence[int], cubes: Sequence[Prepared | None]) -> Iterator[list[int]]:
        """Yield ``members`` in batches of cubes of one shape."""
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for i in members:
            cube = cubes[i]
            assert cube is not None
            by_shape.setdefault(cube.data.shape, []).append(i)
        for same in by_shape.values():
            yield from (same[start : start + self.batch_size] for start in range(0, len(same), self.batch_size))

    def _extract(self, extractor: Extractor, cubes: Sequence[Prepared]) -> list[Columns]:
        data = np.stack([cube.data for cube in cubes])
        masks = {name: np.stack([cube.masks[name] for cube in cubes]) for name in cubes[0].masks}
        try:
            rows = extractor(data, wavelengths=self.plan.wavelengths, masks=masks)
        except (HsevalError, MemoryError):
            raise
        except Exception as error:  # a third party's extractor may raise anything
            origin = plugins().origin("extractor", extractor.name)
            raise HsevalError(f"extractor {extractor.name!r} ({origin}) failed: {first_line(error)}") from error
        named = rows if isinstance(rows, Mapping) else {"": rows}
        arrays = {name: np.asarray(column) for name, column in named.items()}
        for name, column in arrays.items():
            if len(column) != len(cubes):
                raise HsevalError(
                    f"extractor {extractor.name!r}: {len(column)} rows{f' of {name!r}' if name else ''} "
                    f"for {len(cubes)} cubes"
                )
        return [{name: column[i] for name, column in arrays.items()} for i in range(len(cubes))]


def _describer(cubes: CubeSet, plan: Plan, cache: Path | None, batch_size: int) -> Describer:
    return Describer(cubes, plan, Cache(cache), batch_size)


def reads_structures(extractor: Extractor) -> bool:
    """Return whether an extractor's rows depend on masks besides ``fov`` (unless it says not, they do)."""
    return bool(getattr(extractor, "reads_structures", True))


def _core(cube: Prepared) -> Columns:
    """Return what the core itself has to know of a cube.

    ``content``: the sha256 (32 bytes) of what is inside its field of view, by which rows are ordered and cubes are
    found in two sets; ``broken``: share of the field that is not finite; ``constant``: by band.
    """
    pixels = cube.data[:, cube.masks[FIELD]]
    return {
        "content": np.frombuffer(bytes.fromhex(content_hash(cube.data)), dtype=np.uint8),
        "broken": np.asarray(cube.broken, dtype=np.float32),
        "constant": pixels.min(axis=1) == pixels.max(axis=1),
    }


def _declared(extractor: Extractor, chosen: Chosen) -> Any:
    # Resolved options where the class keeps them, so that a default and the same value typed out share rows.
    options = getattr(extractor, "options", None)
    return as_dict(options) or dict(chosen.options)
