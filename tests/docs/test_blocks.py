"""Every command and code block of the pages is run as it stands there, or says why it is not."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from tests.helpers.doc_blocks import COMMAND, ROOT, RUN, Block, blocks, commands, pages, prints
from tests.helpers.doc_run import Reader, prepare

PAGES = {str(page.relative_to(ROOT)): list(blocks(page)) for page in pages()}
RUNNABLE = [name for name, found in PAGES.items() if any(b.language in RUN and "not run" not in b.marks for b in found)]
SLOW = [name for name in RUNNABLE if any({"slow", "quick"} & {*block.marks} for block in PAGES[name])]


def read(name: str, reader: Reader, *, slow: bool) -> None:
    reader.slow, reader.exact = slow, slow or not any("quick" in block.marks for block in PAGES[name])
    for block in PAGES[name]:
        if block.language in RUN and "not run" not in block.marks and (slow or "slow" not in block.marks):
            reader.read(block)


@pytest.fixture
def reader(tmp_path: Path, hseval: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    folder = tmp_path / "folder"
    folder.mkdir()
    prepare(folder)
    found = Reader(folder, hseval, monkeypatch)
    yield found
    found.leave()


@pytest.mark.parametrize("name", RUNNABLE)
def test_what_the_page_says_runs(name: str, reader: Reader) -> None:
    read(name, reader, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_what_takes_longer_runs_too(name: str, reader: Reader) -> None:
    read(name, reader, slow=True)


@pytest.mark.parametrize("name", PAGES)
def test_every_block_says_what_it_is(name: str) -> None:
    for block in PAGES[name]:
        assert block.language in (*RUN, "text"), f"{block}: {block.language or 'no language'}"
        if block.language == "text" and "not run" not in block.marks:
            assert not [line for line in block.text.splitlines() if COMMAND.match(line)], f"{block}: a command in text"


def unknown_options(words: list[str]) -> list[str]:
    """Return the options that a command of hseval does not have, or the command's name if there is no such command."""
    from hseval.cli.main import cli
    from hseval.core.plugin_manager import get_plugins

    get_plugins().add_commands(cli)
    command: click.Command = cli
    rest = words[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        name = rest.pop(0).rstrip(",;.:")
        if name not in command.commands:
            return [] if name in ("COMMAND", "...") else [name]
        command = command.commands[name]
    known = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    typed = [re.match(r"\[?(--[a-z-]+)", word) for word in rest]
    return [found[1] for found in typed if found and found[1] not in known | {"--help", "--version"}]


def not_run(name: str) -> Iterator[tuple[str, str]]:
    """Yield the commands of hseval that a page names and the tests do not run: in blocks, and within sentences."""
    for block in PAGES[name]:
        if block.language in ("sh", "console") and "not run" in block.marks:
            yield from ((str(block), line) for line, _ in commands(block) if line.startswith("hseval "))
    text = re.sub(r"^ *```.*?^ *```", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    yield from ((name, " ".join(line.split())) for line in re.findall(r"`(hseval [a-z][^`]*)`", text))


@pytest.mark.parametrize("name", PAGES)
def test_what_is_not_run_names_commands_and_options_that_exist(name: str) -> None:
    for where, line in not_run(name):
        assert unknown_options(line.split("#")[0].split()) == [], f"{where}: {line}"


def test_a_wrong_option_would_be_found() -> None:
    assert unknown_options(shlex.split("hseval score a.h5 --reference b.h5")) == ["--reference"]
    assert unknown_options(shlex.split("hseval scores a.h5")) == ["scores"]


def test_a_line_that_is_not_printed_would_be_found() -> None:
    assert prints("a 1.00\n...\nc 3", "a 1.001\nb 2\nc 3\n") == []
    assert prints("a 1.1", "a 1.2\n") == ["a 1.1"]
    assert prints("a\nc", "a\nb\nc\n") == ["c"]


def test_a_failing_block_fails(tmp_path: Path, reader: Reader) -> None:
    def block(language: str, text: str, **marks: str) -> Block:
        return Block(ROOT / "README.md", 1, language, None, text, marks)

    for bad in (block("python", "1 / 0"), block("sh", "hseval info missing.h5"), block("toml", "a = ")):
        with pytest.raises((AssertionError, ZeroDivisionError, ValueError)):
            reader.read(bad)
    reader.read(Block(ROOT / "README.md", 1, "sh", None, "hseval info missing.h5", {"exit status": "2"}))
