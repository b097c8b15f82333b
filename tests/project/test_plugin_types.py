"""mypy --strict accepts every built-in and bundled plugin, and every new one, where its Protocol is expected."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hseval.core.plugin_manager import get_plugins
from hseval.newplugin.naming import TEMPLATE_KINDS, PluginNames
from hseval.newplugin.writing import write_plugin
from hseval.plugin import capabilities
from tests.helpers.plugin_contract import ATTRIBUTES, COMMON, OPTIONAL, REQUIRED, format_attribute_type, list_members

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = {"hseval", "hseval-pca", "hseval-diffusers", "hseval-monai", "hseval-ndi"}
HEADER = """\
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from hseval.plugin import (
    CubeSet, Direction, Extractor, FeatureTable, Generator, Metric, Needs, Reader, Renderer, Sample, ScoreParts,
    Segmenter, capabilities,
)
"""
for name, accessor in (COMMON | {name: each for kind in ATTRIBUTES.values() for name, each in kind.items()}).items():
    HEADER += f"""
class Has_{name}(Protocol):
    @property
    def {name}(self) -> {format_attribute_type(accessor)}: ...
"""
# Each line that is wrong ends with a comment, and each error has to stand on such a line.
WRONG = "  # wrong"
PLANTED = """
class Complete:
    name: ClassVar[str] = "complete"
    summary: ClassVar[str] = "fulfills the contract of metrics"
    better: ClassVar[Direction] = "lower"
    needs: ClassVar[Needs] = Needs()

    def compare(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None, rng: np.random.Generator
    ) -> float:
        return 0.0

class Positional(Complete):
    def compare(self, real: FeatureTable, generated: FeatureTable) -> float:  # type: ignore[override]
        return 0.0

class BetterIsText(Complete):
    better: ClassVar[str] = "bigger"  # type: ignore[assignment]

class ThreeBounds(Complete):
    bounds = (0.0, 1.0, 2.0)

class HeadlineIsText(Complete):
    def headline(self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None) -> str:
        return ""

class Unnamed:
    summary = "a reader without a name"

    def claims(self, path: Path) -> bool:
        return False

    def open(self, path: Path, *, layout: str | None = None, wavelengths: NDArray[Any] | None = None) -> CubeSet:
        raise NotImplementedError

class ListOfMasks:
    name = version = summary = "list"

    def fit(self, data: CubeSet) -> None: ...

    def segment(self, cubes: NDArray[np.float32], *, wavelengths: NDArray[Any]) -> list[NDArray[np.bool_]]:
        return []

class Seedless:
    name = version = summary = "seedless"
    wavelengths = None

    def load(self, path: Path | None) -> None: ...

    def sample(self, n: int) -> Iterator[Sample]:
        return iter(())

class NumberedVersion:
    name, version, summary = "numbered", 1, "the version is an int"

    def __call__(
        self, cubes: NDArray[np.float32], *, wavelengths: NDArray[Any], masks: Mapping[str, NDArray[np.bool_]]
    ) -> NDArray[np.float32]:
        return cubes

a: type[Metric] = Complete
b: type[Metric] = Positional  # wrong
c: Metric = BetterIsText()  # wrong
d: Has_bounds = ThreeBounds()  # wrong
e: capabilities.SupportsHeadline = HeadlineIsText()  # wrong
f: Callable[[], Reader] = Unnamed  # wrong
g: type[Segmenter] = ListOfMasks  # wrong
h: type[Generator] = Seedless  # wrong
i: type[Extractor] = NumberedVersion  # wrong
"""


def list_classes() -> Iterator[tuple[str, type]]:
    """Yield the kind and the class of every plugin that this repository brings."""
    for kind in REQUIRED:
        for name in get_plugins().get_names(kind):
            (registration,) = get_plugins().get_registrations(kind)[name]
            if registration.distribution in DISTRIBUTIONS:
                yield kind, registration.factory


def state_types(number: int, kind: str, plugin_class: type) -> Iterator[str]:
    """Yield lines that mypy accepts if a class has the type of its kind, and of every capability that it has."""
    alias, protocol = f"Class{number}", REQUIRED[kind].__name__
    yield f"from {plugin_class.__module__} import {plugin_class.__name__} as {alias}"
    yield f"class{number}: type[{protocol}] = {alias}"
    yield f"factory{number}: Callable[[], {protocol}] = {alias}"
    instance = plugin_class()
    for capability in OPTIONAL[kind]:
        if all(hasattr(instance, member) for member in list_members(capability)):
            result = f"capabilities.{capability.__name__}"
            yield f"def get_{number}_{capability.__name__}(instance: {alias}) -> {result}: return instance"
    for name in COMMON | ATTRIBUTES.get(kind, {}):
        if hasattr(instance, name):
            yield f"def get_{number}_{name}(instance: {alias}) -> Has_{name}: return instance"


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[int]]:
    """Run mypy once over the stated types, the planted faults and new plugins; return lines with errors by file."""
    folder = tmp_path_factory.mktemp("types")
    templates = [PluginNames(kind, f"typed-{kind}") for kind in TEMPLATE_KINDS]
    lines = [HEADER]
    for number, (kind, plugin_class) in enumerate(list_classes()):
        lines += state_types(number, kind, plugin_class)
    for names in templates:
        write_plugin(names, folder / names.kind)
        lines.append(f"from {names.module} import {names.class_name}")
        lines.append(f"{names.kind}_class: type[{names.kind.capitalize()}] = {names.class_name}")
    (folder / "stated.py").write_text("\n".join(lines))
    (folder / "planted.py").write_text(HEADER + PLANTED)
    paths = [ROOT, *(ROOT / "plugins").iterdir(), *(folder / names.kind for names in templates)]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", "--no-pretty"),
            *(folder / "stated.py", folder / "planted.py", *folder.rglob("*/*.py")),
        ],
        cwd=ROOT, env={**os.environ, "MYPYPATH": os.pathsep.join(map(str, paths))},
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert not done.stderr, done.stderr
    found: dict[str, set[int]] = {}
    for path, line in re.findall(r"^(.+?):(\d+): error:", done.stdout, re.MULTILINE):
        # Not by `folder`: mypy's cache may name the folder of an earlier run of this test.
        if not (ROOT / path).resolve().is_relative_to(ROOT.resolve()):
            found.setdefault(Path(path).name, set()).add(int(line))
    print(done.stdout)  # shown where a test fails
    return found


def test_every_class_has_the_type_of_its_kind(errors: dict[str, set[int]]) -> None:
    assert set(errors) == {"planted.py"}


def test_every_planted_fault_is_found(errors: dict[str, set[int]]) -> None:
    lines = (HEADER + PLANTED).splitlines()
    assert {lines[number - 1] for number in errors["planted.py"]} == {line for line in lines if line.endswith(WRONG)}


def test_no_bundled_plugin_and_no_capability_is_left_out() -> None:
    assert {kind for kind, _ in list_classes()} == set(REQUIRED)
    assert {plugin_class.__name__ for _, plugin_class in list_classes()} >= {"Fid", "Ldm", "Pca", "Monai", "Ndi"}
    listed = {capability for kind in OPTIONAL.values() for capability in kind}
    others = {capabilities.Fitter, capabilities.SetsByRole}
    protocols = {each for each in vars(capabilities).values() if getattr(each, "_is_protocol", False)}
    assert protocols - {capabilities.Protocol} == listed | others
