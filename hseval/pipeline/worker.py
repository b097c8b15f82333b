"""One process's part of feature extraction: reads, hashes and preprocesses cubes, and runs extractors on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hseval.core.capabilities import compute_fingerprint, needs_nm, reads_structures, set_device
from hseval.core.cubes import FOV, Cube, CubeSet
from hseval.core.options import get_option_values
from hseval.core.plugin_manager import get_plugins
from hseval.core.protocols import Extractor
from hseval.data.content_hash import (
    compute_content_hash,
    compute_cube_hashes,
    compute_file_stamp,
    compute_key,
    compute_masks_hash,
)
from hseval.data.preprocessing import PreprocessedCube, preprocess_cube
from hseval.pipeline.cached_columns import Columns
from hseval.utils.errors import HsevalError, format_error
from hseval.utils.feature_cache import CubeHashes, FeatureCache
from hseval.utils.parallel import JobSpec
from hseval.utils.plural import format_count

KeyedCube = tuple[str, PreprocessedCube]
PREPROCESSING_VERSION = "prepare-1"  # raised whenever preprocessing returns something else for the same cube
CORE = "core"  # the features that this module computes itself


@dataclasses.dataclass(frozen=True)
class PluginSpec:
    """A plugin by name and options: small enough to send to a worker process, which builds its own."""

    kind: ClassVar[str]
    name: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    device: str = "cpu"

    def build(self) -> Any:
        """Return an instance, on the device."""
        built = get_plugins().build(self.kind, self.name, self.options)
        set_device(built, self.device)
        return built

    def describe_identity(self, plugin: Any) -> tuple[Any, ...]:
        """Return what decides the results of an instance, as part of a cache key."""
        # Resolved options where the class stores them: a default and the same value given explicitly share an entry.
        options = get_option_values(plugin) or dict(self.options)
        origin = get_plugins().get_origin(self.kind, self.name)
        return (self.name, origin, plugin.version, options, compute_fingerprint(plugin) or "")


@dataclasses.dataclass(frozen=True)
class ExtractorSpec(PluginSpec):
    """An extractor by name and options."""

    kind: ClassVar[str] = "extractor"

    @property
    def needs_nm(self) -> bool:
        """Whether the extractor needs wavelengths in nm."""
        return needs_nm(get_plugins().find(self.kind, self.name))

    @property
    def reads_structures(self) -> bool:
        """Whether the features depend on masks besides ``fov``."""
        return reads_structures(self.build())


@dataclasses.dataclass(frozen=True)
class ExtractionPlan:
    """What to compute for every cube of a set, and with which field of view.

    Attributes:
        extractors: which features.
        structures: the structure axis of features by structure, sorted, ``fov`` included.
        wavelengths: ``(band,)``.
        field: bool ``(y, x)`` in place of the cubes' own fields, or None.
    """

    extractors: tuple[ExtractorSpec, ...]
    structures: tuple[str, ...]
    wavelengths: NDArray[Any]
    field: NDArray[np.bool_] | None = None

    def compute_recipe_key(self, spec: ExtractorSpec, extractor: Extractor) -> str:
        """Return the key of everything, besides a cube's content and masks, that decides its features."""
        structures = self.structures if reads_structures(extractor) else ()
        return compute_key(
            PREPROCESSING_VERSION,
            spec.describe_identity(extractor),
            structures,
            self.wavelengths.tolist(),
            self.compute_field_hash(),
            "float32",
        )

    def compute_field_hash(self) -> str:
        """Return the hash of the field that replaces the cubes' own, or ``""``."""
        return "" if self.field is None else compute_masks_hash({FOV: self.field})


@dataclasses.dataclass(frozen=True)
class ExtractedCube:
    """One cube's identity and its feature columns.

    Attributes:
        index: in the set.
        hashes: of its pixels, of all its masks, and of ``fov`` alone.
        columns: extractor -> field -> column; empty: it has no valid pixel.
        stamp: of its files; None: it can't be remembered by them.
    """

    index: int
    hashes: CubeHashes
    columns: Mapping[str, Columns]
    stamp: str | None = None

    @property
    def visible_hash(self) -> str:
        """The hash of the pixels inside the field of a cube that has some, which black padding does not change."""
        return bytes(self.columns[CORE]["content"]).hex()


class ExtractionWorker:
    """Reads and hashes cubes of one set and extracts their features; runs in this process or in a worker."""

    def __init__(self, cubes: CubeSet, plan: ExtractionPlan, cache: FeatureCache, batch_size: int = 1) -> None:
        self.cubes, self.plan, self.cache, self.batch_size = cubes, plan, cache, batch_size
        self.extractors = [(spec, spec.build()) for spec in plan.extractors]
        self.recipe_keys = {spec.name: plan.compute_recipe_key(spec, extractor) for spec, extractor in self.extractors}
        self.recipe_keys[CORE] = compute_key(PREPROCESSING_VERSION, "core-2", plan.compute_field_hash())
        self.structure_extractors = {spec.name for spec, extractor in self.extractors if reads_structures(extractor)}

    def compute_cache_keys(self, content: str, masks: str, own_field_hash: str) -> dict[str, str]:
        """Return extractor name -> cache key for one cube, ``core`` included."""
        return {
            name: compute_key(recipe, content, masks if name in self.structure_extractors else own_field_hash)
            for name, recipe in self.recipe_keys.items()
        }

    def load_cached(self, indices: Sequence[int], *, verify: bool) -> list[ExtractedCube]:
        """Return the cubes whose content hash and features are all in the cache."""
        stamps = {} if verify else {compute_file_stamp(self.cubes, index): index for index in indices}
        hashes = self.cache.load_hashes([name for name in stamps if name is not None])
        known = {index: hashes[name] for name, index in stamps.items() if name in hashes}
        keys = {index: self.compute_cache_keys(*cube_hashes) for index, cube_hashes in known.items()}
        cached = self.cache.load_features([name for names in keys.values() for name in names.values()])
        complete = [index for index, names in keys.items() if all(name in cached for name in names.values())]
        return [
            ExtractedCube(index, known[index], {name: cached[key] for name, key in keys[index].items()})
            for index in complete
        ]

    @np.errstate(all="ignore")  # features that are not finite are found by the metrics that need them
    def run_chunk(self, chunk: list[int]) -> list[ExtractedCube]:
        """Read some cubes and extract the features that the cache lacks."""
        read = [self._prepare_cube(index) for index in chunk]
        keys = {cube.index: self.compute_cache_keys(*cube.hashes) for cube, _ in read}
        valid = [(keys[cube.index], prepared) for cube, prepared in read if prepared is not None]
        computed = self.cache.load_features([key for names, _ in valid for key in names.values()])
        computed.update({names[CORE]: _compute_core_columns(prepared) for names, prepared in valid})
        for spec, extractor in self.extractors:
            missing = [(names[spec.name], cube) for names, cube in valid if names[spec.name] not in computed]
            for batch in self._iter_batches(missing):
                columns = self._run_extractor(extractor, [prepared for _, prepared in batch])
                computed.update(zip((key for key, _ in batch), columns, strict=True))
        return [
            dataclasses.replace(cube, columns={name: computed[key] for name, key in keys[cube.index].items()})
            if prepared is not None
            else cube
            for cube, prepared in read
        ]

    def get_spec(self) -> JobSpec:
        """Return how a worker process builds its own copy, with its own connection to the cache."""
        return _build_worker, (self.cubes, self.plan, self.cache.usable_path, self.batch_size)

    def store_cubes(self, processed: Sequence[ExtractedCube]) -> None:
        """Store the features of cubes in the cache."""
        self.cache.store_hashes({cube.stamp: cube.hashes for cube in processed if cube.stamp})
        features: dict[str, Columns] = {}
        for cube in processed:
            keys = self.compute_cache_keys(*cube.hashes)
            features.update({keys[name]: columns for name, columns in cube.columns.items()})
        self.cache.store_features(features)

    def _prepare_cube(self, index: int) -> tuple[ExtractedCube, PreprocessedCube | None]:
        before = compute_file_stamp(self.cubes, index)
        cube = self._read_cube(index)
        unchanged = before is not None and compute_file_stamp(self.cubes, index) == before
        identity = ExtractedCube(index, compute_cube_hashes(cube), {}, before if unchanged else None)
        return identity, preprocess_cube(cube, self.plan.structures, fov=self.plan.field)

    def _read_cube(self, index: int) -> Cube:
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
            raise HsevalError(f"{name} can't be read: {format_error(error)}") from error
        if self.plan.field is None and FOV in self.cubes.structures and FOV not in cube.masks:
            raise HsevalError(f"{name} has no 'fov' mask, but others of the set have; give it to all cubes or to none")
        return cube

    def _iter_batches(self, keyed: Sequence[KeyedCube]) -> Iterator[list[KeyedCube]]:
        """Yield cubes, each with its cache key, in batches of one shape."""
        by_shape: dict[tuple[int, ...], list[KeyedCube]] = {}
        for key, cube in keyed:
            by_shape.setdefault(cube.data.shape, []).append((key, cube))
        for members in by_shape.values():
            yield from (members[start : start + self.batch_size] for start in range(0, len(members), self.batch_size))

    def _run_extractor(self, extractor: Extractor, cubes: Sequence[PreprocessedCube]) -> list[Columns]:
        data = np.stack([cube.data for cube in cubes])
        masks = {name: np.stack([cube.masks[name] for cube in cubes]) for name in cubes[0].masks}
        try:
            features = extractor(data, wavelengths=self.plan.wavelengths, masks=masks)
        except (HsevalError, MemoryError):
            raise
        except Exception as error:  # a third party's extractor may raise anything
            origin = get_plugins().get_origin("extractor", extractor.name)
            raise HsevalError(f"extractor {extractor.name!r} ({origin}) failed: {format_error(error)}") from error
        named = features if isinstance(features, Mapping) else {"": features}
        arrays = {name: np.asarray(column) for name, column in named.items()}
        for name, column in arrays.items():
            if len(column) != len(cubes):
                raise HsevalError(
                    f"extractor {extractor.name!r}: {format_count(len(column), 'feature vector')}"
                    f"{f' of {name!r}' if name else ''} for {format_count(len(cubes), 'cube')}"
                )
        return [{name: column[i] for name, column in arrays.items()} for i in range(len(cubes))]


def _build_worker(cubes: CubeSet, plan: ExtractionPlan, cache: Path | None, batch_size: int) -> ExtractionWorker:
    return ExtractionWorker(cubes, plan, FeatureCache(cache), batch_size)


def _compute_core_columns(cube: PreprocessedCube) -> Columns:
    """Return the features that the core itself needs of a cube.

    ``content``: the sha256 (32 bytes) of its pixels inside the field of view, which orders cubes and finds them in two
    sets; ``broken``: share of the field that is not finite; ``constant``: whether it is, by band.
    """
    pixels = cube.data[:, cube.masks[FOV]]
    return {
        "content": np.frombuffer(bytes.fromhex(compute_content_hash(cube.data)), dtype=np.uint8),
        "broken": np.asarray(cube.nonfinite_fraction, dtype=np.float32),
        "constant": pixels.min(axis=1) == pixels.max(axis=1),
    }
