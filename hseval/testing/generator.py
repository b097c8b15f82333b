"""The contract of generators."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hseval.core.cubes import CubeSet
from hseval.core.hookspecs import Sample
from hseval.core.plugin_manager import select_accepted_arguments
from hseval.testing.contract import Contract, ContractError, is_close
from hseval.testing.examples import make_example_set
from hseval.utils.errors import HsevalError, format_error

SEED = 7


def check_generator(generator: Any, *, tmp_path: Path, data: CubeSet | None = None) -> None:
    """Check a generator's class, or an instance with options.

    Checked: its name, version, summary and options; fit, load and sample one after the other, with nothing kept in
    memory between them; what it yields; that cube i depends on (seed, i) alone; and that it refuses nonsense.

    Args:
        generator: the class, or an instance; the class is built anew, with the instance's ``options``, to load.
        tmp_path: an empty folder.
        data: what it is fitted on, where it has ``fit``; a small set by default.

    Raises:
        ContractError: what was found, and what the contract asks.
    """
    contract = Contract("generator", generator)
    contract.check_attributes("version")
    contract.check_options()
    built = contract.build(generator)
    sample = contract.get_method(built, "sample", "sample(self, n, *, seed, start=0), which yields hseval.Sample")
    contract.check_keyword_only(sample, ("seed", *select_accepted_arguments(sample, start=0)))
    _check_load(contract, built)
    checkpoint = None
    if hasattr(built, "fit"):
        checkpoint = _check_fit(contract, built, data or make_example_set(8), tmp_path / "run")
    loaded = _load_new_instance(built, checkpoint)
    samples = _check_samples(contract, loaded)
    _check_seeding(contract, loaded, samples)
    contract.require(
        _is_equal(samples, list(_load_new_instance(built, checkpoint).sample(len(samples), seed=SEED))),
        "a second instance that loads the same yields other cubes; checkpoint, options and seed have to decide all",
    )
    if checkpoint is not None:
        _check_refusals(contract, built, checkpoint, tmp_path)


def _build_new_instance(generator: Any) -> Any:
    """Return a new instance with the same options, so that nothing comes along in memory."""
    options = getattr(generator, "options", None)
    return type(generator)() if options is None else type(generator)(options)


def _check_fit(contract: Contract, generator: Any, data: CubeSet, out: Path) -> Path:
    taken = select_accepted_arguments(generator.fit, seed=SEED)
    contract.check_keyword_only(generator.fit, tuple(taken))
    out.mkdir()
    generator.fit(data, out, **taken)
    contract.require(any(out.iterdir()), "fit leaves nothing in the folder it is given; load can only read from there")
    return out


def _check_samples(contract: Contract, generator: Any) -> list[Sample]:
    require = contract.require
    drawn = generator.sample(4, seed=SEED)
    require(
        isinstance(drawn, Iterator),
        "sample does not return an iterator; yield cubes one by one, because sets do not fit in memory",
    )
    samples = [_validate_sample(contract, sample) for sample in drawn]
    require(len(samples) == 4, f"sample(4) yields {len(samples)} cubes")
    require(next(iter(generator.sample(0, seed=SEED)), None) is None, "sample(0) yields a cube")
    names = [sample.id for sample in samples]
    require(
        len(set(names)) == 4 and all(isinstance(name, str) for name in names),
        f"its ids are {names}; expected str, another for each cube",
    )
    bands = _check_wavelengths(contract, generator)
    for sample in samples:
        _check_sample(contract, sample, samples[0], bands)
    return samples


def _check_load(contract: Contract, generator: Any) -> None:
    """Check that ``load`` takes the checkpoint's folder by position."""
    load = contract.get_method(generator, "load", "load(self, path, device=None)")
    try:
        inspect.signature(load).bind(None)
    except TypeError as error:
        raise ContractError(
            f"{contract.subject}: load can't be called with a path ({error}); it is load(self, path, device=None), and "
            "path is the folder that fit left, or None"
        ) from error


def _validate_sample(contract: Contract, item: Any) -> Sample:
    """Return what ``sample`` yields as a Sample, where it can be taken for one."""
    asked = "it has to be hseval.Sample(cube, masks, id): float32 (band, y, x), bool (y, x) by structure, and a str"
    sequence = isinstance(item, tuple | list)
    of = f" of {len(item)}" if sequence else ""
    contract.require(sequence and len(item) == 3, f"sample yields {type(item).__name__}{of}; {asked}")
    found = Sample(*item)
    contract.require(
        isinstance(found.masks, Mapping), f"its masks are {type(found.masks).__name__}; {asked}, {{}} for no masks"
    )
    for what, array in {"cube": found.cube, **found.masks}.items():
        contract.require(
            isinstance(array, np.ndarray), f"its {what!r} is {type(array).__name__}, expected a numpy array; {asked}"
        )
    return found


def _check_wavelengths(contract: Contract, generator: Any) -> int | None:
    """Return how many bands there are wavelengths for; None where they are unknown."""
    contract.require(
        hasattr(generator, "wavelengths"),
        "has no attribute wavelengths after load; it holds the band centres in nm, or None where they are unknown",
    )
    if generator.wavelengths is None:
        return None
    centres = np.asarray(generator.wavelengths, dtype=np.float64)
    contract.require(
        centres.ndim == 1 and np.isfinite(centres).all() and (np.diff(centres) > 0).all(),
        f"its wavelengths are {centres}; after load they have to be the band centres, ascending, in nm",
    )
    return len(centres)


def _check_sample(contract: Contract, sample: Sample, first: Sample, band_count: int | None) -> None:
    require, cube = contract.require, sample.cube
    require(cube.dtype == np.float32, f"it yields {cube.dtype} cubes; cubes are float32")
    require(cube.ndim == 3, f"it yields a cube of shape {cube.shape}; cubes are (band, y, x)")
    require(
        band_count is None or len(cube) == band_count,
        f"it yields a cube of shape {cube.shape} and has {band_count} wavelengths; cubes are (band, y, x)",
    )
    require(len(cube) == len(first.cube), f"its cubes have {len(first.cube)} and {len(cube)} bands; one count is right")
    require(
        set(sample.masks) == set(first.masks),
        f"its cubes have different masks ({sorted(sample.masks)}, {sorted(first.masks)}); leave a mask empty instead",
    )
    for name, mask in sample.masks.items():
        require(
            mask.dtype == np.bool_ and mask.shape == cube.shape[1:],
            f"mask {name!r} is {mask.dtype} {mask.shape}; expected bool {cube.shape[1:]}, as (y, x)",
        )
    seen = sample.masks.get("fov", np.ones(cube.shape[1:], dtype=bool))
    require(seen.any() and np.isfinite(cube[:, seen]).all(), "a cube has NaN or Inf in its field of view, or no field")


def _check_seeding(contract: Contract, generator: Any, samples: list[Sample]) -> None:
    require = contract.require
    alone = "cube i may depend on (seed, i) alone; draw it from hseval.utils.random_streams.create_rng(seed, name, i)"
    again, fewer = list(generator.sample(4, seed=SEED)), list(generator.sample(2, seed=SEED))
    require(_is_equal(samples, again), f"the same seed yields other cubes when drawn again; {alone}")
    require(_is_equal(samples[:2], fewer), f"sample(2) differs from the start of sample(4); {alone}")
    if later := select_accepted_arguments(generator.sample, start=2):
        late = list(generator.sample(4, seed=SEED, **later))
        require(_is_equal(samples[2:], late), f"sample(4, start=2) differs from cubes 2 and 3 of sample(4); {alone}")
    one, other = generator.sample(2, seed=SEED), generator.sample(2, seed=SEED)
    both = [sample for pair in zip(one, other, strict=False) for sample in pair]
    require(_is_equal(both[::2], samples[:2]), f"two samplings that run at once disturb each other; {alone}")
    require(not is_close(samples[0].cube, samples[1].cube), f"cubes 0 and 1 of a seed are the same; {alone}")
    next_seed = list(generator.sample(2, seed=SEED + 1))
    require(
        not is_close(samples[0].cube, next_seed[0].cube), "two seeds yield the same cube; use the seed that is given"
    )
    require(
        not is_close(samples[1].cube, next_seed[0].cube),
        f"cube 1 of seed {SEED} is cube 0 of seed {SEED + 1}, as with seed + i; use hseval.utils.random_streams.create_rng(seed, name, i)",
    )


def _check_refusals(contract: Contract, generator: Any, checkpoint: Path, tmp_path: Path) -> None:
    contract.check_refuses(lambda: _load_new_instance(generator, None), "load without a checkpoint, though it has fit")
    empty = tmp_path / "empty"
    empty.mkdir()
    contract.check_refuses(lambda: _load_new_instance(generator, empty), "load from an empty folder")
    contract.check_refuses(
        lambda: _load_new_instance(generator, tmp_path / "nowhere"), "load from a folder that is not there"
    )
    seed = select_accepted_arguments(generator.fit, seed=SEED)
    nothing = make_example_set(1).subset([])
    contract.check_refuses(
        lambda: _build_new_instance(generator).fit(nothing, empty, **seed), "fit on a set without cubes"
    )
    for file in [found.relative_to(checkpoint) for found in sorted(checkpoint.rglob("*")) if found.is_file()]:
        _check_truncated_file(contract, generator, checkpoint, tmp_path / "cut-off", file)


def _check_truncated_file(contract: Contract, generator: Any, checkpoint: Path, copy: Path, file: Path) -> None:
    """Cut one file of the checkpoint in half; files that sampling does not need (logs) may be harmless."""
    shutil.copytree(checkpoint, copy)
    whole = (copy / file).read_bytes()
    (copy / file).write_bytes(whole[: len(whole) // 2])
    try:
        found, expected = (
            list(_load_new_instance(generator, path).sample(1, seed=SEED)) for path in (copy, checkpoint)
        )
        harmless = _is_equal(found, expected)
        contract.require(harmless, f"loads a checkpoint whose {file} was cut in half, and yields other cubes")
    except HsevalError as error:
        contract.require("\n" not in str(error), f"{file} cut in half: its error has several lines; one is enough")
    except ContractError:
        raise
    except Exception as error:
        raise ContractError(
            f"{contract.subject}: {file} of its checkpoint cut in half: raised {format_error(error)}; raise "
            "hseval.HsevalError with one line that names the file"
        ) from error
    finally:
        shutil.rmtree(copy)


def _load_new_instance(generator: Any, checkpoint: Path | None) -> Any:
    loaded = _build_new_instance(generator)
    loaded.load(checkpoint, **select_accepted_arguments(loaded.load, device=None))
    return loaded


def _is_equal(one: list[Sample], other: list[Sample]) -> bool:
    """Say whether two lists of samples have the same ids, cubes and masks."""
    return len(one) == len(other) and all(
        a.id == b.id
        and is_close(a.cube, b.cube)
        and all(np.array_equal(a.masks[name], b.masks[name]) for name in a.masks)
        for a, b in zip(one, map(_to_sample, other), strict=True)
    )


def _to_sample(item: Any) -> Sample:
    return Sample(*item)
