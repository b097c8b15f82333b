"""docs/plugins.md is correct: its plugin installs and runs, and it has every signature."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hseval import testing
from hseval.core import hookspecs
from hseval.testing import make_example_set
from tests.helpers.commands import run_hseval_process
from tests.helpers.sets import save_set

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
ONE_SPACE = re.sub(r"\s+", " ", PAGE)
PROTOCOLS = ("Reader", "Extractor", "Metric", "Segmenter", "Generator", "Renderer")
HOOKS = [name for name in vars(hookspecs) if name.startswith("hseval_")]
METHODS = [
    (protocol, name)
    for protocol in PROTOCOLS
    for name, member in vars(getattr(hookspecs, protocol)).items()
    if inspect.isfunction(member) and (not name.startswith("_") or name == "__call__")
]


def format_signature(function: object) -> str:
    """Return name and signature as in the source, on one line."""
    return f"{function.__name__}{inspect.signature(function)}".replace("'", "")  # type: ignore[arg-type, attr-defined]


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


@pytest.mark.parametrize(("protocol", "name"), METHODS)
def test_every_method_is_in_the_page_with_its_signature(protocol: str, name: str) -> None:
    assert format_signature(vars(getattr(hookspecs, protocol))[name]) in ONE_SPACE


@pytest.mark.parametrize("name", [name for name in testing.__all__ if name.startswith("check_")])
def test_every_check_is_in_the_page_with_its_parameters(name: str) -> None:
    parameters = inspect.signature(getattr(testing, name)).replace(return_annotation=inspect.Signature.empty)
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters.parameters.values()]
    assert f"`{name}{parameters.replace(parameters=bare)}`" in PAGE


@pytest.mark.parametrize(
    ("section", "declaration"),
    [
        ("Metrics", "`version`"),
        ("Extractors", "`version`"),
        ("Extractors", "`fingerprint(self)`"),
        ("Extractors", "`device`"),
        ("Extractors", "`reads_structures = False`"),
        ("Extractors", "`needs_nm = True`"),
        ("Generators", "`version`"),
        ("Generators", "`device`"),
        ("Generators", "`units`"),
    ],
)
def test_every_declaration_that_hseval_reads_is_in_its_section(section: str, declaration: str) -> None:
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    assert declaration in text


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
    code = get_block("python") + "\nfrom hseval.testing import check_metric\ncheck_metric(MeanSpectrum)\n"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env=installed)


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
