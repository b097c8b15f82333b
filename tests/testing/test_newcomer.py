"""Errors of the contract checks for beginners' mistakes: each names the mistake and its fix."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hseval import Cube, CubeSet, Needs, Sample, option
from hseval.testing import ContractError, check_extractor, check_generator, check_metric, check_reader
from hseval.utils.random_streams import create_rng


class Metric:
    name, summary, better = "mine", "mine", "lower"
    needs = Needs(features=("spectra",))

    def compare(self, *, real: Any, generated: Any, train: Any = None, rng: Any) -> float:
        return float(np.nanmean(real["spectra/mean"]) - np.nanmean(generated["spectra/mean"]))


class Extractor:
    name, summary, version = "mine", "mine", "1"

    def __call__(self, cubes: Any, *, wavelengths: Any, masks: Any) -> Any:
        return np.nanmean(cubes, axis=(2, 3))


class Generator:
    name, summary, version = "mine", "mine", "1"
    wavelengths = np.array([500.0, 600.0])

    def load(self, path: Path | None) -> None: ...

    def sample(self, n: int, *, seed: int) -> Iterator[Any]:
        return (Sample(make_cube(seed, i), {}, f"mine-{seed}-{i}") for i in range(n))


class Reader:
    name, summary = "mine", "mine"

    def claims(self, path: Path) -> bool:
        return path.suffix == ".mine"

    def open(self, path: Path, *, layout: Any = None, wavelengths: Any = None) -> Any:
        return SetWithoutInfo()


class SetWithoutInfo(CubeSet):
    def read(self, index: int) -> Cube:
        return Cube(np.zeros((2, 3, 3), np.float32))

    def shape(self, index: int) -> tuple[int, int, int]:
        return 2, 3, 3


@dataclasses.dataclass(frozen=True)
class Options:
    bins: int = option(64, "number of bins")


def make_cube(seed: int, index: int) -> Any:
    return create_rng(seed, "mine", index).random((2, 8, 8), dtype=np.float32)


def make_sample(make: Callable[[int, int], Any]) -> Callable[..., Iterator[Any]]:
    def sample(self: Any, n: int, *, seed: int) -> Iterator[Any]:
        return (make(seed, i) for i in range(n))

    return sample


def make_compare(column: str) -> Callable[..., float]:
    def compare(self: Any, *, real: Any, generated: Any, train: Any = None, rng: Any) -> float:
        return float(real[column].mean())

    return compare


def check_changed_plugin(base: type, tmp_path: Path, **changes: Any) -> None:
    """Check a plugin by the contract of its kind, with some of its attributes changed, or removed (None)."""
    body = {name: value for name, value in vars(base).items() if not name.startswith("__") or name == "__call__"}
    plugin = type(base.__name__, (), {name: value for name, value in {**body, **changes}.items() if value is not None})
    if base is Metric:
        check_metric(plugin)
    elif base is Extractor:
        check_extractor(plugin)
    elif base is Generator:
        check_generator(plugin, tmp_path=tmp_path)
    else:
        (tmp_path / "a.mine").write_text("anything")
        check_reader(plugin, tmp_path / "a.mine")


@pytest.mark.parametrize("base", [Metric, Extractor, Generator])
def test_the_plugins_pass_without_mistakes(base: type, tmp_path: Path) -> None:
    check_changed_plugin(base, tmp_path)


MISTAKES = [
    (
        Metric,
        {"compare": None},
        r"no method compare; metrics have compare\(self, \*, real, generated, train=None, rng\)",
    ),
    (Metric, {"needs": None}, r"its needs is None; .* such as Needs\(features=\('spectra',\)\)"),
    (Metric, {"needs": Needs(features="spectra")}, r"needs.features is 'spectra'; .* needs a comma"),  # type: ignore[arg-type]
    (Metric, {"needs": Needs(features=("spectre",))}, r"no extractor is called 'spectre' \(did you mean 'spectra'\?\)"),
    (
        Metric,
        {"compare": make_compare("spectra/means")},
        r"KeyError: 'spectra/means'; .* have .* spectra/mean,",
    ),
    (
        Metric,
        {"compare": make_compare("scattering")},
        r"there if needs = Needs\(features=\('its-name', \.\.\.\)\)",
    ),
    (Metric, {"Options": Options, "__init__": lambda self: None}, r"def __init__\(self, options=None\): self"),
    (Extractor, {"__call__": None}, r"no method __call__; extractors have __call__\(self, cubes, \*, wavelengths"),
    (Extractor, {"__call__": lambda self, cubes, *, wavelengths, masks: [1.0]}, r"is a list, not a float array"),
    (
        Extractor,
        {"__call__": lambda self, cubes, *, wavelengths, masks: masks["vein"].mean((1, 2))},
        r"KeyError: 'vein'; masks has disc, fov\. Only 'fov' is in every set: loop over sorted\(masks\)",
    ),
    (Generator, {"sample": None}, r"no method sample; generators have sample\(self, n, \*, seed, start=0\)"),
    (Generator, {"sample": lambda self, n, seed: iter([])}, r"'seed' by position; .* swapped arguments go unnoticed"),
    (Generator, {"load": None}, r"no method load; generators have load\(self, path, device=None\)"),
    (Generator, {"load": lambda self: None}, r"load can't be called with a path .* the folder that fit wrote, or None"),
    (
        Generator,
        {"sample": make_sample(make_cube)},
        r"sample yields ndarray; expected hseval.Sample\(cube, masks, id\)",
    ),
    (
        Generator,
        {"sample": make_sample(lambda s, i: (make_cube(s, i), {}))},
        r"sample yields tuple of 2; expected hseval",
    ),
    (
        Generator,
        {"sample": make_sample(lambda s, i: (make_cube(s, i), None, str(i)))},
        r"masks are NoneType; .*\{\} for no",
    ),
    (
        Generator,
        {"sample": make_sample(lambda s, i: ([1.0], {}, str(i)))},
        r"its 'cube' is list, not a numpy array",
    ),
    (Reader, {"claims": None}, r"no method claims; readers have claims\(self, path\) -> bool"),
    (
        Reader,
        {},
        r"its set has no info; a CubeSet sets self.info = hseval.plugin.SetInfo\(location, ids, wavelengths\)",
    ),
    (
        Reader,
        {"claims": lambda self, path: bool(path.read_bytes())},
        r"claims raises FileNotFoundError.*return False",
    ),
]


@pytest.mark.parametrize(("base", "changes", "message"), MISTAKES)
def test_the_error_for_a_beginners_mistake_names_its_fix(
    base: type, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ContractError, match=message):
        check_changed_plugin(base, tmp_path, **changes)


def test_a_missing_file_is_reported_as_such(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"there is no .*none\.mine' to check it on; write a small file"):
        check_reader(Reader, tmp_path / "none.mine")
