"""One process's part of feature extraction: reads, hashes and preprocesses cubes, and runs extractors on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.cubes import FOV, Cube, CubeSet
from hseval.core.options import options_to_dict
from hseval.core.plugin_manager import get_plugins
from hseval.data.content_hash import compute_content_hash, compute_file_stamp, compute_key, compute_masks_hash
from hseval.data.preprocessing import PreprocessedCube, preprocess_cube
from hseval.utils.errors import HsevalError, format_error
from hseval.utils.feature_cache import FeatureCache
from hseval.utils.parallel import JobSpec
from hseval.utils.plural import format_count

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from hseval.core.hookspecs import Extractor

Columns = Mapping[str, "NDArray[Any]"]
PREPROCESSING_VERSION = "prepare-1"  # raised whenever preprocessing returns something else for the same cube
CORE = "core"  # the features that this module computes itself


@dataclasses.dataclass(frozen=True)
class ExtractorSpec:
    """An extractor by name and options: small enough to send to a worker process, which builds its own."""

    name: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    device: str = "cpu"

    @property
    def needs_nm(self) -> bool:
        """Whether the extractor needs wavelengths in nm."""
        return bool(getattr(get_plugins().find("extractor", self.name), "needs_nm", False))

    def build(self) -> Extractor:
        """Return the extractor."""
        built: Extractor = get_plugins().build("extractor", self.name, self.options)
        if hasattr(built, "device"):
            built.device = self.device
        return built


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
        fingerprint = extractor.fingerprint() if hasattr(extractor, "fingerprint") else ""
        origin = get_plugins().get_origin("extractor", spec.name)
        identity = (spec.name, origin, extractor.version, _resolve_options(extractor, spec), fingerprint)
        structures = self.structures if reads_structures(extractor) else ()
        return compute_key(
            PREPROCESSING_VERSION,
            identity,
            structures,
            self.wavelengths.tolist(),
            self.compute_field_hash(),
            "float32",
        )

    def compute_field_hash(self) -> str:
        """Return the hash of the field that replaces the cubes' own, or ``""``."""
        return "" if self.field is None else compute_masks_hash({FOV: self.field})


@dataclasses.dataclass
class ExtractedCube:
    """One cube's identity and its feature columns (None: it has no valid pixel).

    ``masks_hash`` is the hash of all its masks, ``own_field_hash`` of ``fov`` alone.
    """

    index: int
    content_hash: str
    masks_hash: str
    own_field_hash: str
    columns: Mapping[str, Columns] | None
    stamp: str | None = None


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
        known = {index: (hashes[name], name) for name, index in stamps.items() if name in hashes}
        keys = {index: self.compute_cache_keys(*cube_hashes) for index, (cube_hashes, _) in known.items()}
        cached = self.cache.load_features([name for names in keys.values() for name in names.values()])
        complete = [index for index, names in keys.items() if all(name in cached for name in names.values())]
        return [
            ExtractedCube(index, *known[index][0], {name: cached[key] for name, key in keys[index].items()})
            for index in complete
        ]

    def run_chunk(self, chunk: list[int]) -> list[ExtractedCube]:
        """Read some cubes and extract the features that the cache lacks."""
        read = [self._prepare_cube(index) for index in chunk]
        keys = [self.compute_cache_keys(cube.content_hash, cube.masks_hash, cube.own_field_hash) for cube, _ in read]
        cached = self.cache.load_features([name for names in keys for name in names.values()])
        cached.update(
            {
                cube_keys[CORE]: _compute_core_columns(prepared)
                for cube_keys, (_, prepared) in zip(keys, read, strict=True)
                if prepared
            }
        )
        for spec, extractor in self.extractors:
            missing = [i for i, (_, prepared) in enumerate(read) if prepared and keys[i][spec.name] not in cached]
            for members in self._iter_batches(missing, [prepared for _, prepared in read]):
                batch_columns = self._run_extractor(extractor, [prepared for _, prepared in (read[i] for i in members)])  # type: ignore[misc]
                cached.update({keys[i][spec.name]: columns for i, columns in zip(members, batch_columns, strict=True)})
        for (cube, prepared), names in zip(read, keys, strict=True):
            cube.columns = {name: cached[key] for name, key in names.items()} if prepared else None
        return [cube for cube, _ in read]

    def get_spec(self) -> JobSpec:
        """Return how a worker process builds its own copy, with its own connection to the cache."""
        return _build_worker, (self.cubes, self.plan, self.cache.path, self.batch_size)

    def store_cubes(self, processed: Sequence[ExtractedCube]) -> None:
        """Store the features of cubes in the cache."""
        self.cache.store_hashes(
            {c.stamp: (c.content_hash, c.masks_hash, c.own_field_hash) for c in processed if c.stamp}
        )
        features: dict[str, Columns] = {}
        for cube in processed:
            if cube.columns is not None:
                names = self.compute_cache_keys(cube.content_hash, cube.masks_hash, cube.own_field_hash)
                features.update({names[name]: columns for name, columns in cube.columns.items()})
        self.cache.store_features(features)

    def _prepare_cube(self, index: int) -> tuple[ExtractedCube, PreprocessedCube | None]:
        before = compute_file_stamp(self.cubes, index)
        cube = self._read_cube(index)
        unchanged = before is not None and compute_file_stamp(self.cubes, index) == before
        field = {name: mask for name, mask in cube.masks.items() if name == FOV}
        hashes = compute_content_hash(cube.data), compute_masks_hash(cube.masks), compute_masks_hash(field)
        identity = ExtractedCube(index, *hashes, None, before if unchanged else None)
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

    def _iter_batches(self, indices: Sequence[int], cubes: Sequence[PreprocessedCube | None]) -> Iterator[list[int]]:
        """Yield ``indices`` in batches of cubes of one shape."""
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for i in indices:
            cube = cubes[i]
            assert cube is not None
            by_shape.setdefault(cube.data.shape, []).append(i)
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


def reads_structures(extractor: Extractor) -> bool:
    """Return whether an extractor's features depend on masks besides ``fov`` (default: yes)."""
    return bool(getattr(extractor, "reads_structures", True))


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


def _resolve_options(extractor: Extractor, spec: ExtractorSpec) -> Any:
    # Resolved options where the class stores them: a default and the same value given explicitly share cached features.
    options = getattr(extractor, "options", None)
    return options_to_dict(options) or dict(spec.options)
