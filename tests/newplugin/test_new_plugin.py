"""``hseval new-plugin``: the new plugin passes its own tests, works at once, and is written atomically."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hseval.core.plugin_manager import get_plugins
from hseval.newplugin.naming import MAX_NAME_LENGTH, TEMPLATE_KINDS, PluginNames, validate_names
from hseval.newplugin.writing import write_plugin
from hseval.testing import make_example_set
from tests.helpers.sets import make_texture_set, save_set

ROOT = Path(__file__).parents[2]
NAME_BY_KIND = {kind: f"new-{kind}" for kind in TEMPLATE_KINDS}

Hseval = Callable[..., Any]


def run(*command: object, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def created(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a plugin of each kind, and install all of them into ``site``."""
    base = tmp_path_factory.mktemp("created")
    for kind, name in NAME_BY_KIND.items():
        write_plugin(validate_names(kind, name, get_plugins()), base / kind)
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    copies = [
        shutil.copytree(base / kind, base / "built" / kind) for kind in TEMPLATE_KINDS
    ]  # a build writes files into its folder
    run(*pip, "--target", base / "site", *copies, cwd=base)
    return base


@pytest.fixture
def installed(created: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make the installed plugins importable in this process."""
    monkeypatch.syspath_prepend(str(created / "site"))
    get_plugins.cache_clear()
    yield created
    get_plugins.cache_clear()
    for module in [name for name in sys.modules if name.startswith("hseval_new_")]:
        del sys.modules[module]


def test_the_tests_of_each_new_plugin_pass(created: Path) -> None:
    output = run(sys.executable, "-m", "pytest", "-q", *TEMPLATE_KINDS, cwd=created, PYTHONPATH=str(created / "site"))
    assert "13 passed" in output


def test_each_new_plugin_passes_the_projects_lint(created: Path) -> None:
    for kind in TEMPLATE_KINDS:
        longest = created / f"{kind}-longest"
        write_plugin(PluginNames(kind, "a" * MAX_NAME_LENGTH), longest)
        for folder in (created / kind, longest):
            ruff = (sys.executable, "-m", "ruff")
            run(*ruff, "check", "--no-cache", "--config", ROOT / "pyproject.toml", ".", cwd=folder)
            run(*ruff, "check", "--no-cache", "--isolated", "--line-length", "120", ".", cwd=folder)
        run(*ruff, "format", "--no-cache", "--check", "--config", ROOT / "pyproject.toml", ".", cwd=created / kind)


def test_each_new_plugin_is_listed_and_works_in_the_commands(installed: Path, tmp_path: Path, hseval: Hseval) -> None:
    listed = json.loads(hseval("plugins", "--json").out)
    entries = {entry["kind"]: entry for entry in listed["plugins"] if entry["name"] in NAME_BY_KIND.values()}
    assert {kind: entry["name"] for kind, entry in entries.items()} == NAME_BY_KIND
    assert {entry["distribution"] for entry in entries.values()} == {f"hseval-{name}" for name in NAME_BY_KIND.values()}
    assert not [entry for entry in listed["broken"] if "new" in entry["distribution"]]

    real = save_set(tmp_path / "real.h5", make_texture_set(8, seed=1, size=24))
    train = hseval("train", "new-generator", real, "--out", tmp_path / "run")
    assert (train.status, train.err) == (0, "")
    samples = tmp_path / "samples.h5"
    sample = ("sample", "new-generator", "--checkpoint", tmp_path / "run", "-n", 8, "--out", samples)
    assert hseval(*sample, "--set", "strength=0.5").status == 0
    report = tmp_path / "report.json"
    score = ("score", samples, "--ref", real, "--json", report, "--no-cache", "--workers", 0)
    scored = hseval(*score, "--metrics", "new-metric,fid", "--extractor", "new-extractor")
    assert scored.status == 0, scored.err
    scores = {entry["name"]: entry for entry in json.loads(report.read_text())["scores"]}
    assert scores["new-metric"]["value"] > 0
    assert scores["fid"]["details"]["extractor"].startswith("new-extractor")

    cubes = make_example_set(2)
    header = {"shape": cubes.cubes.shape, "wavelengths": cubes.wavelengths.tolist()}
    (tmp_path / "a.new-reader").write_bytes(json.dumps(header).encode() + b"\n" + cubes.cubes.tobytes())
    info = hseval("info", tmp_path / "a.new-reader")
    assert "6 x 48 x 48 (band, y, x)" in info.out


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        (
            "metrik",
            "x",
            r"kind 'metrik'; .* metric, extractor, generator or reader \(did you mean 'metric'",
        ),
        ("segmenter", "x", "there is no template for plugins of kind 'segmenter'"),
        (
            "metric",
            "Mean Spectrum",
            r"'Mean Spectrum' is not a valid .* \(did you mean 'mean-spectrum'\?\)",
        ),
        ("metric", "MeanSpectrum", r"\(did you mean 'mean-spectrum'\?\)"),
        ("metric", "hseval-mean_spectrum", r"\(did you mean 'mean-spectrum'\?\)"),
        ("metric", "../escape", r"'\.\./escape' is not a valid plugin name; .* \(did you mean 'escape'\?\)"),
        ("metric", "2d", r"at most 32 characters \(did you mean 'd'\?\)"),
        ("metric", "a" * 33, r"at most 32 characters \(did you mean 'a{32}'\?\)"),
        ("metric", "fid", r"metric 'fid' is already provided by hseval \(did you mean 'my-fid'\?\)"),
        (
            "metric",
            "all",
            r"'all' is reserved: .* where a metric is named \(did you mean 'my-all'\?\)",
        ),
        ("generator", "pca", r"generator 'pca' is already provided by hseval-pca"),
        ("metric", "pca", r"a distribution 'hseval-pca' is already installed \(did you mean 'my-pca'\?\)"),
        ("metric", "ldm", r"a module 'hseval_ldm' is already installed"),
        ("metric", "-", r"'-' is not a valid plugin name; .* 32 characters$"),
    ],
)
def test_an_unusable_name_is_refused_with_the_nearest_usable_one(
    kind: str, name: str, message: str, tmp_path: Path, hseval: Hseval
) -> None:
    refused = hseval("new-plugin", "--out", tmp_path / "new", "--", kind, name)
    assert refused.status == 2
    assert refused.err.count("\n") == 1
    assert re.search(message, refused.err.strip())
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_refused_and_not_changed(
    tmp_path: Path, hseval: Hseval, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = hseval("new-plugin", "metric", "depth")
    assert made.status == 0
    assert sorted(path.name for path in (tmp_path / "hseval-depth").iterdir()) == [
        "README.md", "hseval_depth.py", "pyproject.toml", "tests",
    ]  # fmt: skip
    (tmp_path / "hseval-depth" / "README.md").write_text("mine")
    refused = hseval("new-plugin", "metric", "depth")
    assert (refused.status, "exists already" in refused.err) == (2, True)
    assert (tmp_path / "hseval-depth" / "README.md").read_text() == "mine"
    nowhere = hseval("new-plugin", "metric", "depth", "--out", tmp_path / "none" / "depth")
    assert (nowhere.status, "does not exist" in nowhere.err) == (2, True)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, hseval: Hseval, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text = Path.write_text

    def raise_no_space(path: Path, *args: Any, **options: Any) -> int:
        if path.name == "pyproject.toml":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write_text(path, *args, **options)

    monkeypatch.setattr(Path, "write_text", raise_no_space)
    refused = hseval("new-plugin", "generator", "depth", "--out", tmp_path / "depth")
    assert (refused.status, "No space left on device" in refused.err) == (2, True)
    assert list(tmp_path.iterdir()) == []
