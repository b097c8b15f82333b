"""The contract of generators."""

from __future__ import annotations

import inspect
import itertools
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hseval.core.capabilities import SupportsFit
from hseval.core.cubes import CubeSet
from hseval.core.plugin_manager import select_accepted_arguments
from hseval.core.protocols import Sample
from hseval.testing.contract import CheckRecord, Contract, is_close
from hseval.testing.examples import make_example_set
from hseval.utils.errors import HsevalError

SEED = 7


def check_generator(generator: Any, *, tmp_path: Path, data: CubeSet | None = None) -> CheckRecord:
    """Check a generator's class, or an instance with options.

    Checked: its name, version, summary and options; fit, load and sample one after the other, with no state in memory
    between them; the samples; that cube i depends only on (seed, i); and that it refuses bad input.

    Args:
        generator: the class, or an instance; a new one with the same ``options`` is built to load.
        tmp_path: an empty folder.
        data: the training set if it has ``fit``; a small set by default.

    Raises:
        ContractError: what was found, and what the contract requires.
    """
    contract = Contract("generator", generator)
    contract.check_attributes("version")
    contract.check_options()
    built = contract.build()
    sample = contract.get_method(built, "sample", "sample(self, n, *, seed, start=0), which yields hseval.Sample")
    contract.check_keyword_only(sample, ("seed", *select_accepted_arguments(sample, start=0)))
    _check_load(contract, built)
    checkpoint = None
    if isinstance(built, SupportsFit):
        checkpoint = _check_fit(contract, built, data or make_example_set(8), tmp_path / "run")
    else:
        contract.skip("fit and its checkpoints", "it has no fit")
    loaded = _load_new_instance(contract, checkpoint)
    samples = _check_samples(contract, loaded)
    _check_seeding(contract, loaded, samples)
    contract.require(
        _is_equal(samples, list(_load_new_instance(contract, checkpoint).sample(len(samples), seed=SEED))),
        "a second instance of the same checkpoint yields other cubes; checkpoint, options and seed have to decide all",
    )
    if checkpoint is not None:
        _check_refusals(contract, checkpoint, tmp_path)
    return contract.get_record()


def _check_fit(contract: Contract, generator: Any, data: CubeSet, out: Path) -> Path:
    arguments = select_accepted_arguments(generator.fit, seed=SEED)
    contract.check_keyword_only(generator.fit, tuple(arguments))
    out.mkdir()
    generator.fit(data, out, **arguments)
    contract.require(any(out.iterdir()), "fit writes nothing to the folder; load can only read from there")
    return out


def _check_samples(contract: Contract, generator: Any) -> list[Sample]:
    require = contract.require
    sampled = generator.sample(4, seed=SEED)
    require(
        isinstance(sampled, Iterator),
        "sample does not return an iterator; yield cubes one by one, because sets do not fit in memory",
    )
    samples = [_validate_sample(contract, sample) for sample in sampled]
    require(len(samples) == 4, f"sample(4) yields {len(samples)} cubes")
    require(next(iter(generator.sample(0, seed=SEED)), None) is None, "sample(0) yields a cube")
    ids = [sample.id for sample in samples]
    require(
        len(set(ids)) == 4 and all(isinstance(id, str) for id in ids),
        f"its ids are {ids}; expected a unique str for each cube",
    )
    bands = _check_wavelengths(contract, generator)
    for sample in samples:
        _check_sample(contract, sample, samples[0], bands)
    return samples


def _check_load(contract: Contract, generator: Any) -> None:
    """Check that ``load`` takes the checkpoint's folder by position."""
    load = contract.get_method(generator, "load", "load(self, path, device=None)")
    with contract.explain_errors(
        "load can't be called with a path ({error}); expected load(self, path, device=None); path is the folder that "
        "fit wrote, or None",
        TypeError,
    ):
        inspect.signature(load).bind(None)


def _validate_sample(contract: Contract, item: Any) -> Sample:
    """Return an item of ``sample`` as a Sample, if it has the form of one."""
    expected = "expected hseval.Sample(cube, masks, id): float32 (band, y, x), bool (y, x) by structure, and a str"
    is_sequence = isinstance(item, tuple | list)
    length = f" of {len(item)}" if is_sequence else ""
    contract.require(is_sequence and len(item) == 3, f"sample yields {type(item).__name__}{length}; {expected}")
    sample = Sample(*item)
    contract.require(
        isinstance(sample.masks, Mapping), f"its masks are {type(sample.masks).__name__}; {expected}, {{}} for no masks"
    )
    for name, array in {"cube": sample.cube, **sample.masks}.items():
        contract.require(
            isinstance(array, np.ndarray), f"its {name!r} is {type(array).__name__}, not a numpy array; {expected}"
        )
    return sample


def _check_wavelengths(contract: Contract, generator: Any) -> int | None:
    """Return the number of wavelengths; None where they are unknown."""
    contract.require(
        hasattr(generator, "wavelengths"),
        "has no attribute wavelengths after load; expected the band centers in nm, or None where they are unknown",
    )
    if generator.wavelengths is None:
        contract.skip("wavelengths", "they are unknown")
        return None
    centers = np.asarray(generator.wavelengths, dtype=np.float64)
    contract.require(
        centers.ndim == 1 and np.isfinite(centers).all() and (np.diff(centers) > 0).all(),
        f"its wavelengths are {centers}; after load they have to be the band centers, ascending, in nm",
    )
    return len(centers)


def _check_sample(contract: Contract, sample: Sample, first: Sample, band_count: int | None) -> None:
    require, cube = contract.require, sample.cube
    require(cube.dtype == np.float32, f"it yields {cube.dtype} cubes; expected float32")
    require(cube.ndim == 3, f"it yields a cube of shape {cube.shape}; expected (band, y, x)")
    require(
        band_count is None or len(cube) == band_count,
        f"it yields a cube of shape {cube.shape} and has {band_count} wavelengths; expected (band, y, x)",
    )
    require(
        len(cube) == len(first.cube),
        f"its cubes have {len(first.cube)} and {len(cube)} bands; expected the same number",
    )
    require(
        set(sample.masks) == set(first.masks),
        f"its cubes have different masks ({sorted(sample.masks)}, {sorted(first.masks)}); yield an empty mask instead",
    )
    for name, mask in sample.masks.items():
        contract.check_mask(name, mask, cube.shape[1:])
    field = sample.masks.get("fov", np.ones(cube.shape[1:], dtype=bool))
    require(
        field.any() and np.isfinite(cube[:, field]).all(),
        "a cube has NaN or Inf in its field of view, or an empty field of view",
    )


def _check_seeding(contract: Contract, generator: Any, samples: list[Sample]) -> None:
    require = contract.require
    rule = "cube i may depend only on (seed, i); draw it from hseval.plugin.create_rng(seed, name, i)"
    again, fewer = list(generator.sample(4, seed=SEED)), list(generator.sample(2, seed=SEED))
    require(_is_equal(samples, again), f"the same seed yields other cubes when drawn again; {rule}")
    require(_is_equal(samples[:2], fewer), f"sample(2) differs from the start of sample(4); {rule}")
    if start := select_accepted_arguments(generator.sample, start=2):
        tail = list(generator.sample(4, seed=SEED, **start))
        require(_is_equal(samples[2:], tail), f"sample(4, start=2) differs from cubes 2 and 3 of sample(4); {rule}")
    else:
        contract.skip("start", "sample does not take it")
    pairs = zip(generator.sample(2, seed=SEED), generator.sample(2, seed=SEED), strict=False)
    interleaved = [sample for pair in pairs for sample in pair]
    require(_is_equal(interleaved[::2], samples[:2]), f"two samplings at the same time affect each other; {rule}")
    require(not is_close(samples[0].cube, samples[1].cube), f"cubes 0 and 1 of a seed are the same; {rule}")
    next_seed = list(generator.sample(2, seed=SEED + 1))
    require(not is_close(samples[0].cube, next_seed[0].cube), "two seeds yield the same cube; use the seed argument")
    require(
        not is_close(samples[1].cube, next_seed[0].cube),
        f"cube 1 of seed {SEED} is cube 0 of seed {SEED + 1}, as with seed + i; "
        "use hseval.plugin.create_rng(seed, name, i)",
    )


def _check_refusals(contract: Contract, checkpoint: Path, tmp_path: Path) -> None:
    def load(path: Path | None) -> Any:
        return _load_new_instance(contract, path)

    contract.check_refuses(lambda: load(None), "load without a checkpoint, although it has fit")
    empty = tmp_path / "empty"
    empty.mkdir()
    contract.check_refuses(lambda: load(empty), "load from an empty folder")
    contract.check_refuses(lambda: load(tmp_path / "nowhere"), "load from a folder that does not exist")
    new, empty_set = contract.build_new(), make_example_set(1).subset([])
    seed = select_accepted_arguments(new.fit, seed=SEED)
    contract.check_refuses(lambda: new.fit(empty_set, empty, **seed), "fit on a set without cubes")
    for file in [path.relative_to(checkpoint) for path in sorted(checkpoint.rglob("*")) if path.is_file()]:
        _check_truncated_file(contract, checkpoint, tmp_path / "cut-off", file)


def _check_truncated_file(contract: Contract, checkpoint: Path, copy: Path, file: Path) -> None:
    """Truncate one file of the checkpoint to half; harmless only if sampling does not need it (logs)."""
    shutil.copytree(checkpoint, copy)
    content = (copy / file).read_bytes()
    (copy / file).write_bytes(content[: len(content) // 2])
    message = (
        f"{file} of its checkpoint truncated to half: raised {{error}}; raise hseval.HsevalError with one line that "
        "names the file"
    )
    with contract.explain_errors(message):
        try:
            generators = (_load_new_instance(contract, path) for path in (copy, checkpoint))
            is_harmless = _is_equal(*(list(generator.sample(1, seed=SEED)) for generator in generators))
            message = f"loads a checkpoint whose {file} is truncated to half, and yields other cubes"
            contract.require(is_harmless, message)
        except HsevalError as error:
            is_one_line = "\n" not in str(error)
            contract.require(is_one_line, f"{file} truncated to half: its error has several lines; expected one")
    shutil.rmtree(copy)


def _load_new_instance(contract: Contract, checkpoint: Path | None) -> Any:
    loaded = contract.build_new()
    loaded.load(checkpoint, **select_accepted_arguments(loaded.load, device=None))
    return loaded


def _is_equal(actual: list[Sample], expected: list[Sample]) -> bool:
    return len(actual) == len(expected) and all(
        a.id == b.id
        and is_close(a.cube, b.cube)
        and all(np.array_equal(a.masks[name], b.masks[name]) for name in a.masks)
        for a, b in zip(actual, itertools.starmap(Sample, expected), strict=True)
    )
