"""``hseval plugins``, and what broken plugins can do: be listed, and harm nobody else.

The plugins here are installed as pip leaves them (a module and a ``.dist-info`` with entry points), in a folder on
PYTHONPATH of a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hseval import __version__
from hseval.core.plugin_manager import HOOK_NAMES, get_plugins
from tests.helpers.commands import Outcome, hseval_process

Command = Callable[..., Outcome]

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
        cli.add_command(click.Command(name, callback=lambda: click.echo({says!r}), help="Say a word."))
{end}
"""
SOUND = METRIC.format(name="sound")
BROKEN = {
    "raises-at-import": ("import no_such_library", "No module named 'no_such_library'"),
    "exits-at-import": ("raise SystemExit('no licence')", "no licence"),
    "misspelt-hook": (METRIC.format(name="lost").replace("hseval_metrics", "hseval_metric"), "hseval_metrics"),
    "hook-with-argument": (METRIC.format(name="odd").replace("hseval_metrics()", "hseval_metrics(x)"), "'x'"),
    "raises-in-hook": (METRIC.format(name="late").replace("return [Metric]", "return [Metirc]"), "Metirc"),
    "returns-nothing": (METRIC.format(name="none").replace("return [Metric]", "pass"), "hseval_metrics"),
    "nameless": (METRIC.format(name="x").replace("class Metric:\n    name,", "class Metric:\n    title,"), "name"),
    "without-summary": (METRIC.format(name="mute").replace("name, summary,", "name, details,"), "summary"),
    "odd-options": (METRIC.format(name="opt").replace("    def compare", "    Options = dict\n    def compare"), "opt"),
    "takes-fid": (METRIC.format(name="fid"), "metric 'fid' is given by hseval and takes-fid: the built-in one is used"),
    "takes-score": (
        COMMANDS.format(names=["score"], says="mine", end=""),
        "command 'score' is given by hseval and takes-score: the built-in one is used",
    ),
    "replaces-info": (
        COMMANDS.format(names=[], says="", end="    cli.commands['info'] = click.Command('info')"),
        "command 'info' is given by hseval and replaces-info: the built-in one is used",
    ),
    "half-of-its-commands": (COMMANDS.format(names=["half"], says="", end="    1 / 0"), "ZeroDivisionError"),
    "exits-in-hook": (COMMANDS.format(names=["gone"], says="", end="    raise SystemExit('bye')"), "bye"),
    "no-command": (COMMANDS.format(names=[], says="", end="    cli.commands['odd'] = 5"), "'odd' is a int"),
    "say-one": (COMMANDS.format(names=["say"], says="1", end=""), "given by say-one and say-two: none can be used"),
    "say-two": (COMMANDS.format(names=["say"], says="2", end=""), "given by say-one and say-two: none can be used"),
    "twin-one": (GENERATOR.format(name="twin"), "given by twin-one and twin-two: none can be used"),
    "twin-two": (GENERATOR.format(name="twin"), "given by twin-one and twin-two: none can be used"),
}


def install(folder: Path, distribution: str, code: str) -> None:
    """Install a one-module distribution as pip would leave it."""
    module = distribution.replace("-", "_")
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(f"[hseval]\n{distribution} = {module}\n")


def surroundings(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(folder)}


def listing(folder: Path) -> dict[str, Any]:
    done = hseval_process("plugins", "--json", env=surroundings(folder))
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with one sound plugin and every broken one."""
    folder = tmp_path_factory.mktemp("site")
    install(folder, "sound", SOUND)
    install(folder, "sound-command", COMMANDS.format(names=["greet"], says="hello", end=""))
    for distribution, (code, _) in BROKEN.items():
        install(folder, distribution, code)
    return folder


@pytest.fixture(scope="module")
def listed(site: Path) -> dict[str, Any]:
    return listing(site)


@pytest.mark.parametrize("distribution", BROKEN)
def test_a_broken_plugin_is_listed_with_its_error(listed: dict[str, Any], distribution: str) -> None:
    found = [entry for entry in listed["broken"] if entry["distribution"] == distribution]
    assert len(found) == 1
    assert BROKEN[distribution][1] in found[0]["error"]
    assert found[0]["version"] == "1.5"
    assert "\n" not in found[0]["error"]


def test_beside_broken_plugins_everything_else_is_offered(listed: dict[str, Any]) -> None:
    offered = {(entry["kind"], entry["name"]): entry["distribution"] for entry in listed["plugins"]}
    assert offered[("metric", "sound")] == "sound"
    assert offered[("metric", "fid")] == "hseval"
    assert offered[("command", "greet")] == "sound-command"
    assert offered[("command", "score")] == offered[("command", "info")] == "hseval"
    for kind in HOOK_NAMES:
        for name in get_plugins().get_names(kind):
            assert (kind, name) in offered
    assert not set(offered.values()) & set(BROKEN)


def test_beside_broken_plugins_commands_work(site: Path, tmp_path: Path) -> None:
    typed = ("sample", "phantom", "-n", 1, "--set", "size=32", "--out", tmp_path / "eye.h5")
    done = hseval_process(*typed, env=surroundings(site))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_plugins_command_runs(site: Path) -> None:
    done = hseval_process("greet", env=surroundings(site))
    assert (done.returncode, done.stdout) == (0, "hello\n")


def test_a_built_in_command_can_not_be_replaced(site: Path) -> None:
    done = hseval_process("score", "--help", env=surroundings(site))
    assert "Score the generated cubes" in done.stdout


@pytest.mark.parametrize("name", ["say", "half", "gone", "odd"])
def test_a_command_of_two_distributions_or_of_a_broken_one_is_none(site: Path, name: str) -> None:
    done = hseval_process(name, env=surroundings(site))
    assert done.returncode == 2
    assert "No such command" in done.stderr


def test_commands_are_listed_with_what_they_do(listed: dict[str, Any]) -> None:
    commands = {entry["name"]: entry for entry in listed["plugins"] if entry["kind"] == "command"}
    ours = {"score", "qualify", "fit-extractor", "info", "train", "train-ldm", "sample", "plugins", "cache"}
    ours |= {"diff", "new-plugin", "pareto", "preview", "show", "sweep"}
    assert {*ours, "greet"} == set(commands)
    assert commands["greet"]["summary"] == "Say a word."
    assert (commands["greet"]["distribution"], commands["greet"]["version"]) == ("sound-command", "1.5")


def test_a_name_that_two_distributions_give_is_an_error_that_names_both(site: Path, tmp_path: Path) -> None:
    done = hseval_process("sample", "twin", "-n", 1, "--out", tmp_path / "out.h5", env=surroundings(site))
    assert done.returncode == 2
    assert done.stderr == "hseval: generator 'twin' is given by twin-one and twin-two: uninstall one of them\n"


def test_a_misspelt_hook_is_answered_with_the_right_one(listed: dict[str, Any]) -> None:
    error = next(entry["error"] for entry in listed["broken"] if entry["distribution"] == "misspelt-hook")
    assert "unknown hook 'hseval_metric' (did you mean 'hseval_metrics'?)" in error


def test_a_name_that_is_no_text_harms_nobody_else(tmp_path: Path) -> None:
    install(tmp_path, "numeric-name", METRIC.format(name=5))
    found = listing(tmp_path)
    assert [entry["distribution"] for entry in found["broken"]] == ["numeric-name"]
    assert ("metric", "fid") in {(entry["kind"], entry["name"]) for entry in found["plugins"]}


def test_plugins_without_broken_ones_lists_none(tmp_path: Path) -> None:
    install(tmp_path, "sound", SOUND)
    assert listing(tmp_path)["broken"] == []


def test_every_option_is_listed_with_its_default_and_help(hseval: Command) -> None:
    done = hseval("plugins", "--json")
    entries = {entry["name"]: entry for entry in json.loads(done.out)["plugins"]}
    assert entries["pca"]["distribution"] == "hseval-pca"
    assert entries["fid"]["version"] == __version__
    by_name = {found["name"]: found for found in entries["pca"]["options"]}
    assert by_name["variance"]["default"] == 0.99
    assert by_name["components"]["type"] == "int or none"
    assert all(found["help"] for entry in entries.values() for found in entry["options"])


def test_piped_output_is_one_unwrapped_line_a_fact(hseval: Command) -> None:
    lines = hseval("plugins").out.splitlines()
    assert any(line.startswith("generator pca (hseval-pca ") for line in lines)
    assert "    variance=0.99 (float): share of the variance to keep, above 0 and up to 1" in lines
    assert any(len(line) > 90 for line in lines)  # a table would have wrapped these
    assert not any("\x1b" in line for line in lines)


def test_on_a_terminal_it_is_a_table(site: Path) -> None:
    import pty

    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "hseval", "plugins"]
    environment = {**surroundings(site), "COLUMNS": "110", "TERM": "xterm"}
    with subprocess.Popen(command, stdout=follower, stderr=follower, env=environment) as process:
        os.close(follower)
        printed = _read_all(leader)
    assert process.returncode == 0
    assert "what it does" in printed
    assert "\x1b[" in printed
    assert "takes-fid" in printed


def _read_all(leader: int) -> str:
    parts = []
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # how a pseudo-terminal says that the other side closed
            break
        if not part:
            break
        parts.append(part)
    os.close(leader)
    return b"".join(parts).decode()


def test_listing_plugins_loads_no_heavy_library() -> None:
    code = (
        "import sys; sys.argv = ['hseval', 'plugins']\n"
        "from hseval.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'torchvision', 'faiss', 'sklearn', 'scipy', 'h5py', 'spectral', 'tifffile', 'safetensors'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stderr == "[]\n"
