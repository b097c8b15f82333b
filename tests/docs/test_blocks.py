"""Every command and code block of the pages is run unchanged, or a comment gives the reason."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from tests.helpers.doc_blocks import (
    COMMAND,
    ROOT,
    RUN,
    Block,
    find_missing_lines,
    find_pages,
    read_blocks,
    read_commands,
)
from tests.helpers.doc_run import Reader, prepare_folder

PAGES = {str(page.relative_to(ROOT)): list(read_blocks(page)) for page in find_pages()}
RUNNABLE = [name for name, page in PAGES.items() if any(b.language in RUN and "not run" not in b.marks for b in page)]
SLOW = [name for name in RUNNABLE if any({"slow", "quick"} & {*block.marks} for block in PAGES[name])]


def run_page(name: str, reader: Reader, *, slow: bool) -> None:
    reader.slow, reader.exact = slow, slow or not any("quick" in block.marks for block in PAGES[name])
    for block in PAGES[name]:
        if block.language in RUN and "not run" not in block.marks and (slow or "slow" not in block.marks):
            reader.run_block(block)


@pytest.fixture
def reader(tmp_path: Path, hseval: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    folder = tmp_path / "folder"
    folder.mkdir()
    prepare_folder(folder)
    reader = Reader(folder, hseval, monkeypatch)
    yield reader
    reader.clean_up()


@pytest.mark.parametrize("name", RUNNABLE)
def test_the_blocks_of_the_page_run(name: str, reader: Reader) -> None:
    run_page(name, reader, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_the_slow_blocks_of_the_page_run(name: str, reader: Reader) -> None:
    run_page(name, reader, slow=True)


@pytest.mark.parametrize("name", PAGES)
def test_every_block_has_a_known_language(name: str) -> None:
    for block in PAGES[name]:
        assert block.language in (*RUN, "text"), f"{block}: {block.language or 'no language'}"
        if block.language == "text" and "not run" not in block.marks:
            assert not [line for line in block.text.splitlines() if COMMAND.match(line)], f"{block}: command in text"


def find_unknown_options(words: list[str]) -> list[str]:
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
    flags = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    matches = [re.match(r"\[?(--[a-z-]+)", word) for word in rest]
    return [match[1] for match in matches if match and match[1] not in flags | {"--help", "--version"}]


def list_commands_not_run(name: str) -> Iterator[tuple[str, str]]:
    """Yield the place and text of commands of hseval that the tests do not run: in blocks and within sentences."""
    for block in PAGES[name]:
        if block.language in ("sh", "console") and "not run" in block.marks:
            yield from ((str(block), line) for line, _ in read_commands(block) if line.startswith("hseval "))
    text = re.sub(r"^ *```.*?^ *```", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    yield from ((name, " ".join(line.split())) for line in re.findall(r"`(hseval [a-z][^`]*)`", text))


@pytest.mark.parametrize("name", PAGES)
def test_commands_that_are_not_run_exist_with_their_options(name: str) -> None:
    for location, line in list_commands_not_run(name):
        assert find_unknown_options(line.split("#")[0].split()) == [], f"{location}: {line}"


def test_a_wrong_option_is_found() -> None:
    assert find_unknown_options(shlex.split("hseval score a.h5 --reference b.h5")) == ["--reference"]
    assert find_unknown_options(shlex.split("hseval scores a.h5")) == ["scores"]


def test_a_recorded_line_that_is_not_printed_is_found() -> None:
    assert find_missing_lines("a 1.00\n...\nc 3", "a 1.001\nb 2\nc 3\n") == []
    assert find_missing_lines("a 1.1", "a 1.2\n") == ["a 1.1"]
    assert find_missing_lines("a\nc", "a\nb\nc\n") == ["c"]


def test_a_failing_block_fails(tmp_path: Path, reader: Reader) -> None:
    def make_block(language: str, text: str, **marks: str) -> Block:
        return Block(ROOT / "README.md", 1, language, None, text, marks)

    for bad in (make_block("python", "1 / 0"), make_block("sh", "hseval info missing.h5"), make_block("toml", "a = ")):
        with pytest.raises((AssertionError, ZeroDivisionError, ValueError)):
            reader.run_block(bad)
    reader.run_block(Block(ROOT / "README.md", 1, "sh", None, "hseval info missing.h5", {"exit status": "2"}))
