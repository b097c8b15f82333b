"""docs/plugins.md is correct: its plugin installs and runs, and it has every signature."""

from __future__ import annotations

import importlib
import inspect
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from hseval import testing
from hseval.core import capabilities, hookspecs, protocols
from hseval.plugin import create_rng
from hseval.testing import make_example_set
from tests.helpers.commands import run_hseval_process
from tests.helpers.plugin_contract import (
    ATTRIBUTES,
    COMMON,
    OPTIONAL,
    REQUIRED,
    find_own_protocols,
    format_attribute_type,
    list_own_members,
)
from tests.helpers.sets import save_set

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
HOOKS = [name for name in vars(hookspecs) if name.startswith("hseval_")]
GENERAL = {"Plugin": "Hooks"}  # sections on members of all kinds
ATTRIBUTE_TYPES = [
    *(("Options", name, format_attribute_type(accessor)) for name, accessor in COMMON.items()),
    *(
        (f"{kind.capitalize()}s", name, format_attribute_type(accessor))
        for kind, accessors in ATTRIBUTES.items()
        for name, accessor in accessors.items()
    ),
]
MEMBERS = sorted(
    {
        (GENERAL.get(protocol.__name__, f"{kind.capitalize()}s"), protocol.__name__, name)
        for kind in REQUIRED
        for protocol in (*find_own_protocols(REQUIRED[kind]), *OPTIONAL[kind])
        for name in list_own_members(protocol)
    }
)


def format_signature(function: object) -> str:
    """Return name and signature as in the source, on one line."""
    return f"{function.__name__}{inspect.signature(function)}".replace("'", "")  # type: ignore[arg-type, attr-defined]


def format_member(protocol: str, name: str) -> str:
    """Return a method with its signature, or an attribute with its type, as the page has to have it."""
    protocol_class = vars(protocols).get(protocol) or vars(capabilities)[protocol]
    member = vars(protocol_class).get(name)
    if inspect.isfunction(member):
        return format_signature(member)
    annotations = inspect.get_annotations(member.fget if isinstance(member, property) else protocol_class)
    return f"{name}: {annotations['return' if member else name]}"


def get_section(title: str) -> str:
    """Return a section of the page with single spaces."""
    return re.sub(r"\s+", " ", PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0])


def get_block(language: str) -> str:
    """Return the page's first code block of a language."""
    match = re.search(rf"```{language}[^\n]*\n(.*?)```", PAGE, re.DOTALL)
    assert match is not None
    return match.group(1)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Install the page's plugin with pip into a folder; return an environment with this folder."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    (source / "pyproject.toml").write_text(get_block("toml"))
    (source / "hseval_mean_spectrum.py").write_text(get_block("python"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target"]
    subprocess.run([*pip, str(target), str(source)], check=True, timeout=120, env={**os.environ, "PIP_NO_INDEX": "1"})
    return {**os.environ, "PYTHONPATH": str(target)}


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_in_the_page_with_its_signature(name: str) -> None:
    assert f"`{format_signature(getattr(hookspecs, name))}`" in PAGE


@pytest.mark.parametrize(("section", "protocol", "name"), MEMBERS)
def test_every_member_is_in_its_section_with_its_type(section: str, protocol: str, name: str) -> None:
    assert f" {format_member(protocol, name)} " in get_section(section)


@pytest.mark.parametrize(("section", "name", "declared_type"), ATTRIBUTE_TYPES)
def test_every_attribute_is_in_its_section_with_its_type(section: str, name: str, declared_type: str) -> None:
    assert f" {name}: {declared_type} " in get_section(section)


@pytest.mark.parametrize("name", [name for name in testing.__all__ if name.startswith("check_")])
def test_every_check_is_in_the_page_with_its_parameters(name: str) -> None:
    parameters = inspect.signature(getattr(testing, name)).replace(return_annotation=inspect.Signature.empty)
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters.parameters.values()]
    assert f"`{name}{parameters.replace(parameters=bare)}`" in PAGE


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import the page's untitled blocks, but the last one, which checks them, as a module."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "documented_plugins.py").write_text("\n\n".join(blocks[:-1]))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "documented_plugins", raising=False)
    return importlib.import_module("documented_plugins")


def test_the_examples_of_the_page_fulfill_their_contracts(examples: ModuleType, tmp_path: Path) -> None:
    testing.check_extractor(examples.BandRange)
    testing.check_segmenter(examples.AboveMean)
    (tmp_path / "run").mkdir()
    testing.check_generator(examples.Noise, tmp_path=tmp_path / "run")
    file = tmp_path / "cubes.raw16"
    create_rng(0, "raw cubes").random((3, 16, 16, 16), dtype=np.float32).tofile(file)
    testing.check_reader(examples.RawReader, file)
    stream = io.StringIO()
    examples.Lines().render(SimpleNamespace(scores=[SimpleNamespace(name="fid", value=2.5)]), stream)
    assert stream.getvalue() == "fid 2.5\n"


def test_the_plugin_of_the_page_is_under_30_lines() -> None:
    lines = (get_block("toml") + get_block("python")).splitlines()
    assert len([line for line in lines if line.strip()]) < 30


def test_the_plugin_of_the_page_is_listed(installed: dict[str, str]) -> None:
    done = run_hseval_process("plugins", "--json", env=installed)
    entries = {entry["name"]: entry for entry in json.loads(done.stdout)["plugins"]}
    assert entries["mean-spectrum"]["kind"] == "metric"
    assert (entries["mean-spectrum"]["distribution"], entries["mean-spectrum"]["version"]) == (
        "hseval-mean-spectrum", "1.0",
    )  # fmt: skip


def test_the_plugin_of_the_page_fulfills_the_contract(installed: dict[str, str]) -> None:
    code = get_block("python") + "\nfrom hseval.testing import check_metric\nprint(check_metric(MeanSpectrum))\n"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, timeout=120, env=installed, capture_output=True, text=True)
    assert done.stdout.strip() in re.sub(r"\s+", " ", PAGE)


def test_the_plugin_of_the_page_scores(installed: dict[str, str], tmp_path: Path) -> None:
    real = save_set(tmp_path / "real.h5", make_example_set(12, seed=1, size=32))
    brighter = make_example_set(12, seed=2, size=32)
    brighter.cubes += 0.1 * brighter.masks["fov"][:, None]
    generated = save_set(tmp_path / "generated.h5", brighter)
    report = tmp_path / "report.json"
    command = ("score", generated, "--ref", real, "--metrics", "mean-spectrum", "--json", report)
    done = run_hseval_process(*command, env=installed)
    assert done.returncode == 0, done.stderr
    score = json.loads(report.read_text())["scores"][0]
    assert score["name"] == "mean-spectrum"
    assert score["value"] == pytest.approx(0.1, abs=0.05)
    assert score["floor"] < 0.05
