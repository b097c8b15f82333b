"""``hseval plugins``; and broken plugins are listed without affecting any other.

The plugins are installed as by pip (a module and a ``.dist-info`` with entry points), in a folder on the PYTHONPATH of
a separate process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hseval import __version__
from hseval.core.plugin_manager import HOOK_NAMES, get_plugins
from tests.helpers.commands import Command, run_hseval_process, run_on_terminal

METRIC = """
from hseval import Needs, hookimpl

class Metric:
    name, summary, better, needs = {name!r}, "does nothing", "lower", Needs()

    def compare(self, *, real, generated, train=None, rng):
        return 0.0

@hookimpl
def hseval_metrics():
    return [Metric]
"""
GENERATOR = """
from hseval import hookimpl

class Generator:
    name, version, summary = {name!r}, "1", "yields nothing"

@hookimpl
def hseval_generators():
    return [Generator]
"""
COMMANDS = """
import click
from hseval import hookimpl

@hookimpl
def hseval_commands(cli):
    for name in {names!r}:
        cli.add_command(click.Command(name, callback=lambda: click.echo({output!r}), help="Print a word."))
{end}
"""
WORKING_METRIC = METRIC.format(name="sound")
BROKEN = {
    "raises-at-import": ("import no_such_library", "No module named 'no_such_library'"),
    "exits-at-import": ("raise SystemExit('no license')", "no license"),
    "misspelled-hook": (METRIC.format(name="lost").replace("hseval_metrics", "hseval_metric"), "hseval_metrics"),
    "hook-with-argument": (METRIC.format(name="odd").replace("hseval_metrics()", "hseval_metrics(x)"), "'x'"),
    "raises-in-hook": (METRIC.format(name="late").replace("return [Metric]", "return [Metirc]"), "Metirc"),
    "returns-nothing": (METRIC.format(name="none").replace("return [Metric]", "pass"), "hseval_metrics"),
    "nameless": (METRIC.format(name="x").replace("class Metric:\n    name,", "class Metric:\n    title,"), "name"),
    "without-summary": (METRIC.format(name="mute").replace("name, summary,", "name, details,"), "summary"),
    "odd-options": (METRIC.format(name="opt").replace("    def compare", "    Options = dict\n    def compare"), "opt"),
    "takes-fid": (
        METRIC.format(name="fid"),
        "metric 'fid' is provided by hseval and takes-fid: the built-in one is used",
    ),
    "takes-score": (
        COMMANDS.format(names=["score"], output="mine", end=""),
        "command 'score' is provided by hseval and takes-score: the built-in one is used",
    ),
    "replaces-info": (
        COMMANDS.format(names=[], output="", end="    cli.commands['info'] = click.Command('info')"),
        "command 'info' is provided by hseval and replaces-info: the built-in one is used",
    ),
    "half-of-its-commands": (COMMANDS.format(names=["half"], output="", end="    1 / 0"), "ZeroDivisionError"),
    "exits-in-hook": (COMMANDS.format(names=["gone"], output="", end="    raise SystemExit('bye')"), "bye"),
    "no-command": (COMMANDS.format(names=[], output="", end="    cli.commands['odd'] = 5"), "'odd' is a int"),
    "say-one": (
        COMMANDS.format(names=["say"], output="1", end=""),
        "provided by say-one and say-two: none can be used",
    ),
    "say-two": (
        COMMANDS.format(names=["say"], output="2", end=""),
        "provided by say-one and say-two: none can be used",
    ),
    "twin-one": (GENERATOR.format(name="twin"), "provided by twin-one and twin-two: none can be used"),
    "twin-two": (GENERATOR.format(name="twin"), "provided by twin-one and twin-two: none can be used"),
}


def install(folder: Path, distribution: str, code: str) -> None:
    """Install a one-module distribution in the form that pip leaves."""
    module = distribution.replace("-", "_")
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(f"[hseval]\n{distribution} = {module}\n")


def make_environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(folder)}


def list_plugins(folder: Path) -> dict[str, Any]:
    completed = run_hseval_process("plugins", "--json", env=make_environment(folder))
    assert completed.returncode == 0, completed.stderr
    listing: dict[str, Any] = json.loads(completed.stdout)
    return listing


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two working plugins and every broken one."""
    folder = tmp_path_factory.mktemp("site")
    install(folder, "sound", WORKING_METRIC)
    install(folder, "sound-command", COMMANDS.format(names=["greet"], output="hello", end=""))
    for distribution, (code, _) in BROKEN.items():
        install(folder, distribution, code)
    return folder


@pytest.fixture(scope="module")
def listing(site: Path) -> dict[str, Any]:
    return list_plugins(site)


@pytest.mark.parametrize("distribution", BROKEN)
def test_a_broken_plugin_is_listed_with_its_error(listing: dict[str, Any], distribution: str) -> None:
    entries = [entry for entry in listing["broken"] if entry["distribution"] == distribution]
    assert len(entries) == 1
    assert BROKEN[distribution][1] in entries[0]["error"]
    assert entries[0]["version"] == "1.5"
    assert "\n" not in entries[0]["error"]


def test_despite_broken_plugins_everything_else_is_listed(listing: dict[str, Any]) -> None:
    distributions = {(entry["kind"], entry["name"]): entry["distribution"] for entry in listing["plugins"]}
    assert distributions[("metric", "sound")] == "sound"
    assert distributions[("metric", "fid")] == "hseval"
    assert distributions[("command", "greet")] == "sound-command"
    assert distributions[("command", "score")] == distributions[("command", "info")] == "hseval"
    for kind in HOOK_NAMES:
        for name in get_plugins().get_names(kind):
            assert (kind, name) in distributions
    assert not set(distributions.values()) & set(BROKEN)


def test_despite_broken_plugins_commands_work(site: Path, tmp_path: Path) -> None:
    arguments = ("sample", "phantom", "-n", 1, "--set", "size=32", "--out", tmp_path / "eye.h5")
    completed = run_hseval_process(*arguments, env=make_environment(site))
    assert (completed.returncode, completed.stderr) == (0, "")


def test_a_plugins_command_runs(site: Path) -> None:
    completed = run_hseval_process("greet", env=make_environment(site))
    assert (completed.returncode, completed.stdout) == (0, "hello\n")


def test_a_built_in_command_cannot_be_replaced(site: Path) -> None:
    completed = run_hseval_process("score", "--help", env=make_environment(site))
    assert "Score the generated cubes" in completed.stdout


@pytest.mark.parametrize("name", ["say", "half", "gone", "odd"])
def test_a_command_of_two_distributions_or_of_a_broken_one_does_not_exist(site: Path, name: str) -> None:
    completed = run_hseval_process(name, env=make_environment(site))
    assert completed.returncode == 2
    assert "No such command" in completed.stderr


def test_commands_are_listed_with_their_summary(listing: dict[str, Any]) -> None:
    commands = {entry["name"]: entry for entry in listing["plugins"] if entry["kind"] == "command"}
    built_in = {"score", "qualify", "fit-extractor", "info", "train", "train-ldm", "sample", "plugins", "cache"}
    built_in |= {"diff", "new-plugin", "pareto", "preview", "show", "sweep"}
    assert {*built_in, "greet"} == set(commands)
    assert commands["greet"]["summary"] == "Print a word."
    assert (commands["greet"]["distribution"], commands["greet"]["version"]) == ("sound-command", "1.5")


def test_a_name_that_two_distributions_provide_is_an_error_that_names_both(site: Path, tmp_path: Path) -> None:
    completed = run_hseval_process("sample", "twin", "-n", 1, "--out", tmp_path / "out.h5", env=make_environment(site))
    assert completed.returncode == 2
    assert completed.stderr == "hseval: generator 'twin' is provided by twin-one and twin-two: uninstall one of them\n"


def test_a_misspelled_hook_is_reported_with_the_nearest_one(listing: dict[str, Any]) -> None:
    error = next(entry["error"] for entry in listing["broken"] if entry["distribution"] == "misspelled-hook")
    assert "unknown hook 'hseval_metric' (did you mean 'hseval_metrics'?)" in error


def test_a_name_that_is_not_a_string_affects_no_other_plugin(tmp_path: Path) -> None:
    install(tmp_path, "numeric-name", METRIC.format(name=5))
    listing = list_plugins(tmp_path)
    assert [entry["distribution"] for entry in listing["broken"]] == ["numeric-name"]
    assert ("metric", "fid") in {(entry["kind"], entry["name"]) for entry in listing["plugins"]}


def test_without_broken_plugins_none_is_listed(tmp_path: Path) -> None:
    install(tmp_path, "sound", WORKING_METRIC)
    assert list_plugins(tmp_path)["broken"] == []


def test_every_option_is_listed_with_its_default_and_help(hseval: Command) -> None:
    completed = hseval("plugins", "--json")
    entries = {entry["name"]: entry for entry in json.loads(completed.out)["plugins"]}
    assert entries["pca"]["distribution"] == "hseval-pca"
    assert entries["fid"]["version"] == __version__
    by_name = {option["name"]: option for option in entries["pca"]["options"]}
    assert by_name["variance"]["default"] == 0.99
    assert by_name["components"]["type"] == "int or none"
    assert all(option["help"] for entry in entries.values() for option in entry["options"])


def test_piped_output_has_one_unwrapped_line_an_entry(hseval: Command) -> None:
    lines = hseval("plugins").out.splitlines()
    assert any(line.startswith("generator pca (hseval-pca ") for line in lines)
    assert any(len(line) > 90 for line in lines)  # a table would have wrapped these
    assert not any("\x1b" in line for line in lines)


def test_terminal_output_has_a_section_a_kind(site: Path) -> None:
    printed = run_on_terminal([sys.executable, "-m", "hseval", "plugins"], env=make_environment(site))
    assert printed.status == 0
    assert "metric:\n" in printed.out
    assert "takes-fid" in printed.out
    assert max(map(len, printed.out.splitlines())) <= 80


def test_listing_plugins_loads_no_heavy_library() -> None:
    code = (
        "import sys; sys.argv = ['hseval', 'plugins']\n"
        "from hseval.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'torchvision', 'faiss', 'sklearn', 'scipy', 'h5py', 'spectral', 'tifffile', 'safetensors'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert completed.stderr == "[]\n"
