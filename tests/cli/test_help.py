"""Help fits 80 columns, shells complete what is typed, and ``hseval plugins`` shows what is installed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import click
import pytest

from hseval.cli.main import cli
from hseval.core.plugin_manager import get_plugins
from tests.helpers.commands import Outcome, run_hseval_process

Run = Callable[..., Outcome]
COLUMNS = 80


def iterate_commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command with what is typed for it."""
    get_plugins().add_commands(cli)
    for name, command in cli.commands.items():
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", subcommand) for inner, subcommand in command.commands.items())


COMMANDS = dict(iterate_commands())


def make_formatter(command: click.Command) -> tuple[click.Context, click.HelpFormatter]:
    return click.Context(command, info_name="hseval"), click.HelpFormatter(width=COLUMNS - 2)


@pytest.mark.parametrize("words", [(), ("cache",)], ids=["hseval", "cache"])
def test_summaries_of_commands_are_whole(hseval: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    rows = hseval(*words, "--help").out.split("Commands:\n")[1].split("\n\n")[0].splitlines()
    names = [name for name in COMMANDS if name.split()[:-1] == list(words)]
    assert sorted(row.split()[0] for row in rows) == sorted(name.split()[-1] for name in names)
    assert all(row.endswith(".") and not row.endswith("...") for row in rows)
    assert max(map(len, rows)) <= COLUMNS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_one_line(name: str) -> None:
    context, formatter = make_formatter(COMMANDS[name])
    COMMANDS[name].format_options(context, formatter)
    lines = formatter.getvalue().split("Commands:")[0].strip().splitlines()[1:]
    assert [line for line in lines if not line.startswith("  -")] == []


@pytest.mark.parametrize("words", [(), ("cache",)], ids=["hseval", "cache"])
def test_a_command_group_alone_prints_its_usage(hseval: Run, words: tuple[str, ...]) -> None:
    done = hseval(*words)
    assert done.status == 2
    assert done.out == ""
    assert done.err.startswith("Usage: hseval")


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("hseval trai", {"train", "train-ldm"}),
        ("hseval score s.h5 --metrics fid,spectral", {"fid,spectral-angle", "fid,spectral-kl"}),
        ("hseval score s.h5 --extractor scat", {"scattering"}),
        ("hseval sample ph", {"phantom"}),
        ("hseval plugins me", {"membership", "metric"}),
        ("hseval score sam", {"sam"}),  # the shell completes the name of the file
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_plugins_and_files(shell: str, typed: str, expected: set[str]) -> None:
    words = typed.split()
    variables = {"COMP_WORDS": typed, "COMP_CWORD": words[-1] if shell == "fish" else str(len(words) - 1)}
    done = run_hseval_process(env={**os.environ, "_HSEVAL_COMPLETE": f"{shell}_complete", **variables})
    lines = done.stdout.splitlines()
    values = {
        "bash": [line.partition(",")[2] for line in lines],
        "zsh": lines[1::3],
        "fish": [line.partition(",")[2].partition("\t")[0] for line in lines],
    }[shell]
    assert set(values) - {"_"} == expected, done.stdout + done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_is_printed(shell: str) -> None:
    done = run_hseval_process(env={**os.environ, "_HSEVAL_COMPLETE": f"{shell}_source"})
    assert "_hseval_completion" in done.stdout


def test_a_plugin_is_shown_with_its_options(hseval: Run) -> None:
    lines = hseval("plugins", "pca").out.splitlines()
    assert lines[0].startswith("generator pca (hseval-pca ")
    assert "    variance=0.99 (float): share of the variance to retain, above 0 and up to 1" in lines
    assert not any(line.startswith("    ") for line in hseval("plugins").out.splitlines())


@pytest.mark.parametrize("kind", ["segmenter", "segmenters"])
def test_a_kind_of_plugins_is_listed(hseval: Run, kind: str) -> None:
    entries: dict[str, Any] = json.loads(hseval("plugins", kind, "--json").out)
    assert {entry["name"] for entry in entries["plugins"]} == {"pixels", "unet"}
    assert {line.split()[0] for line in hseval("plugins", kind).out.splitlines()} == {"segmenter"}


@pytest.mark.parametrize(
    ("word", "message"),
    [("fidd", "did you mean 'fid'?"), ("metrik", "did you mean 'metric'?"), ("?", "choices: command")],
)
def test_an_unknown_plugin_is_refused_with_the_nearest_choice(hseval: Run, word: str, message: str) -> None:
    done = hseval("plugins", word)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"hseval: no plugin or kind is called {word!r} ({message}")
